"""A cache entry is made once, is whole or absent, and is shared by makers that run at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tools.bootstrap.cache import cache_directory, entry
from tools.bootstrap.narration import SetupFailure


def test_entry_is_made_once_by_makers_at_the_same_time(tmp_path: Path) -> None:
    made: list[int] = []
    everyone = threading.Barrier(4)

    def make(folder: Path) -> None:
        made.append(1)
        (folder / "content").write_text("whole")

    def ask() -> None:
        everyone.wait()
        assert (entry(tmp_path, "kind/one", make) / "content").read_text() == "whole"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_failed_maker_leaves_nothing_and_the_next_may_try(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise SetupFailure("no")

    with pytest.raises(SetupFailure):
        entry(tmp_path, "kind/one", fail)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [".one.lock"]
    assert entry(tmp_path, "kind/one", lambda folder: None).is_dir()


def test_cache_that_cannot_be_made_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SetupFailure, match="XDG_CACHE_HOME"):
        cache_directory()
