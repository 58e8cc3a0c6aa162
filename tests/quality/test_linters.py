"""Ruff, mypy and the import contracts, run as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.quality.sources import ROOT

_BIN = Path(sys.executable).parent

_GATE = {
    "style": (["ruff", "check", "."], "make format"),
    "format": (["ruff", "format", "--check", "."], "make format"),
    "types": (["mypy"], ".venv/bin/mypy"),
    "imports": (["lint-imports", "--no-logo"], ".venv/bin/lint-imports --verbose"),
}


@pytest.mark.parametrize("name", _GATE)
def test_gate_is_clean(name: str) -> None:
    argv, remedy = _GATE[name]
    outcome = subprocess.run(
        [str(_BIN / argv[0]), *argv[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert outcome.returncode == 0, f"{outcome.stdout[-8000:]}{outcome.stderr[-2000:]}\nTo fix or to see it: {remedy}"
