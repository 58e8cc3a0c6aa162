"""A source archive may hold plain files below one folder, and nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tools.bootstrap.narration import SetupFailure
from tools.bootstrap.source_archive import unpack


def _archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "source.tar.gz"
    with tarfile.open(path, "w:gz") as stream:
        for info, data in members:
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return path


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def test_top_folder_is_dropped_and_unwanted_files_are_skipped(tmp_path: Path) -> None:
    program = tarfile.TarInfo("pkg-1.0/bin/tool")
    program.mode = 0o755
    archive = _archive(tmp_path, (program, b"run"), (tarfile.TarInfo("pkg-1.0/docs/big"), b"x"))
    unpack(archive, tmp_path / "out", wanted=lambda name: not name.startswith("docs/"))
    assert (tmp_path / "out/bin/tool").read_bytes() == b"run"
    assert (tmp_path / "out/bin/tool").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "out/docs").exists()


@pytest.mark.parametrize(
    "member",
    [
        (tarfile.TarInfo("pkg/../../evil"), b"x"),
        (tarfile.TarInfo("/etc/evil"), b"x"),
        (tarfile.TarInfo("flat"), b"x"),
        _link("pkg/link", "../../evil"),
    ],
    ids=["parent", "absolute", "no folder", "link"],
)
def test_anything_else_is_refused(tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]) -> None:
    archive = _archive(tmp_path, member)
    with pytest.raises(SetupFailure, match="not a plain file"):
        unpack(archive, tmp_path / "out", wanted=lambda _: True)
    assert not (tmp_path / "evil").exists()
