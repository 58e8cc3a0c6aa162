"""One virtual environment: created, filled from hash-locked lists, emptied of everything else.

Every file pip installs has its hash in a lock. torch must be the CPU build: the lists name no package index, so
where it comes from is the business of the machine's own pip settings, and what came is checked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bootstrap.commands import run
from tools.bootstrap.narration import SetupFailure, step

_KEPT = frozenset({"pip"})
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ \\]+)", re.MULTILINE)
_CPU_BUILD = (
    "Put the CPU wheel of torch 2.13.0 (torch-2.13.0+cpu-…whl, from the PyTorch project) into a folder, "
    "run `export PIP_FIND_LINKS=<that folder>` and try again."
)


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment at `folder`."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def log(self) -> Path:
        """Everything pip and the compiler said."""
        return self.folder / "setup.log"

    @property
    def site_packages(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def create(self) -> None:
        """Create it, or do nothing when its interpreter starts."""
        if self._starts():
            return
        with step(f"creating {self.folder.name}"):
            # The log cannot lie in a folder that does not exist yet.
            outcome = subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(self.folder)],
                capture_output=True,
                text=True,
                check=False,
            )
        if outcome.returncode != 0:
            raise SetupFailure(f"{self.folder} could not be created: {(outcome.stderr or outcome.stdout).strip()}")

    def install_locked(self, locks: Sequence[Path]) -> None:
        """Install exactly what the locks list. Raises SetupFailure: network, disk, or a hash that differs."""
        names = ", ".join(lock.name for lock in locks)
        with step(f"installing {names}"):
            self.pip(
                "install",
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                *(word for lock in locks for word in ("--requirement", str(lock))),
                failure=f"pip could not install {names}",
                hint=_CPU_BUILD if any("torch" in locked_versions(lock) for lock in locks) else "",
            )

    def remove_others(self, expected: Iterable[str]) -> None:
        """Uninstall every distribution that is not in `expected` (names, any spelling)."""
        wanted = {normalised(name) for name in expected} | _KEPT
        extra = sorted(self.installed().keys() - wanted)
        if extra:
            with step(f"removing what no lock lists: {', '.join(extra)}"):
                self.pip("uninstall", "-y", *extra, failure="pip could not uninstall")

    def installed(self) -> dict[str, str]:
        """Return name -> version of every distribution in it."""
        listing = subprocess.run(
            [str(self.python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
            capture_output=True,
            text=True,
            check=False,
        )
        if listing.returncode != 0:
            raise SetupFailure(f"pip list failed: {listing.stderr.strip()}")
        return {normalised(row["name"]): row["version"] for row in json.loads(listing.stdout)}

    def require_cpu_torch(self) -> None:
        """Raise SetupFailure unless the installed torch was built without CUDA."""
        text = (self.site_packages / "torch" / "version.py").read_text()
        if not re.search(r"^cuda\b[^=\n]*= None$", text, re.MULTILINE):
            raise SetupFailure("pip chose a CUDA build of torch, which needs packages we do not want.", hint=_CPU_BUILD)

    def pip(self, *words: str, failure: str, hint: str = "", environment: Mapping[str, str] | None = None) -> None:
        """Run this environment's pip."""
        quiet = ("--disable-pip-version-check", "--no-input", "--no-color")
        run(
            [self.python, "-m", "pip", *quiet, *words],
            log=self.log,
            failure=failure,
            hint=hint,
            environment=environment,
        )

    def _starts(self) -> bool:
        if not self.python.exists():
            return False
        version = subprocess.run(
            [str(self.python), "-c", "import sys, pip; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        return version.stdout.split() == [str(part) for part in sys.version_info[:2]]


def locked_versions(lock: Path) -> dict[str, str]:
    """Return normalised name -> version of every entry of a lock file."""
    return {normalised(name): version for name, version in _PINNED.findall(lock.read_text())}


def normalised(name: str) -> str:
    """Spell a distribution's name the one way (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
