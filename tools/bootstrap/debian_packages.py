"""Packages of the operating system that building or testing needs, installed with apt-get where that is possible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.bootstrap.commands import run
from tools.bootstrap.narration import step


def may_install() -> bool:
    """Whether this is root on a Debian system."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], log: Path) -> None:
    """Install packages; SetupFailure when apt-get cannot."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    names = ", ".join(packages)
    with step(f"installing {names} with apt-get"):
        run(["apt-get", "update"], log=log, failure="apt-get update failed", environment=quiet)
        words = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        run(words, log=log, failure=f"apt-get could not install {names}", environment=quiet)
