from __future__ import annotations

import json
from pathlib import Path

from benchmarks import training
from benchmarks.comparison import Figure, at_least


def scenario(goal: float) -> training.Scenario:
    return lambda _folder: [Figure("a", "x", at_least(goal), [2.0])]


def test_one_scenario_is_measured_and_the_others_keep_their_figures(tmp_path: Path) -> None:
    kept = {"id": "b", "value": 1.0, "unit": "x", "goal": ">= 2", "met": False, "runs": [1.0]}
    (tmp_path / "training.json").write_text(json.dumps([kept]))
    scenarios = {"first": scenario(1.0), "second": scenario(9.0)}
    assert training.main(["--only", "first"], scenarios=scenarios, results=tmp_path) == 0
    found = {figure["id"]: figure for figure in json.loads((tmp_path / "training.json").read_text())}
    assert found["b"] == kept
    assert (found["a"]["value"], found["a"]["met"]) == (2.0, True)


def test_a_goal_that_is_not_met_is_told_by_the_exit_status(tmp_path: Path) -> None:
    assert training.main([], scenarios={"only": scenario(3.0)}, results=tmp_path) == 1
