from __future__ import annotations

from appliance.api import types as t
from appliance.cli.job import tree_rows


def job(name: str, parent: str = "") -> t.JobView:
    return t.JobView(
        id=name, kind="train.seed", title="faq", run_id="", state="queued", created_by="a", created_at="", parent=parent
    )


def test_jobs_stand_below_what_they_are_a_part_of_oldest_first_and_the_rest_newest_first() -> None:
    above = (t.CampaignView(id="03", kind="search", title="faq", state="running", created_by="a", created_at=""),)
    found = (job("06"), job("05", "03"), job("04", "03"), job("02"), job("01", "00"))
    assert [row[0] for row in tree_rows(found, above)] == ["06", "03", "  04", "  05", "02", "01"]
