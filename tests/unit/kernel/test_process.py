from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.kernel.errors import NotFound, Unavailable
from appliance.kernel.process import child_environment, identify, is_alive, run, send_signal, start


def test_output_and_status_are_returned_and_bounded() -> None:
    program = "import sys; sys.stdout.write('x' * (3 << 20)); sys.stderr.write('y\\n'); sys.exit(3)"
    finished = run([sys.executable, "-c", program], timeout=20)
    assert (finished.status, len(finished.stdout), finished.stderr) == (3, 1 << 20, "y\n")


def test_bytes_that_are_no_text_do_not_hurt() -> None:
    assert run(["printf", r"\377ok"], timeout=20).stdout.endswith("ok")


def test_a_program_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        run(["sleep", "60"], timeout=0.1)
    assert raised.value.code == "process.timeout"
    assert time.monotonic() - began < 10


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="no-such-program"):
        run(["no-such-program"], timeout=1)


def test_nothing_is_read_from_our_input_and_no_shell_is_asked() -> None:
    assert run(["cat"], timeout=20).stdout == ""
    assert run(["echo", "$HOME; id"], timeout=20).stdout == "$HOME; id\n"


def test_what_is_given_arrives_on_standard_input() -> None:
    assert run(["cat"], timeout=10, given=b"first\nsecond").stdout == "first\nsecond"


def test_a_child_sees_only_what_is_on_the_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    monkeypatch.setenv("LD_PRELOAD_NOT_REALLY", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    seen = run(["env"], timeout=20, extra_environment={"EXTRA": "2"}, directory=tmp_path).stdout
    assert "A_SECRET" not in seen
    assert {"EXTRA=2", "LANG=C.UTF-8"} <= set(seen.split())
    assert "LD_PRELOAD_NOT_REALLY" not in child_environment()


def test_a_long_lived_program_leads_its_own_session_and_appends_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    process = start(["sh", "-c", "echo said; echo warned >&2; exec sleep 60"], log=log)
    assert os.getsid(process.pid) == process.pid
    process.terminate()
    process.wait()
    assert log.read_text().startswith("before\n")


def test_a_process_is_known_by_more_than_its_number() -> None:
    process = subprocess.Popen(["sleep", "60"])
    identity = identify(process.pid)
    assert identity is not None
    assert is_alive(identity)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identify(process.pid) is None, "a zombie is not alive"
    assert not is_alive(identity)
    assert not send_signal(identity, signal.SIGTERM)
    process.wait()
    assert identify(process.pid) is None


def test_a_process_may_bear_any_name(tmp_path: Path) -> None:
    program = tmp_path / os.fsdecode(b") S \xff")
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    identity = identify(process.pid)
    assert identity is not None
    assert identity.started > 0
    process.kill()
    process.wait()


@pytest.mark.parametrize("group", [True, False])
def test_a_signal_reaches_the_group_or_the_process_alone(tmp_path: Path, group: bool) -> None:
    """The child says so when it is hit; its parent dies of the signal either way."""
    child = f"trap 'echo hit > {tmp_path}/hit; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    process = start(["sh", "-c", f"({child}) & exec sleep 60"], log=tmp_path / "log")
    try:
        _wait_for(tmp_path / "ready")
        identity = identify(process.pid)
        assert identity is not None
        assert send_signal(identity, signal.SIGTERM, group=group)
        assert process.wait(10) == -signal.SIGTERM
        if group:
            _wait_for(tmp_path / "hit")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (tmp_path / "hit").exists() == group


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)
