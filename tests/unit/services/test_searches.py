from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Row

from appliance.api import types as t
from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.problem import Problem
from appliance.services import campaigns, jobs, searches
from appliance.services.context import Context
from appliance.services.records import find_job
from tests.factories.appliance import WEIGHTS, imported_dataset, imported_model
from tests.factories.campaigns import answered, drive, end, move, open_jobs, put_running

SEARCH = """\
recipe:
  recipe: seed
  corpus: faq
  with: {layers: 1, hidden_size: 32, intermediate_size: 64}
space:
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
  steps: {low: 10, high: 20}
trials: 4
batch: 2
startup: 2
metric: heldout_loss
seed: 5
"""


@pytest.fixture(autouse=True)
def data(ctx: Context) -> str:
    return imported_dataset(ctx)


def start(ctx: Context, text: str = SEARCH) -> str:
    return searches.submit(ctx, t.SubmitSearch(text=text, name="s.yaml")).id


def loss(job: Row[Any]) -> Mapping[str, Any]:
    """A run is as good as its learning rate is near 0.003."""
    return {"heldout_loss": abs(job.spec["parameters"]["learning_rate"] - 3e-3)}


def test_a_job_says_which_trial_it_is_and_one_that_is_taken_over_stays_with_its_own_search(ctx: Context) -> None:
    found = drive(ctx, start(ctx), loss)
    best = found.campaign.summary["job"]
    assert drive(ctx, start(ctx), loss).campaign.summary["job"] == best
    part = jobs.show(ctx, best, {}).job.part
    assert part == t.JobPart(
        kind="search", name=f"trial {found.campaign.summary['best']}", values=found.campaign.summary["values"]
    )
    question = next(job for job in jobs.list_jobs(ctx, {}) if job.kind == "search.ask")
    assert (question.part, question.what) == (None, question.title)


def trials(detail: t.CampaignDetail) -> list[tuple[Any, ...]]:
    return [(step.state, tuple(sorted(step.spec.items())), step.outcome.get("value")) for step in detail.steps]


def test_a_search_runs_its_trials_in_batches_and_names_the_best(ctx: Context) -> None:
    found = drive(ctx, start(ctx), loss)
    assert found.campaign.state == "succeeded"
    assert [step.state for step in found.steps] == ["succeeded"] * 4
    summary = found.campaign.summary
    best = min(found.steps, key=lambda step: step.outcome["value"])
    assert (summary["best"], summary["job"], summary["values"]) == (best.number, best.job, best.spec)
    assert f"learning_rate: {best.spec['learning_rate']}" in summary["recipe"]
    assert "corpus: faq@1" in summary["recipe"]


def test_it_makes_the_same_trials_whichever_job_ends_first(ctx: Context) -> None:
    forwards = drive(ctx, start(ctx), loss)
    # An equal run is there for each trial whose outputs were kept; the others run again, and end the other way round.
    assert trials(drive(ctx, start(ctx), loss, backwards=True)) == trials(forwards)
    assert trials(drive(ctx, start(ctx, SEARCH.replace("seed: 5", "seed: 6")), loss)) != trials(forwards)


def test_only_the_best_model_is_kept(ctx: Context) -> None:
    found = drive(ctx, start(ctx), loss)
    with ctx.appliance.database.read() as connection:
        kept = [step.number for step in found.steps if find_job(connection, step.job).files]
    assert kept == [found.campaign.summary["best"]]
    assert found.campaign.state == "succeeded"


def test_files_that_trials_share_with_a_version_keep_none_of_them(ctx: Context) -> None:
    campaign = start(ctx)
    shared = {"tokenizer.json": b"of the base"}
    imported_model(ctx, "m", shared)

    def files(job: Row[Any]) -> Mapping[str, bytes]:
        return shared | {"model.safetensors": str(job.run_id).encode()}

    found = drive(ctx, campaign, loss, files=files)
    with ctx.appliance.database.read() as connection:
        kept = [step.number for step in found.steps if find_job(connection, step.job).files]
    assert kept == [found.campaign.summary["best"]]


def test_a_trial_that_is_worse_than_half_of_the_earlier_ones_is_stopped(ctx: Context) -> None:
    def reports(job_id: str, metric: str) -> Mapping[int, float]:
        assert metric == "heldout_loss"
        with ctx.appliance.database.read() as connection:
            row = find_job(connection, job_id)
        return dict.fromkeys((10, 20), float(row.spec["parameters"]["learning_rate"])) if row.state != "queued" else {}

    text = SEARCH.replace("trials: 4", "trials: 8").replace("batch: 2", "batch: 4")
    text = text.replace("startup: 2", "startup: 4")

    def ending(job: Row[Any]) -> Mapping[str, Any]:
        return {"heldout_loss": job.spec["parameters"]["learning_rate"]}

    found = drive(ctx, start(ctx, text), ending, reports=reports)
    assert [step.state for step in found.steps[:4]] == ["succeeded"] * 4
    first = sorted(step.spec["learning_rate"] for step in found.steps[:4])
    middle = (first[1] + first[2]) / 2
    for step in found.steps[4:]:
        assert step.state == ("pruned" if step.spec["learning_rate"] > middle else "succeeded")
    assert {step.state for step in found.steps[4:]} == {"pruned", "succeeded"}
    assert found.campaign.summary["trials"]["pruned"] == sum(step.state == "pruned" for step in found.steps)


def test_a_running_trial_that_is_pruned_is_asked_to_stop(ctx: Context) -> None:
    text = SEARCH.replace("trials: 4", "trials: 5").replace("batch: 2", "batch: 4")
    campaign = start(ctx, text)
    told = {"reports": lambda _job, _metric: {10: 1.0, 20: 1.0}}
    while len(detail := move(ctx, campaign, **told).steps) < 5 or not detail[4].job:
        for job in open_jobs(ctx):
            if len(detail) < 5:
                end(ctx, job, answered(job) if job.kind == "search.ask" else {"heldout_loss": 1.0}, {})
    fifth = detail[4].job
    put_running(ctx, fifth)
    assert move(ctx, campaign, reports=lambda _job, _metric: {10: 9.0}).steps[4].state == "stopping"
    with ctx.appliance.database.read() as connection:
        stopping = find_job(connection, fifth)
    assert stopping.cancel_requested
    assert jobs.show(ctx, fifth, {}).job.told_state == "running"
    end(ctx, stopping, {})
    assert campaigns.show(ctx, campaign).steps[4].state == "pruned"
    pruned = jobs.show(ctx, fifth, {}).job
    assert pruned.part == t.JobPart(kind="search", name="trial 5", values=detail[4].spec, pruned=True)
    assert (pruned.state, pruned.told_state) == ("cancelled", "pruned")


def test_trials_may_fail_and_the_search_goes_on(ctx: Context) -> None:
    def ending(job: Row[Any]) -> Mapping[str, Any] | Problem:
        return Problem(code="x.y", message="Diverged.") if job.spec["parameters"]["steps"] > 15 else loss(job)

    found = drive(ctx, start(ctx), ending)
    assert found.campaign.state == "succeeded"
    for step in found.steps:
        assert (step.state == "failed") == (step.spec["steps"] > 15)


def test_a_search_whose_first_batch_fails_ends_with_the_reason(ctx: Context) -> None:
    found = drive(ctx, start(ctx), lambda _job: Problem(code="x.y", message="No such thing."))
    assert found.campaign.state == "failed"
    assert found.campaign.problem is not None
    assert found.campaign.problem.code == "search.all_failed"
    assert "No such thing." in found.campaign.problem.message
    assert len(found.steps) == 2


def test_a_search_whose_only_trial_fails_has_failed(ctx: Context) -> None:
    found = drive(
        ctx, start(ctx, SEARCH.replace("trials: 4", "trials: 1")), lambda _job: Problem(code="x", message="No")
    )
    assert (found.campaign.state, len(found.steps)) == ("failed", 1)


@pytest.mark.parametrize(
    ("recipe", "told", "figure", "direction"),
    [
        ("{recipe: seed, corpus: faq}", "", "final_loss", "minimize"),
        ("{recipe: seed, corpus: faq}", "metric: accuracy\n", "accuracy", "maximize"),
        ("{recipe: seed, corpus: faq}", "metric: accuracy\ndirection: minimize\n", "accuracy", "minimize"),
        ("{recipe: lora, base: m@1, data: faq}", "", "heldout_loss", "minimize"),
        ("{recipe: lora, base: m@1, data: faq, with: {evaluate_every: 5}}", "", "best_validation_loss", "minimize"),
        ("{recipe: classify, base: encoder@1, data: faq}", "", "accuracy", "maximize"),
        ("{recipe: prune, base: m@1, data: faq}", "", "perplexity", "minimize"),
        ("{recipe: prune, base: m@1, data: topics}", "", "accuracy", "maximize"),
    ],
)
def test_runs_are_compared_by_the_recipes_own_figure(
    ctx: Context, recipe: str, told: str, figure: str, direction: str
) -> None:
    imported_model(ctx, "m", WEIGHTS)
    imported_model(ctx, "encoder", WEIGHTS | {"config.json": b'{"model_type": "bert"}'})
    imported_dataset(ctx, "topics", form="classification")
    text = f"recipe: {recipe}\nspace: {{batch_size: {{choices: [2, 4]}}}}\n{told}"
    spec = campaigns.show(ctx, start(ctx, text)).spec
    assert (spec["metric"], spec["direction"]) == (figure, direction)


def test_no_more_trials_are_made_than_there_are_different_ones(ctx: Context) -> None:
    text = SEARCH.replace("{low: 1e-4, high: 1e-2, log: true}", "{choices: [1e-3, 2e-3]}").replace("20", "11")
    found = drive(ctx, start(ctx, text.replace("trials: 4", "trials: 9")), loss)
    assert len(found.steps) == 4
    assert len({tuple(sorted(step.spec.items())) for step in found.steps}) == 4


def test_a_figure_that_runs_do_not_have_is_named(ctx: Context) -> None:
    found = drive(ctx, start(ctx, SEARCH.replace("metric: heldout_loss", "metric: beauty")), loss)
    assert found.steps[0].problem is not None
    assert found.steps[0].problem.code == "search.no_metric"
    assert "heldout_loss" in found.steps[0].problem.message


def test_cancelling_a_search_stops_its_jobs_and_it_goes_on_where_it_was(ctx: Context) -> None:
    campaign = start(ctx)
    move(ctx, campaign)
    (question,) = open_jobs(ctx)
    end(ctx, question, answered(question), {})
    move(ctx, campaign)
    running, queued = (step.job for step in move(ctx, campaign).steps)
    put_running(ctx, running)
    assert campaigns.cancel(ctx, campaign).state == "cancelled"
    with ctx.appliance.database.read() as connection:
        assert find_job(connection, queued).state == "cancelled"
        assert find_job(connection, running).cancel_requested
    for job in open_jobs(ctx):
        end(ctx, job, {})
    assert campaigns.resume(ctx, campaign).state == "running"
    found = drive(ctx, campaign, loss)
    assert found.campaign.state == "succeeded"
    assert [found.steps[0].job, found.steps[1].job] == [running, queued]


@pytest.mark.parametrize(
    ("was", "put", "code"),
    [
        ("learning_rate:", "speed:", "search.file"),
        ("high: 20", "high: 0.5", "search.file"),
        ("corpus: faq", "corpus: absent", "dataset.unknown"),
        ("recipe: seed", "recipe: sow", "recipe.file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_recorded(ctx: Context, was: str, put: str, code: str) -> None:
    with pytest.raises((BadInput, NotFound)) as refused:
        start(ctx, SEARCH.replace(was, put))
    assert refused.value.code == code
    assert campaigns.list_campaigns(ctx) == ()
    assert not [job for job in jobs.list_jobs(ctx, {}) if job.kind != "dataset.import"]


@pytest.mark.parametrize(
    ("was", "put", "name", "message"),
    [
        ("high: 20", "high: 0.5", "s.yaml", "s.yaml, line 7: steps: low 10 must be below high 0.5."),
        (
            "steps: {low: 10",
            "steps: {low: 0",
            "s.yaml",
            "s.yaml, line 7: steps cannot be 0; it takes a whole number from 1 to 10000000.",
        ),
        ("steps:", "stesp:", "", "seed has no field stesp; the nearest is steps."),
        ("{layers: 1,", "{layers: 0,", "s.yaml", "s.yaml, line 4: layers cannot be 0; it takes a whole number from 1"),
        (
            "steps: {low: 10, high: 20}",
            "hidden_size: {choices: [32, 50]}",
            "s.yaml",
            "s.yaml, line 7: hidden_size = 50: hidden_size 50 is not a multiple of heads 4.",
        ),
    ],
)
def test_a_refusal_names_line_and_field(ctx: Context, was: str, put: str, name: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        searches.submit(ctx, t.SubmitSearch(text=SEARCH.replace(was, put), name=name))
    assert refused.value.message.startswith(message)
    assert refused.value.hint
