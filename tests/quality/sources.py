"""The files of this repository as the gate sees them: everything that is, or would be, committed."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_LEFT_OUT = frozenset({".git", ".hypothesis", "var", "build", "__pycache__"})


@functools.cache
def repository_files() -> tuple[Path, ...]:
    """Return every file that git tracks or would add; without git, every file that is not a build product."""
    argv = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return tuple(sorted(_walk(ROOT)))
    return tuple(path for name in sorted(set(listing.split("\0")) - {""}) if (path := ROOT / name).is_file())


def texts(*suffixes: str) -> Iterator[tuple[Path, str]]:
    """Yield (path relative to the root, text) of every text file, or of those with one of the suffixes."""
    for path in repository_files():
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def modules(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield (relative path, syntax tree) of every Python file below the packages."""
    for path, text in texts(".py"):
        if path.parts[0] in packages:
            yield path, ast.parse(text, filename=str(path))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.name.startswith(".venv") or path.name.endswith((".egg-info", "_cache")):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
