"""Secrets as files in memory: mode 0600 in a 0700 folder on tmpfs, overwritten and removed when the command ends.

cryptsetup and clevis read keys from files; arguments and environments are readable in /proc, so no secret is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.kernel.errors import BadInput, NotFound, storage_errors
from appliance.kernel.private import read_private, write_private
from installer.secrets import require_memory

_PREFIX = "keys."


class KeyFiles:
    """The key files of one command, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, key: str | bytes) -> Path:
        """Write one key, without the line break that a text file ends with, and return its file."""
        data = key.encode() if isinstance(key, str) else key
        path = self._folder / name
        with storage_errors("writing a key file into memory"):
            write_private(path, without_line_break(data))
        return path


@contextmanager
def key_files(run: Path) -> Iterator[KeyFiles]:
    """Make the folder for one command's keys and remove it afterwards. Raises Conflict when it is not in memory."""
    folder = memory_folder(run) / f"{_PREFIX}{os.getpid()}"
    for left in run.glob(f"{_PREFIX}*"):
        if left == folder or not Path("/proc", left.name.removeprefix(_PREFIX)).exists():
            discard(left)  # of a command that was killed
    with storage_errors("making the folder for keys"):
        folder.mkdir(mode=0o700)
    try:
        yield KeyFiles(folder)
    finally:
        discard(folder)


def memory_folder(run: Path) -> Path:
    """Make `run` (mode 0700) and refuse it when it lies on a disk. Raises Conflict."""
    with storage_errors("making the folder for keys"):
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.chmod(0o700)
        require_memory(run)
    return run


def given_secret(path: Path) -> str:
    """Read a secret that somebody else laid down as a private file. Raises NotFound, Forbidden or BadInput."""
    data = without_line_break(read_private(path))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("storage.secret_encoding", f"The secret in {path} is not UTF-8 text.") from error
    if not text or "\n" in text or "\0" in text:
        raise BadInput("storage.secret_lines", f"The secret in {path} must be exactly one line.")
    return text


def optional_secret(path: Path) -> str | None:
    """Read a secret if it is there."""
    try:
        return given_secret(path)
    except NotFound:
        return None


def without_line_break(data: bytes) -> bytes:
    """Drop one final line break: at the boot prompt nobody types it."""
    return data.removesuffix(b"\n").removesuffix(b"\r")


def discard(path: Path) -> None:
    """Overwrite and remove a key file, or a folder of them; none is no error."""
    with storage_errors("removing a key file"):
        if path.is_dir():
            for each in path.iterdir():
                _overwrite(each)
            shutil.rmtree(path)
        elif path.exists():
            _overwrite(path)
            path.unlink()


def _overwrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.write(b"\0" * size)
