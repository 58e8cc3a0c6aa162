"""The sources name no package index and no path of the machine they were written on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.quality.sources import ROOT, texts

# Written in pieces, so that this file does not contain what it looks for.
_INDEXES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]
_MACHINE_PATHS = re.compile(r"(?<![\w.*}/])/(?:root/\w|work/\w|opt/wheels|opt/pypi|tmp/\w|home/(?!<)\w+/)")


def test_no_package_index_is_named() -> None:
    named = [f"{path}: {host}" for path, text in texts() for host in _INDEXES if host in text]
    assert not named, f"Where packages come from is the machine's own setting: {named}"


def test_no_path_of_one_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if _MACHINE_PATHS.search(line) or _names_this_clone(line)
    ]
    assert not found, "Use a path relative to the repository, the state or tmp_path:\n" + "\n".join(found)


def _names_this_clone(line: str) -> bool:
    return len(ROOT.parts) > 2 and str(ROOT) in line and Path(str(ROOT)).is_absolute()
