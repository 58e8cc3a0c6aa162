"""`make lock`: resolve every dependency and write requirements/*.lock with the hashes of all files.

Uses pip-compile for the resolution. The locks name no package index: where files come from is the business of the
machine that installs them. torch must be resolved as its CPU build, so pip has to find such a wheel (PIP_FIND_LINKS).
The lock accepts no other: a hash of the index's own build beside it would make pip prefer that one, CUDA and all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tools.bootstrap.narration import SetupFailure, say, step

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LLAMA = "llama-cpp-python"
_BUILD_TOOLS = ["scikit-build-core[pyproject]", "cmake", "ninja"]
_ALONE = ("litellm", "llamaindex", "hardening", "plot")
"""Lists that keep to nobody's versions, each for an environment of its own."""
_HEADER = "# Written by `make lock` from pyproject.toml. Do not edit.\n"


def main() -> int:
    """Write the locks. Exit status: 0 written, 1 not resolved (one line says why)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    try:
        write_locks(project)
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    return 0


def write_locks(project: dict[str, Any]) -> None:
    """Resolve base first; the other lists keep to its versions."""
    listed: list[str] = project["project"]["dependencies"]
    (pinned,) = (entry for entry in listed if entry.startswith(LLAMA))
    base = [entry for entry in listed if entry != pinned]
    with step(f"reading {pinned}"):
        sdist = _pip_report(["--no-binary", LLAMA, pinned])["install"][0]
    # What llama-cpp-python itself needs; its own wheel is made by set-up.
    base += [need for need in sdist["metadata"]["requires_dist"] if "extra ==" not in need]
    bench: list[str] = project["project"]["optional-dependencies"]["bench"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _resolve(folder, "base", [*base, *project["build-system"]["requires"]])
        extras = project["project"]["optional-dependencies"]
        _resolve(folder, "installer", extras["installer"], constraints=("base",))
        _resolve(folder, "dev", extras["dev"], constraints=("base", "installer"))
        _resolve(folder, "build", _BUILD_TOOLS)
        _resolve(folder, "bench", bench, constraints=("base",))
        for alone in _ALONE:
            _resolve(folder, alone, extras[alone])
        for lock in ("base", "installer", "dev", "build", "bench", *_ALONE):
            content = (folder / f"{lock}.lock").read_text()
            if "torch==" in content and not re.search(r"^torch==[0-9.]+\+cpu ", content, re.MULTILINE):
                raise SetupFailure(
                    f"{lock}: torch was not resolved as a CPU build.",
                    hint="Let pip find the CPU wheel of torch: export PIP_FIND_LINKS=<folder with it>.",
                )
            (REQUIREMENTS / f"{lock}.lock").write_text(_HEADER + content.partition("\n# WARNING")[0].rstrip() + "\n")
    _lock_sdist(pinned, sdist)


def _resolve(folder: Path, name: str, requirements: list[str], *, constraints: tuple[str, ...] = ()) -> None:
    (folder / f"{name}.in").write_text("\n".join(requirements) + "\n")
    argv = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--no-header"]
    argv += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"]
    argv += ["--annotation-style=line", "--strip-extras", "--unsafe-package=pip", f"--output-file={name}.lock"]
    argv += [f"--constraint={constraint}.lock" for constraint in constraints]
    with step(f"resolving {name}"):
        outcome = subprocess.run([*argv, f"{name}.in"], cwd=folder, capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise SetupFailure(f"{name} cannot be resolved: {outcome.stderr.strip().splitlines()[-1]}")


def _lock_sdist(pinned: str, sdist: dict[str, Any]) -> None:
    sha256 = sdist["download_info"]["archive_info"]["hashes"]["sha256"]
    note = "# The sdist. Set-up checks it, builds the wheel for this machine from it and keeps that in the cache.\n"
    (REQUIREMENTS / f"{LLAMA}.lock").write_text(f"{_HEADER}{note}{pinned} \\\n    --hash=sha256:{sha256}\n")


def _pip_report(words: list[str]) -> dict[str, Any]:
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    outcome = subprocess.run([*argv, "--report=-", *words], capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise SetupFailure(f"pip cannot describe {words[-1]}: {outcome.stderr.strip().splitlines()[-1]}")
    report: dict[str, Any] = json.loads(outcome.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
