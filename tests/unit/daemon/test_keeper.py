from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.daemon.keeper import is_final

Keeper = subprocess.Popen[bytes]
Starter = Callable[[], Keeper]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that every daemon refuses, so that none of them serves."""
    (tmp_path / "intramuros.toml").write_text("colour = 'blue'\n")
    return tmp_path


@pytest.fixture
def start(state: Path) -> Iterator[Starter]:
    started: list[Keeper] = []

    def begin() -> Keeper:
        argv = [sys.executable, "-I", "-m", "appliance.daemon.keeper", "--state", str(state)]
        with (state / "keeper.log").open("wb") as log:
            started.append(subprocess.Popen(argv, stderr=log))
        return started[-1]

    yield begin
    for keeper in started:
        keeper.kill()
        keeper.wait()


def kill_the_daemon(keeper: Keeper) -> None:
    """Kill the keeper's child as soon as there is one, long before it could have read its settings."""
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline, "no daemon was started"
        time.sleep(0.001)
    os.kill(int(found[0]), signal.SIGKILL)
    while found[0] in children.read_text().split():
        time.sleep(0.001)


def test_a_refusal_is_passed_on_and_not_repeated(state: Path, start: Starter) -> None:
    assert start().wait(20) == 2
    refused = json.loads((state / "run" / "refused.json").read_text())
    assert (refused["code"], refused["exit_code"]) == ("settings.invalid", 2)


def test_a_daemon_that_was_killed_is_started_again(state: Path, start: Starter) -> None:
    keeper = start()
    kill_the_daemon(keeper)
    assert keeper.wait(20) == 2, "the second daemon refuses, which proves that there was one"
    assert "ended with status -9; it is started again in 0.2 s" in (state / "keeper.log").read_text()


def test_a_keeper_that_is_told_to_stop_between_two_daemons_starts_no_other(state: Path, start: Starter) -> None:
    keeper = start()
    for _ in range(3):
        kill_the_daemon(keeper)
    while "in 0.8 s" not in (state / "keeper.log").read_text():
        time.sleep(0.005)
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(0.5) == 0
    assert not (state / "run" / "refused.json").exists()


@pytest.mark.parametrize("status", [1, 70, -signal.SIGKILL, -signal.SIGSEGV])
def test_a_crash_is_never_final(status: int) -> None:
    """1 is what Python ends with after an exception that nobody caught."""
    assert not is_final(status, restarted=False)
    assert not is_final(status, restarted=True)


def test_a_full_disk_is_final_for_who_starts_the_appliance_and_for_nobody_else() -> None:
    assert is_final(8, restarted=False)
    assert not is_final(8, restarted=True)
    assert all(is_final(status, restarted=True) for status in (0, 2, 4, 7, 9))
