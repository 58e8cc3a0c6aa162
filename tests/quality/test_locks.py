"""The locks cover what pyproject.toml asks for, and every entry has a hash."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.quality.sources import ROOT
from tools.bootstrap.environment import locked_versions, normalised
from tools.bootstrap.llama_cpp import read_source

_REQUIREMENTS = ROOT / "requirements"
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_REMEDY = "Run: make lock"


def _asked(entries: list[str]) -> dict[str, str]:
    """Return normalised name -> exact version ("" where any will do)."""
    asked = {}
    for entry in entries:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(?:==([^ ;]+))?.*", entry)
        assert found is not None, entry
        asked[normalised(found[1])] = found[2] or ""
    return asked


@pytest.mark.parametrize(
    ("lock", "entries"),
    [
        ("base", [entry for entry in _PROJECT["dependencies"] if not entry.startswith("llama-cpp-python")]),
        ("installer", _PROJECT["optional-dependencies"]["installer"]),
        ("dev", _PROJECT["optional-dependencies"]["dev"]),
        ("bench", _PROJECT["optional-dependencies"]["bench"]),
        ("litellm", _PROJECT["optional-dependencies"]["litellm"]),
    ],
)
def test_lock_covers_pyproject(lock: str, entries: list[str]) -> None:
    locked = locked_versions(_REQUIREMENTS / f"{lock}.lock")
    wrong = [
        name
        for name, version in _asked(entries).items()
        if name not in locked or (version and locked[name].partition("+")[0] != version)
    ]
    assert not wrong, f"requirements/{lock}.lock does not fit pyproject.toml: {wrong}. {_REMEDY}"


def test_llama_cpp_is_locked_to_the_version_asked_for() -> None:
    asked = _asked(_PROJECT["dependencies"])["llama-cpp-python"]
    assert read_source(_REQUIREMENTS / "llama-cpp-python.lock").version == asked, _REMEDY


def test_locks_agree_on_common_packages() -> None:
    base = locked_versions(_REQUIREMENTS / "base.lock")
    for other in ("installer", "dev", "bench"):
        locked = locked_versions(_REQUIREMENTS / f"{other}.lock")
        apart = {name: (base[name], locked[name]) for name in base.keys() & locked.keys() if base[name] != locked[name]}
        assert not apart, f"{other}.lock and base.lock differ: {apart}. {_REMEDY}"


@pytest.mark.parametrize("lock", sorted(path.name for path in _REQUIREMENTS.glob("*.lock")))
def test_every_entry_has_a_hash_and_no_entry_is_foreign(lock: str) -> None:
    text = (_REQUIREMENTS / lock).read_text()
    assert "://" not in text, f"{lock} names a place to download from. {_REMEDY}"
    entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    bare = [entry.split()[0] for entry in entries if entry.strip() and "--hash=sha256:" not in entry]
    assert not bare, f"{lock}: no hash for {bare}. {_REMEDY}"
    banned = {"installer", "poetry"} & locked_versions(_REQUIREMENTS / lock).keys()
    assert not banned, f"{lock} brings {banned}: the import name `installer` is ours"
