from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import logging, sys, traceback
from appliance.kernel.standard_error import report_without_failing
if {forgiving}:
    report_without_failing()
logging.basicConfig(stream=sys.stderr)
print("one", file=sys.stderr)
logging.warning("two \\udcff")
try:
    raise KeyError("three")
except KeyError:
    traceback.print_exc()
"""


@pytest.mark.parametrize(("forgiving", "status"), [(True, 0), (False, 1)])
def test_a_full_disk_under_the_log_ends_nobody(forgiving: bool, status: int) -> None:
    with Path("/dev/full").open("wb") as full:
        program = [sys.executable, "-c", _PROGRAM.format(forgiving=forgiving)]
        finished = subprocess.run(program, stdout=subprocess.DEVNULL, stderr=full, check=False)
    assert (finished.returncode == 0) == (status == 0)


def test_what_can_be_written_is_written_in_order() -> None:
    program = [sys.executable, "-c", _PROGRAM.format(forgiving=True)]
    finished = subprocess.run(program, capture_output=True, text=True, check=True)
    assert [finished.stderr.find(word) for word in ("one", "two \\udcff", "KeyError: 'three'")] == sorted(
        finished.stderr.find(word) for word in ("one", "two \\udcff", "KeyError: 'three'")
    )
    assert all(word in finished.stderr for word in ("one", "two \\udcff", "KeyError: 'three'"))
