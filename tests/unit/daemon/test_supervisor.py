from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.daemon import supervisor as watching
from appliance.daemon.marks import find
from appliance.daemon.supervisor import Supervisor, UnitSpec, exited
from appliance.kernel.process import identify

_SERVES = "touch {ready}; exec sleep 600"


def spec(tmp_path: Path, script: str, *, name: str = "gateway", restart: bool = True) -> UnitSpec:
    """A unit that runs a shell script and is ready once the file `NAME.ready` is there."""
    ready = tmp_path / f"{name}.ready"

    async def is_ready() -> bool:
        return ready.exists()

    argv = ("sh", "-c", script.format(ready=ready, root=tmp_path))
    return UnitSpec(name=name, argv=argv, is_ready=is_ready, restart=restart)


def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(root=tmp_path, logs=tmp_path)


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_unit_is_ready_once_it_says_so_and_stops_in_order(tmp_path: Path) -> None:
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, _SERVES))
    assert unit.view().state == "starting"
    await asyncio.wait_for(unit.ready.wait(), 10)
    view = unit.view()
    assert (view.name, view.state, view.restarts) == ("gateway", "ready", 0)
    assert view.pid is not None
    assert view.memory_bytes > 0
    assert units.ensure(spec(tmp_path, "false")) is unit
    await units.stop("gateway", patience=10)
    assert identify(view.pid) is None
    assert units.get("gateway") is None
    assert unit.view().state == "stopped"


async def test_a_killed_unit_comes_back_as_another_process(tmp_path: Path) -> None:
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, _SERVES))
    await asyncio.wait_for(unit.ready.wait(), 10)
    first = unit.view().pid
    assert first is not None
    os.killpg(first, signal.SIGKILL)
    await until(lambda: unit.view().pid not in (None, first))
    await until(unit.ready.is_set)
    assert (unit.view().restarts, unit.exit_status) == (1, -signal.SIGKILL)
    await units.stop_all(patience=10)
    assert find(tmp_path) == ()


async def test_what_keeps_crashing_is_restarted_ever_more_slowly_and_stops_at_once(tmp_path: Path) -> None:
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, "echo >> {root}/starts; exit 3"))
    await until(lambda: unit.restarts == 3)
    starts = (tmp_path / "starts").stat()
    assert starts.st_size == 3
    assert time.time() - starts.st_ctime < 1
    await until(lambda: unit.state == "backing-off")
    assert unit.view().detail == "exit status 3"
    began = time.monotonic()
    await units.stop("gateway", patience=10)
    assert time.monotonic() - began < 0.5
    assert starts.st_size == 3


async def test_what_answers_nothing_any_more_is_named_then_killed_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_CHECK_EVERY", 0.01)
    monkeypatch.setattr(watching, "_MISSED_FATAL", 10_000)
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, _SERVES))
    await asyncio.wait_for(unit.ready.wait(), 10)
    first = unit.view().pid
    (tmp_path / "gateway.ready").unlink()
    await until(lambda: unit.view().state == "unresponsive")
    assert "checks without an answer" in unit.view().detail
    (tmp_path / "gateway.ready").touch()
    await until(lambda: unit.view().state == "ready")
    assert (unit.view().pid, unit.view().detail) == (first, "")
    monkeypatch.setattr(watching, "_MISSED_FATAL", 5)
    (tmp_path / "gateway.ready").unlink()
    await until(lambda: unit.view().pid not in (None, first) and unit.ready.is_set())
    assert (unit.restarts, unit.exit_status) == (1, -signal.SIGKILL)
    await units.stop_all(patience=10)


async def test_a_program_that_cannot_be_started_is_tried_again_and_says_why(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    units = supervisor(tmp_path)
    unit = units.ensure(UnitSpec(name="gateway", argv=("/nowhere/program",), is_ready=never))
    await until(lambda: unit.restarts == 2)
    assert "cannot be started" in unit.view().detail
    began = time.monotonic()
    await units.stop("gateway", patience=10)
    assert time.monotonic() - began < 0.5


async def test_a_unit_that_is_not_restarted_ends(tmp_path: Path) -> None:
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, "exit 0", restart=False))
    await asyncio.wait_for(unit.ended.wait(), 10)
    assert (unit.exit_status, unit.restarts) == (0, 0)
    await units.stop("gateway", patience=1)


async def test_what_ignores_the_signal_is_killed_after_a_while(tmp_path: Path) -> None:
    units = supervisor(tmp_path)
    unit = units.ensure(spec(tmp_path, "trap '' TERM; touch {ready}; while :; do sleep 0.05; done"))
    await asyncio.wait_for(unit.ready.wait(), 10)
    pid = unit.view().pid
    assert pid is not None
    await units.stop("gateway", patience=0.1)
    assert not Path(f"/proc/{pid}").exists(), "dead, and no zombie either"


async def test_another_supervisor_adopts_what_the_first_one_left(tmp_path: Path) -> None:
    """The first supervisor is a process that is killed, as a daemon may be."""
    program = f"""
import asyncio, pathlib, sys
from tests.unit.daemon.test_supervisor import spec, supervisor, _SERVES
async def main():
    units = supervisor(pathlib.Path({str(tmp_path)!r}))
    unit = units.ensure(spec(pathlib.Path({str(tmp_path)!r}), _SERVES))
    await unit.ready.wait()
    print(unit.view().pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    first = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    pid = int(first.stdout.readline())
    first.kill()
    first.communicate()

    units = supervisor(tmp_path)
    assert list(units.adoptable("gate")) == ["gateway"]
    unit = units.ensure(spec(tmp_path, _SERVES))
    await asyncio.wait_for(unit.ready.wait(), 10)
    assert (unit.view().pid, unit.view().restarts) == (pid, 0)
    assert units.adoptable("") == {}
    os.killpg(pid, signal.SIGKILL)
    await until(lambda: unit.view().pid not in (None, pid))
    assert unit.restarts == 1
    await units.stop_all(patience=10)


async def test_the_end_of_a_process_is_noticed_whoever_started_it() -> None:
    process = subprocess.Popen(["sleep", "600"])
    identity = identify(process.pid)
    assert identity is not None
    waiting = asyncio.create_task(exited(identity))
    await asyncio.sleep(0)
    process.kill()
    await asyncio.wait_for(waiting, 10)
    process.wait()
    await asyncio.wait_for(exited(identity), 1)


@pytest.mark.parametrize("name", ["gateway", "job-1"])
async def test_a_claimed_process_is_nobody_elses(tmp_path: Path, name: str) -> None:
    units = supervisor(tmp_path)
    units.ensure(spec(tmp_path, _SERVES, name=name))
    await until(lambda: find(tmp_path))
    later = supervisor(tmp_path)
    assert later.claim(name) is not None
    assert later.claim(name) is None
    await units.stop_all(patience=10)
