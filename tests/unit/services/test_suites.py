"""Suites as versions by content, evaluations on them, and comparisons of two models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.access.roles import Role
from appliance.api import types as t
from appliance.evaluation.scores import Mean, TaskScores, encode_scores
from appliance.kernel.errors import BadInput, Conflict, Forbidden, NotFound
from appliance.services import datasets, evaluations, jobs, models, suites
from appliance.services.context import Appliance, Context
from tests.factories.appliance import (
    WEIGHTS,
    context,
    finish_job,
    head,
    imported_dataset,
    imported_model,
    measured_on,
    taken_in_suite,
    trail,
)

SUMMARY: dict[str, Any] = {"description": "", "data": [], "tasks": []}


def scores(right: int, of: int = 40) -> bytes:
    values = Mean(values=tuple(float(place < right) for place in range(of)), yes_no=True)
    rows = tuple(f"row{place}" for place in range(of))
    return encode_scores((TaskScores(task="answers", rows=rows, metrics={"exact_match": values}),))


def test_a_suite_is_a_version_by_content(ctx: Context) -> None:
    before = head(ctx)
    assert taken_in_suite(ctx, b"one") == "helpdesk@1"
    assert taken_in_suite(ctx, b"two") == "helpdesk@2"
    assert taken_in_suite(ctx, b"one") == "helpdesk@1"
    assert [entry.ref for entry in suites.list_suites(ctx)] == ["helpdesk@2", "helpdesk@1"]
    assert suites.show(ctx, "helpdesk").ref == "helpdesk@2"
    assert [action for action, _ in trail(ctx, since=before)].count("suite.register") == 2


def test_importing_needs_a_role_and_a_good_name(ctx: Context, appliance: Appliance, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text("tasks: []")
    auditor = context(appliance, user="eve", roles=frozenset({Role.AUDITOR}))
    with pytest.raises(Forbidden):
        suites.import_suite(auditor, t.ImportSuite(source=str(file), name="helpdesk"))
    with pytest.raises(BadInput, match=r"name\.invalid"):
        suites.import_suite(ctx, t.ImportSuite(source=str(file), name="Help Desk"))
    assert suites.import_suite(ctx, t.ImportSuite(source=str(file), name="helpdesk")).kind == "suite.import"


def test_a_removed_suite_is_gone_but_what_it_measured_stays(ctx: Context) -> None:
    model = imported_model(ctx, "base", WEIGHTS)
    ref = taken_in_suite(ctx, b"one")
    measured_on(ctx, model, ref, {"answers.exact_match": 0.5}, scores(20))
    suites.remove(ctx, ref)
    with pytest.raises(NotFound, match=r"suite\.unknown"):
        suites.show(ctx, "helpdesk")
    assert models.show(ctx, model).evaluations[0].suite == ref
    assert taken_in_suite(ctx, b"other") == "helpdesk@2"


def test_a_suite_that_a_job_reads_stays(ctx: Context) -> None:
    model, ref = imported_model(ctx, "base", WEIGHTS), taken_in_suite(ctx, b"one")
    jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs={"model": model, "suite": ref}))
    with pytest.raises(Conflict, match=r"suite\.in_use"):
        suites.remove(ctx, ref)


def test_an_evaluation_takes_the_suites_data_sets_as_inputs(ctx: Context) -> None:
    model, data = imported_model(ctx, "base", WEIGHTS), imported_dataset(ctx)
    ref = taken_in_suite(ctx, b"one", SUMMARY | {"data": [data]})
    job = jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs={"model": model, "suite": ref}))
    spec = jobs.show(ctx, job.id, {}).spec
    assert set(spec["inputs"]) == {"model", "suite", f"data.{data}"}
    assert job.title == f"{model} + {ref} + {data}"


@pytest.mark.parametrize("named", ["faq", "faq@1"])
def test_data_that_a_suite_asks_cannot_be_removed(ctx: Context, named: str) -> None:
    data = imported_dataset(ctx, "faq")
    suite = taken_in_suite(ctx, b"one", SUMMARY | {"data": [named]})
    with pytest.raises(Conflict, match=f"suite {suite}"):
        datasets.remove(ctx, data)
    suites.remove(ctx, suite)
    assert datasets.remove(ctx, data).ref == data


def test_a_suite_whose_data_set_is_gone_is_refused_by_its_name(ctx: Context) -> None:
    model = imported_model(ctx, "base", WEIGHTS)
    ref = taken_in_suite(ctx, b"one", SUMMARY | {"data": ["gone@3"]})
    with pytest.raises(NotFound, match=r"dataset\.unknown: There is no data set gone@3"):
        jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs={"model": model, "suite": ref}))


@pytest.mark.parametrize("more", [{}, {"suite": "helpdesk", "dataset": "faq"}])
def test_an_evaluation_is_on_exactly_one_thing(ctx: Context, more: dict[str, str]) -> None:
    imported_dataset(ctx)
    taken_in_suite(ctx, b"one")
    with pytest.raises(BadInput, match=r"job\.inputs: An evaluation is on a suite or on a data set"):
        jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs={"model": imported_model(ctx, "base", WEIGHTS), **more}))


def test_two_models_are_compared_row_by_row(ctx: Context) -> None:
    first = imported_model(ctx, "one", WEIGHTS)
    second = imported_model(ctx, "two", WEIGHTS | {"model.safetensors": b"other"})
    ref = taken_in_suite(ctx, b"one")
    asked = t.Compare(first=first, second=second, suite="helpdesk")
    with pytest.raises(NotFound, match=r"evaluation\.none: one@1 was not evaluated on helpdesk@1"):
        evaluations.compare(ctx, asked)
    measured_on(ctx, first, ref, {"answers.exact_match": 0.5}, scores(20))
    measured_on(ctx, second, ref, {"answers.exact_match": 0.9}, scores(36))
    (found,) = evaluations.compare(ctx, asked).differences
    assert (found.metric, found.verdict, found.rows) == ("answers.exact_match", "better", 40)
    assert found.difference == pytest.approx(0.4)
    assert found.p is not None
    assert found.p < 0.001
    with pytest.raises(BadInput, match=r"evaluation\.on"):
        evaluations.compare(ctx, t.Compare(first=first, second=second))


def test_an_evaluation_of_an_older_version_kept_no_scores(ctx: Context) -> None:
    model, ref = imported_model(ctx, "one", WEIGHTS), taken_in_suite(ctx, b"one")
    measured_on(ctx, model, ref, {"answers.exact_match": 0.5}, None)
    with pytest.raises(NotFound, match=r"evaluation\.no_scores"):
        evaluations.compare(ctx, t.Compare(first=model, second=model, suite=ref))


def test_the_summary_keeps_intervals_with_the_evaluation(ctx: Context) -> None:
    model, ref = imported_model(ctx, "one", WEIGHTS), taken_in_suite(ctx, b"one")
    job = jobs.submit(ctx, t.SubmitJob(kind="evaluate", inputs={"model": model, "suite": ref}))
    figures = {"metrics": {"a.b": 0.5}, "intervals": {"a.b": [0.4, 0.6]}, "informative": {"s.t": 9.0}, "examples": 1}
    finish_job(ctx, job.id, {}, figures)
    (view,) = models.show(ctx, model).evaluations
    assert view.intervals == {"a.b": (0.4, 0.6)}
    assert view.informative == {"s.t": 9.0}
    assert view.dataset == f"suite {ref}"
