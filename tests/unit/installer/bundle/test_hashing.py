"""Hashing: the right bytes, sizes first, links not followed, and the right count of progress."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.hashing import hash_file, hash_files
from installer.bundle.progress import Amount, Meter


def test_many_files(tmp_path: Path) -> None:
    contents = {f"file{number}": os.urandom(number * 700_000) for number in range(6)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    seen: list[Amount] = []
    found = hash_files(tmp_path, {name: len(data) for name, data in contents.items()}, what="t", report=seen.append)
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    assert (seen[-1].files, seen[-1].size) == (6, sum(map(len, contents.values())))


@pytest.mark.parametrize(("wanted", "code"), [(9, "bundle.altered"), (11, "bundle.truncated")])
def test_size_comes_first(wanted: int, code: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with pytest.raises(IntegrityFailure) as refused:
        hash_file(tmp_path / "file", wanted, shown="file")
    assert refused.value.code == code


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links"):
        hash_file(tmp_path / "link", 1, shown="link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IntegrityFailure) as refused:
        hash_file(tmp_path / "pipe", 0, shown="pipe")
    assert refused.value.code == "bundle.special"


def test_meter_reports_time_left_and_the_end() -> None:
    now = [0.0]
    seen: list[Amount] = []
    meter = Meter("verified", files=2, size=100, report=seen.append, clock=lambda: now[0])
    now[0] = 1.0
    meter.add_bytes(25)
    assert seen[0].seconds_left == pytest.approx(3.0)
    meter.add_bytes(75)  # too soon for another report
    meter.add_file()
    assert len(seen) == 1
    meter.add_file()
    assert (seen[-1].files, seen[-1].size) == (2, 100)
    assert seen[-1].seconds_left == pytest.approx(0.0)
