"""Remembers what an environment was made from, so that an unchanged clone costs nothing.

The stamp is written last and removed first: an interrupted set-up is never taken for a finished one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stamp:
    """The stamp of one environment: a file with a digest of its inputs."""

    file: Path

    def matches(self, digest: str) -> bool:
        """Tell whether the environment was made from just these inputs."""
        return self.file.is_file() and self.file.read_text().strip() == digest

    def write(self, digest: str) -> None:
        self.file.write_text(digest + "\n")

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


def digest_of(files: Iterable[Path], *facts: str) -> str:
    """Return a digest of the interpreter, the facts, and the names and content of the files that exist."""
    digest = hashlib.sha256()
    for fact in (sys.version, sys.base_prefix, *facts):
        digest.update(fact.encode() + b"\0")
    for file in sorted(files):
        digest.update(str(file).encode() + b"\0")
        digest.update(file.read_bytes() if file.is_file() else b"absent")
        digest.update(b"\0")
    return digest.hexdigest()
