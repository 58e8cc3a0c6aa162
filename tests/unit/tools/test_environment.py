"""Lock files are read as pip reads them, failures are told in one line, and stamps follow their inputs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from tools.bootstrap.commands import last_error, run
from tools.bootstrap.environment import Environment, locked_versions
from tools.bootstrap.llama_cpp import Build, read_source
from tools.bootstrap.narration import SetupFailure
from tools.bootstrap.stamp import Stamp, digest_of

_SHA = "a" * 64


def test_locked_versions_normalises_names(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(f"# note\nJinja_2.x==1.0 \\\n    --hash=sha256:{_SHA}\n    # via other==2\ntorch==2.13.0+cpu \\\n")
    assert locked_versions(lock) == {"jinja-2-x": "1.0", "torch": "2.13.0+cpu"}


def test_source_needs_version_and_hash(tmp_path: Path) -> None:
    lock = tmp_path / "llama-cpp-python.lock"
    lock.write_text(f"# note\nllama-cpp-python==0.3.36 \\\n    --hash=sha256:{_SHA}\n")
    assert read_source(lock).version == "0.3.36"
    assert read_source(lock).sha256 == _SHA
    lock.write_text("llama-cpp-python==0.3.36\n")
    with pytest.raises(SetupFailure, match="sha256"):
        read_source(lock)


def test_every_input_of_a_build_is_in_its_key() -> None:
    build = Build(sdist="s", processor="p", compiler="c", options=("o",))
    others = [
        dataclasses.replace(build, sdist="S"),
        dataclasses.replace(build, processor="P"),
        dataclasses.replace(build, compiler="C"),
        dataclasses.replace(build, options=("o", "x")),
    ]
    assert len({build.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("$ pip\nCollecting x\nERROR: No matching distribution found for torch\n", "No matching distribution"),
        ("$ c++\nfile.c:1: error: expected ';'\nmake: stop\n", "expected ';'"),
        ("$ true\n", "it said nothing."),
    ],
)
def test_last_error_picks_the_line_that_says_why(output: str, line: str) -> None:
    assert line in last_error(output)


def test_failing_program_is_one_line_with_the_place_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    program = "import sys; print('noise'); sys.exit('ERROR: disk is full')"
    with pytest.raises(SetupFailure) as caught:
        run([sys.executable, "-c", program], log=log, failure="copying failed", hint="Free some space.")
    assert str(caught.value) == f"copying failed: disk is full. Free some space. Everything it said is in {log}."
    assert "noise" in log.read_text()


@pytest.mark.parametrize(("line", "good"), [("cuda: Optional[str] = None", True), ("cuda = '13.0'", False)])
def test_only_the_cpu_build_of_torch_is_accepted(tmp_path: Path, line: str, good: bool) -> None:
    environment = Environment(tmp_path)
    version = environment.site_packages / "torch" / "version.py"
    version.parent.mkdir(parents=True)
    version.write_text(f"__version__ = '2'\n{line}\nhip: Optional[str] = None\n")
    if good:
        environment.require_cpu_torch()
    else:
        with pytest.raises(SetupFailure, match="PIP_FIND_LINKS"):
            environment.require_cpu_torch()


def test_stamp_follows_content_facts_and_missing_files(tmp_path: Path) -> None:
    lock, stamp = tmp_path / "a.lock", Stamp(tmp_path / "stamp")
    missing = digest_of([lock], "fact")
    lock.write_text("one")
    first = digest_of([lock], "fact")
    assert len({missing, first, digest_of([lock], "other")}) == 3
    assert not stamp.matches(first)
    stamp.write(first)
    assert stamp.matches(first)
    lock.write_text("two")
    assert not stamp.matches(digest_of([lock], "fact"))
    stamp.remove()
    assert not stamp.matches(first)
