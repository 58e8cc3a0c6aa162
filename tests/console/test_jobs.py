"""One job and the list of jobs, as lines."""

from __future__ import annotations

import msgspec

from appliance.api.types import JobDetail, JobPart, Problem
from tests.console.fake_campaigns import CAMPAIGNS, SEARCH, TRIALS
from tests.console.fake_data import JOBS, NOW, SPEC, STATUS
from tui import format as fmt
from tui.places import job_target
from tui.text import Look, plain
from tui.views.compare import comparison_of_runs
from tui.views.home import HomeData, home_lines
from tui.views.jobs import JobsData, JobWatch, job_lines, jobs_table

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


PRUNED = msgspec.structs.replace(
    TRIALS[0],
    state="cancelled",
    progress=None,
    part=JobPart(kind="search", name="trial 3", values={"rank": 64}, pruned=True),
)


def fold(number: int) -> JobDetail:
    """One fold of two on the same data."""
    job = msgspec.structs.replace(
        JOBS[2], id=f"01K02ZQ5XB000000000000000{number}", part=JobPart(kind="kfold", name=f"fold {number} of 2")
    )
    return JobDetail(job=job, spec=SPEC | {"fold": {"input": "dataset", "index": number - 1, "of": 2, "seed": 0}})


def test_trial_says_which_it_is_of_what_and_with_which_values() -> None:
    rows = said(JobDetail(job=TRIALS[0], spec=SPEC))
    assert f"   part of      trial 3 of search {SEARCH}" in rows
    assert "   values       rank 16  learning_rate 0.0021" in rows
    assert job_target(TRIALS[0]).words["title"] == "trial 3: seed@1 on faq@2"


def test_lists_tell_trials_apart_and_a_pruned_one_from_a_cancelled_one() -> None:
    table = jobs_table(JobsData(jobs=(PRUNED, TRIALS[1]), campaigns=CAMPAIGNS), LOOK)
    first, third = (row.cells for row in table.rows if row.branch)
    assert (first[1].text, third[1].text) == ("trial 1: seed@1 on faq@2", "trial 3: seed@1 on faq@2")
    assert (third[0].text, third[3].text) == ("○ OFF ", "pruned")
    assert said(JobDetail(job=PRUNED, spec=SPEC))[0].split()[-1] == "pruned"
    home = "".join(plain(spans) for spans in home_lines(HomeData(status=STATUS, jobs=TRIALS, audit=()), LOOK))
    assert "trial 3: seed@1" in home


def test_folds_side_by_side_are_named_and_differ() -> None:
    rows = [plain(spans) for spans in comparison_of_runs((fold(1), fold(2)), LOOK)]
    assert "fold 1 of 2: faq-tune" in rows[0]
    assert "fold 2 of 2: faq-tune" in rows[0]
    assert [row.split() for row in rows if row.startswith("   fold")] == [["fold", "1", "of", "2", "2", "of", "2"]]


def test_home_names_what_runs_before_what_waits() -> None:
    waiting = [msgspec.structs.replace(JOBS[1], id=f"W{number}", title=f"waits {number}") for number in range(3)]
    home = HomeData(status=STATUS, jobs=(*waiting, JOBS[0]), audit=())
    rows = [plain(spans) for spans in home_lines(home, LOOK)]
    at = rows.index(" Jobs: 1 running, 1 waiting")
    assert [row.split()[1] for row in rows[at + 1 : at + 4]] == ["RUN", "WAIT", "WAIT"]


def test_memory_is_told_as_a_size() -> None:
    job = msgspec.structs.replace(JOBS[2], summary={"heldout_loss": 1.5, "memory_measured": 412 << 20, "tokens": 4096})
    assert "memory_measured 412 MiB" in "".join(said(JobDetail(job=job, spec=SPEC)))
    rows = [plain(spans).split() for spans in comparison_of_runs((JobDetail(job=job, spec=SPEC), fold(1)), LOOK)]
    assert ["memory_measured", "412", "MiB", "-"] in rows


def test_side_by_side_an_id_stands_whole_where_it_fits_and_else_with_its_last_characters() -> None:
    runs = tuple(fold(number) for number in (1, 2, 3))
    (two,) = [plain(spans) for spans in comparison_of_runs(runs[:2], LOOK) if plain(spans).startswith("   job")]
    assert two.split() == ["job", runs[0].job.id, runs[1].job.id]
    (three,) = [plain(spans) for spans in comparison_of_runs(runs, LOOK) if plain(spans).startswith("   job")]
    assert three.split() == ["job", *(run.job.id[-8:] for run in runs)]
