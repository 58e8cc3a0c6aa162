"""kill -9 at the file system calls of a run, twice each, and inside a checkpoint's write: the bytes are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_killed_runs_end_with_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    driver = Path(__file__).with_name("crash_driver.py")
    finished = subprocess.run(
        [sys.executable, str(driver), str(work)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["killed"] == len(report["after"]) > 15
    assert set(report["torn"].values()) == {report["expected"]}
    differing = {kill for kill, digest in report["after"].items() if digest != report["expected"]}
    assert not differing
