from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.daemon.marks import find, mark
from appliance.kernel.process import identify

Starter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def run() -> Iterator[Starter]:
    """Start a marked process that sleeps; all of them are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(unit: str, root: Path, *, session: bool = True, program: str = "sleep 600") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["sh", "-c", f"echo; {program}"],
            env={**os.environ, **mark(unit, root)},
            start_new_session=session,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
        process.kill()
        process.wait()


def units(root: Path) -> list[str]:
    return [item.unit for item in find(root)]


def test_a_marked_process_is_found_with_its_identity_oldest_first(tmp_path: Path, run: Starter) -> None:
    first = run("engine-1", tmp_path, program="exec sleep 600")
    second = run("gateway", tmp_path, program="exec sleep 600")
    found = find(tmp_path)
    assert {item.unit for item in found} == {"engine-1", "gateway"}
    assert {item.identity for item in found} == {identify(first.pid), identify(second.pid)}
    assert [item.identity.started for item in found] == sorted(item.identity.started for item in found)


def test_only_this_state_counts(tmp_path: Path, run: Starter) -> None:
    run("gateway", tmp_path / "other", program="exec sleep 600")
    run("gateway", Path(f"{tmp_path}2"), program="exec sleep 600")
    assert units(tmp_path) == []


def test_a_child_that_inherited_the_mark_is_not_the_unit(tmp_path: Path, run: Starter) -> None:
    leader = run("gateway", tmp_path, program="sleep 600 & wait")
    assert [item.identity.pid for item in find(tmp_path)] == [leader.pid]
    os.killpg(leader.pid, signal.SIGKILL)


def test_a_process_of_our_own_session_is_not_a_unit(tmp_path: Path, run: Starter) -> None:
    run("gateway", tmp_path, session=False, program="exec sleep 600")
    assert units(tmp_path) == []


def test_a_zombie_is_not_found(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], env=mark("gateway", tmp_path), start_new_session=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert units(tmp_path) == []
    process.wait()
