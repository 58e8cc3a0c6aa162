from __future__ import annotations

import msgspec

from appliance.api import types as t
from appliance.cli.job import tree_rows


def job(name: str, parent: str = "") -> t.JobView:
    return t.JobView(
        id=name, kind="train.seed", title="faq", run_id="", state="queued", created_by="a", created_at="", parent=parent
    )


TRIAL = t.JobPart(kind="search", name="trial 3", values={"rank": 8, "learning_rate": 0.002}, pruned=True)


def test_jobs_stand_below_what_they_are_a_part_of_oldest_first_and_the_rest_newest_first() -> None:
    above = (t.CampaignView(id="03", kind="search", title="faq", state="running", created_by="a", created_at=""),)
    found = (job("06"), job("05", "03"), job("04", "03"), job("02"), job("01", "00"))
    assert [row[0] for row in tree_rows(found, above)] == ["06", "03", "  04", "  05", "02", "01"]


def test_a_trial_says_which_it_is_and_that_it_was_pruned() -> None:
    stopped = msgspec.structs.replace(job("01"), state="cancelled", part=TRIAL)
    assert tree_rows((stopped,), ())[0][1:4] == ("pruned", "train.seed", "trial 3: faq")
    going_on = msgspec.structs.replace(stopped, state="running")
    assert tree_rows((going_on,), ())[0][1] == "running"
