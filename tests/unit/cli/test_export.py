"""An exported folder is whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.api import types as t
from appliance.cli.export import require_new, write_export
from appliance.kernel.canonical import sha256_hex
from appliance.kernel.errors import BadInput, IntegrityFailure, StorageFailure
from appliance.kernel.paths import StatePaths


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path / "state")


def stored(paths: StatePaths, data: bytes, *, path: str, kept: bytes | None = None) -> t.ExportFile:
    digest = sha256_hex(data)
    place = paths.blob(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data if kept is None else kept)
    return t.ExportFile(path=path, digest=digest, size=len(data))


def plan(*files: t.ExportFile) -> t.ExportPlan:
    return t.ExportPlan(model="a@1", layout="huggingface", files=files)


@pytest.mark.parametrize("empty_there", [False, True])
def test_files_and_texts_are_written(paths: StatePaths, tmp_path: Path, empty_there: bool) -> None:
    target = tmp_path / "out" / "model"
    if empty_there:
        target.mkdir(parents=True)
    files = plan(stored(paths, b"weights", path="model/w.bin"), t.ExportFile(path="README.md", text="# Größe"))
    assert write_export(files, paths, target) == 7 + len("# Größe".encode())
    assert (target / "model" / "w.bin").read_bytes() == b"weights"
    assert (target / "README.md").read_text() == "# Größe"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("fault", ["corrupt", "gone", "outside"])
def test_nothing_half_written_stays(paths: StatePaths, tmp_path: Path, fault: str) -> None:
    good = stored(paths, b"good", path="a")
    bad = {
        "corrupt": stored(paths, b"bad", path="b", kept=b"???"),
        "gone": t.ExportFile(path="b", digest="0" * 64, size=1),
        "outside": t.ExportFile(path="../b", text="x"),
    }[fault]
    with pytest.raises((IntegrityFailure, StorageFailure)):
        write_export(plan(good, bad), paths, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(BadInput, match=r"export\.not_empty"):
            require_new(tmp_path / name)
    require_new(tmp_path / "new")
