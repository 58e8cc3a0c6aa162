"""Wheels: those that the locks name, fetched by hash, and our own, built from this source tree.

pip does the fetching with this machine's own settings; no address of an index is known here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from appliance.kernel.canonical import sha256_file
from appliance.kernel.errors import IntegrityFailure, Unavailable
from appliance.kernel.process import run

_SECONDS = 3600.0
_SOURCES = ("appliance", "installer", "tui", "pyproject.toml", "README.md", "LICENSE")
_JUNK = ("__pycache__", "*.egg-info", "*.pyc")


def fetch_locked(locks: Sequence[Path], folder: Path) -> None:
    """Download every wheel that the locks name. Raises Unavailable: network, or a hash that differs."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [word for lock in locks for word in ("--requirement", str(lock))]
    _pip(
        ["download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", f"--dest={folder}", *words],
        failure="pip could not fetch the locked wheels",
    )


def build_own(checkout: Path, folder: Path, *, date: datetime) -> Path:
    """Build the product's wheel from a copy of its sources; the same sources and date give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="intramuros-wheel-") as work:
        copy = Path(work) / "source"
        copy.mkdir()
        for name in _SOURCES:
            source = checkout / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns(*_JUNK))
            else:
                shutil.copyfile(source, copy / name)
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        out = Path(work) / "out"
        _pip(
            ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={out}", str(copy)],
            failure="the product's wheel could not be built",
            environment={"SOURCE_DATE_EPOCH": str(int(date.timestamp()))},
        )
        (wheel,) = out.glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(wheel, folder / wheel.name))


def lock_of(wheel: Path) -> str:
    """Return a lock file that names this one wheel."""
    metadata = read_metadata(wheel)
    name = re.sub(r"[-_.]+", "-", str(metadata["Name"])).lower()
    return f"{name}=={metadata['Version']} \\\n    --hash=sha256:{sha256_file(wheel)}\n"


def read_metadata(wheel: Path) -> Message:
    """Return a wheel's metadata. Raises IntegrityFailure when it is no wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            return BytesParser().parsebytes(archive.read(names[0]))
    except (zipfile.BadZipFile, IndexError, OSError) as error:
        raise IntegrityFailure("bundle.wheel", f"{wheel.name} is not a wheel: {error}.") from error


def licence_of(metadata: Message) -> str:
    """Return the licence that a distribution declares, in one line; empty when it declares none."""
    declared = metadata.get("License-Expression") or metadata.get("License") or ""
    if declared and "\n" not in str(declared) and len(str(declared)) <= 100:
        return str(declared)
    classifiers = [str(line) for line in metadata.get_all("Classifier", []) if str(line).startswith("License ::")]
    return "; ".join(line.rpartition(":: ")[2] for line in classifiers)


def _pip(words: Sequence[str], *, failure: str, environment: Mapping[str, str] | None = None) -> None:
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    outcome = run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", *words],
        timeout=_SECONDS,
        extra_environment={**settings, **(environment or {})},
    )
    if outcome.status != 0:
        said = [line for line in outcome.stderr.splitlines() if line.strip()]
        raise Unavailable("bundle.pip", f"{failure}: {' '.join(said[-3:])}")
