"""The one window through which checks look at the box: programs, files, and nothing that changes anything.

Each program runs once in a collection and its answer is kept, so that 180 checks cost about forty processes. Mount
points are read from init's own table: a sandboxed unit sees its own.
"""

from __future__ import annotations

import glob
import grp
import pwd
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from appliance.kernel import process
from appliance.kernel.errors import IntramurosError
from appliance.kernel.process import Outcome

_TIMEOUT = 120.0
_READ_LIMIT = 4 << 20
_PIECE = 16 << 10


class CannotTell(Exception):
    """The value could not be read: neither a pass nor a fail."""


class DoesNotApply(Exception):
    """The control says nothing on this machine, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the file system says of a name."""

    mode: int
    owner: str
    group: str
    is_link: bool = False
    is_directory: bool = False


class Machine(Protocol):
    """What checks may ask."""

    def run(self, *argv: str) -> Outcome:
        """Run a program that only looks. Raises CannotTell."""

    def read(self, path: str) -> str | None:
        """Return a text file's content, None when it does not exist. Raises CannotTell."""

    def facts(self, path: str) -> FileFacts | None:
        """Return a file's facts, links followed; None when it does not exist. Raises CannotTell."""

    def find(self, pattern: str) -> tuple[str, ...]:
        """Return the names that match a shell pattern, sorted."""


@dataclass(slots=True)
class ThisMachine:
    """The machine that this runs on."""

    _answers: dict[tuple[str, ...], Outcome] = field(default_factory=dict)

    def run(self, *argv: str) -> Outcome:
        if argv not in self._answers:
            program = shutil.which(argv[0], path=_ENGLISH["PATH"])
            if program is None:
                raise CannotTell(f"the program {argv[0]} is not installed")
            try:
                self._answers[argv] = process.run([program, *argv[1:]], timeout=_TIMEOUT, extra_environment=_ENGLISH)
            except (IntramurosError, OSError) as error:
                raise CannotTell(f"{argv[0]}: {error}") from error
        return self._answers[argv]

    def read(self, path: str) -> str | None:
        try:
            with Path(path).open("rb", buffering=0) as stream:
                return b"".join(_pieces(stream)).decode(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CannotTell(f"{path}: {error.strerror}") from error

    def facts(self, path: str) -> FileFacts | None:
        try:
            status = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CannotTell(f"{path}: {error.strerror}") from error
        return FileFacts(
            mode=stat.S_IMODE(status.st_mode),
            owner=_user(status.st_uid),
            group=_group(status.st_gid),
            is_link=Path(path).is_symlink(),
            is_directory=stat.S_ISDIR(status.st_mode),
        )

    def find(self, pattern: str) -> tuple[str, ...]:
        return tuple(sorted(glob.glob(pattern, include_hidden=True)))  # noqa: PTH207  absolute shell patterns


# Root's own programs are not on every PATH, and translated messages cannot be parsed.
_ENGLISH = {
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "cat",
}


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Read in small pieces: /proc/sys allocates as much kernel memory as it is asked for, and refuses megabytes."""
    left = _READ_LIMIT
    while left > 0 and (piece := stream.read(min(_PIECE, left))):
        left -= len(piece)
        yield piece


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
