"""The few programs that come from the operating system: named all at once when missing, installed when root.

cmake and ninja are not among them: the build of llama.cpp takes them from hash-locked wheels.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tools.bootstrap.commands import run
from tools.bootstrap.narration import SetupFailure, step


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _program(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name) is not None for name in names)


_PRESENT: dict[str, Callable[[], bool]] = {
    "python3-venv": _module("ensurepip"),
    "gcc": _program("cc"),
    "g++": _program("c++"),
    "libgomp1": lambda: any(Path("/usr/lib").glob("*/libgomp.so.1")),
    "restic": _program("restic"),
    "cryptsetup-bin": _program("cryptsetup"),
    "gnupg": _program("gpg", "gpgconf"),
    "gpgv": _program("gpgv"),
    "util-linux": _program("unshare"),
}
"""Debian package -> whether what we need of it is there."""


def missing_packages() -> list[str]:
    """Name the Debian packages whose programs are not there."""
    return [package for package, present in _PRESENT.items() if not present()]


def require_system_programs(log: Path) -> None:
    """Install what is missing when root on a Debian system, otherwise name all of it. Raises SetupFailure."""
    missing = missing_packages()
    if not missing:
        return
    command = f"apt-get install -y {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupFailure(f"Missing from the system: {', '.join(missing)}.", hint=f"Run: sudo {command}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {', '.join(missing)} with apt-get"):
        run(["apt-get", "update"], log=log, failure="apt-get update failed", environment=quiet)
        run(
            ["apt-get", "install", "-y", "--no-install-recommends", *missing],
            log=log,
            failure=f"{command} failed",
            environment=quiet,
        )
    if still := missing_packages():
        raise SetupFailure(f"Still missing after apt-get: {', '.join(still)}.", hint=f"See {log}.")
