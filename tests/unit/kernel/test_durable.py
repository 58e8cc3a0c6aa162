from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.kernel.durable import publish_directory, write_file


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_reader_sees_the_old_or_the_new_content_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {bytes([letter]) * (256 << 10) for letter in b"ab"}
    write_file(path, b"a" * (256 << 10))
    seen: set[bytes] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for content in contents:
            write_file(path, content)
    over.set()
    reader.join()
    assert seen <= contents
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
def test_the_mode_is_the_one_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o022)
    try:
        write_file(tmp_path / "file", b"x", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import pathlib, resource, sys; from appliance.kernel.durable import write_file;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}));"
        "write_file(pathlib.Path(sys.argv[1]), b'x' * 1000)"
    )
    finished = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in finished.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file"}


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "file").symlink_to("target")
    write_file(tmp_path / "file", b"new")
    assert ((tmp_path / "target").read_bytes(), (tmp_path / "file").is_symlink()) == (b"kept", False)


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    (tmp_path / "new" / "inner").mkdir(parents=True)
    (tmp_path / "new" / "inner" / "file").write_bytes(b"x")
    publish_directory(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "inner" / "file").read_bytes() == b"x"
    assert names(tmp_path) == {"final"}
