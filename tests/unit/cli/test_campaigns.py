from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.api import types as t
from appliance.cli.campaigns import part_text, show_started
from appliance.cli.kfold import fold_lines
from appliance.cli.session import Session
from appliance.kernel.paths import StatePaths
from appliance.kernel.problem import Problem

TRIAL = t.JobPart(kind="search", name="trial 3", values={"rank": 8, "learning_rate": 0.002})
FOLD = t.JobPart(kind="kfold", name="fold 2 of 3")
KFOLD = t.CampaignView(id="03", kind="kfold", title="faq", state="running", created_by="a", created_at="")


def test_a_part_is_named_with_what_it_is_a_part_of_and_its_own_values() -> None:
    alone = t.JobView(id="04", kind="train.seed", title="faq", run_id="", state="queued", created_by="a", created_at="")
    trial = msgspec.structs.replace(alone, parent="03", part=TRIAL)
    assert part_text(trial) == 'trial 3 of search 03: {"rank": 8, "learning_rate": 0.002}'
    assert part_text(msgspec.structs.replace(trial, part=FOLD)) == "fold 2 of 3 of kfold 03"
    assert part_text(msgspec.structs.replace(trial, part=None)) == "campaign 03"
    assert part_text(alone) == ""


@pytest.mark.parametrize(("as_json", "printed"), [(False, "kfold:03  running\n"), (True, '"id":"03"')])
def test_one_that_was_started_is_named_as_a_run_is(
    as_json: bool, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_started(Session(paths=StatePaths(tmp_path), as_json=as_json), KFOLD)
    assert printed in capsys.readouterr().out


def test_each_fold_has_its_figures_or_why_it_has_none() -> None:
    steps = (
        t.CampaignStepView(
            number=1, name="fold 1 of 2", state="succeeded", job="J1", outcome={"metrics": {"accuracy": 0.93512345}}
        ),
        t.CampaignStepView(
            number=2, name="fold 2 of 2", state="failed", job="J2", problem=Problem(code="x", message="It broke.")
        ),
    )
    rows = fold_lines(t.CampaignDetail(campaign=KFOLD, spec={}, steps=steps, mark=""))[1].splitlines()
    assert [row.split() for row in rows] == [
        ["STEP", "STATE", "FIGURES", "JOB"],
        ["fold", "1", "of", "2", "succeeded", "accuracy", "0.935123", "J1"],
        ["fold", "2", "of", "2", "failed", "It", "broke.", "J2"],
    ]
