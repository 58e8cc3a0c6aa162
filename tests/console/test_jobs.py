"""One job and the list of jobs, as lines."""

from __future__ import annotations

import msgspec

from appliance.api.types import JobDetail, Problem
from tests.console.fake_data import JOBS, NOW, SPEC
from tui import format as fmt
from tui.text import Look, plain
from tui.views.jobs import JobWatch, job_lines

LOOK = Look(width=80, height=21, now=NOW)
PROBLEM = Problem(
    code="training.no_heldout",
    message="The data set has no held-out rows, so nobody could say whether the classifier is any good.",
    hint="Import it again with --heldout 10, or divide it: `intramuros dataset split NAME --heldout 20 --by label`.",
)


def said(detail: JobDetail, look: Look = LOOK) -> list[str]:
    return [plain(spans) for spans in job_lines(JobWatch(detail=detail), look)]


def test_problem_and_what_to_do_are_wrapped() -> None:
    failed = msgspec.structs.replace(JOBS[3], problem=PROBLEM)
    rows = said(JobDetail(job=failed, spec=SPEC))
    assert all(fmt.cells(row) <= LOOK.width for row in rows)
    told = " ".join(row.strip() for row in rows)
    assert "is any good." in told
    assert "--by label`." in told
