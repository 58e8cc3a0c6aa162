from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.kernel.courtesy import give_way

_TELL = """
import os
from appliance.kernel.courtesy import give_way
give_way(7)
print(os.nice(0), open("/proc/self/oom_score_adj").read().strip())
"""


def test_a_process_stands_back_and_goes_first() -> None:
    told = subprocess.run([sys.executable, "-c", _TELL], capture_output=True, text=True, check=True, timeout=60)
    niceness, score = told.stdout.split()
    assert int(niceness) == min(19, os.nice(0) + 7)
    assert int(score) == 500


def test_the_session_stands_back_too_where_the_kernel_groups_by_it(tmp_path: Path) -> None:
    give_way(0, proc=tmp_path / "none")
    before = os.nice(0)
    give_way(0, proc=tmp_path)
    assert os.nice(0) == before
    assert (tmp_path / "oom_score_adj").read_text() == "500"
    assert not (tmp_path / "autogroup").exists()


def test_a_sandbox_that_forbids_it_stops_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    give_way(7, proc=tmp_path)
    assert (tmp_path / "oom_score_adj").read_text() == "500"
    assert "cannot give way by a niceness of 7" in capsys.readouterr().err


def test_the_nicest_runs_when_nobody_else_wants_the_processor() -> None:
    program = "import os; from appliance.kernel.courtesy import give_way; give_way(19); print(os.sched_getscheduler(0))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) == os.SCHED_IDLE
