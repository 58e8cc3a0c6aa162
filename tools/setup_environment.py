"""`make setup`: from a fresh Debian 12 machine to a working environment, every installed file hash-checked.

Steps: programs of the system, virtual environment, locked packages, llama-cpp-python, converter, the project itself.
A second run with nothing changed does nothing. Needs nothing but Python 3.11's standard library.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.bootstrap import llama_cpp
from tools.bootstrap.box_programs import offer_box_programs
from tools.bootstrap.cache import cache_directory, exclusive
from tools.bootstrap.commands import run
from tools.bootstrap.environment import Environment, locked_versions
from tools.bootstrap.narration import SetupFailure, say, step
from tools.bootstrap.stamp import Stamp, digest_of
from tools.bootstrap.system_programs import require_system_programs

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
_PYTHON = (3, 11)
_PROJECT = "intramuros-appliance"


def main(arguments: list[str]) -> int:
    """Run the steps. Exit status: 0 ready, 1 a step failed (one line says which and what to do)."""
    parser = argparse.ArgumentParser(prog="setup_environment", description=__doc__)
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument("--bench", dest="peer", action="store_const", const="bench", help="TRL's environment instead")
    peer.add_argument("--litellm", dest="peer", action="store_const", const="litellm", help="LiteLLM's instead")
    peer.add_argument(
        "--llamaindex", dest="peer", action="store_const", const="llamaindex", help="LlamaIndex's instead"
    )
    peer.add_argument("--hardening", dest="peer", action="store_const", const="hardening", help="Ansible's instead")
    peer.add_argument("--plot", dest="peer", action="store_const", const="plot", help="Matplotlib's instead")
    chosen = parser.parse_args(arguments)
    try:
        _require_python()
        with exclusive(ROOT, waiting_for="another set-up of this clone"):
            if chosen.peer:
                set_up_peer(Environment(ROOT / f".venv-{chosen.peer}"), REQUIREMENTS / f"{chosen.peer}.lock")
            else:
                set_up(Environment(ROOT / ".venv"))
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        return 130
    except OSError as error:
        say(f"FAILED: {error.strerror} ({error.filename}). Free some space or check the rights, then run it again.")
        return 1
    return 0


def set_up(environment: Environment) -> None:
    """Make `.venv` from the locks, llama-cpp-python, its converter and this project."""
    locks = [REQUIREMENTS / f"{name}.lock" for name in ("base", "installer", "dev")]
    llama_lock = REQUIREMENTS / "llama-cpp-python.lock"
    build_lock = REQUIREMENTS / "build.lock"
    converter = ROOT / "tools" / "install_converter.py"
    inputs = [*locks, llama_lock, build_lock, converter, ROOT / "pyproject.toml", *_own_files()]
    stamp = Stamp(environment.folder / "setup.stamp")
    digest = digest_of(inputs, str(ROOT), llama_cpp.processor_flags())
    if stamp.matches(digest):
        return
    stamp.remove()
    environment.create()
    require_system_programs(environment.log)
    offer_box_programs(environment.log)
    llama = llama_cpp.provide(cache_directory(), llama_cpp.read_source(llama_lock), build_lock)
    environment.install_locked(locks)
    environment.require_cpu_torch()
    expected = {name for lock in (*locks, llama_lock) for name in locked_versions(lock)}
    environment.remove_others({*expected, _PROJECT})
    with step("installing llama-cpp-python, its converter and this project"):
        environment.pip(
            "install",
            "--no-deps",
            "--no-index",
            "--force-reinstall",
            str(llama.wheel),
            failure="pip refused the wheel",
        )
        run(
            [environment.python, converter, llama.converter],
            log=environment.log,
            failure="the converter to GGUF could not be installed",
        )
        environment.pip(
            "install",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--editable",
            str(ROOT),
            failure="this project could not be installed",
        )
    stamp.write(digest)
    say(f"ready: {environment.folder}")


def set_up_peer(environment: Environment, lock: Path) -> None:
    """Make an environment with what is compared with, is a client as it is, or draws."""
    stamp = Stamp(environment.folder / "setup.stamp")
    digest = digest_of([lock, *_own_files()], str(ROOT))
    if stamp.matches(digest):
        return
    stamp.remove()
    environment.create()
    environment.install_locked([lock])
    if "torch" in locked_versions(lock):
        environment.require_cpu_torch()
    environment.remove_others(locked_versions(lock))
    stamp.write(digest)
    say(f"ready: {environment.folder}")


def _own_files() -> list[Path]:
    return [Path(__file__), *sorted((ROOT / "tools" / "bootstrap").glob("*.py"))]


def _require_python() -> None:
    if sys.version_info[:2] != _PYTHON:
        wanted = ".".join(str(part) for part in _PYTHON)
        raise SetupFailure(
            f"Python {wanted} is needed, because the locks are resolved for it; this is {sys.version.split()[0]}.",
            hint=f"Run: make PYTHON=python{wanted} setup",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
