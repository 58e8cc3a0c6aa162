"""The seed model is made again when anything that decides its bytes changed, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.build_seed_model import inputs_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("examples", "training", "conversion", "datasets"):
        (tmp_path / "appliance" / name / "__pycache__").mkdir(parents=True)
        (tmp_path / "appliance" / name / "one.py").write_text("1")
    (tmp_path / "requirements").mkdir()
    for name in ("base", "llama-cpp-python"):
        (tmp_path / "requirements" / f"{name}.lock").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    "changed", ["appliance/training/one.py", "requirements/base.lock", "appliance/examples/new.jsonl"]
)
def test_what_decides_the_bytes_decides_the_digest(root: Path, changed: str) -> None:
    before = inputs_digest(root)
    (root / changed).write_text("2")
    assert inputs_digest(root) != before


@pytest.mark.parametrize("changed", ["appliance/training/__pycache__/one.pyc", "appliance/other.py"])
def test_what_does_not_decide_them_does_not(root: Path, changed: str) -> None:
    before = inputs_digest(root)
    (root / changed).write_text("2")
    assert inputs_digest(root) == before
