"""Cross-validation: one recipe, k jobs, each holding out another part of the training rows.

A fold is a view that its job makes of the stored data set, so nothing is stored k times; the models of the folds are
given up when their figures are known, because the spread is the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row

from appliance.api import types as t
from appliance.campaigns.spread import spread_of
from appliance.jobs.folds import TRAIN
from appliance.jobs.spec import Fold, InputRef, JobKind
from appliance.kernel.errors import BadInput
from appliance.kernel.problem import Problem, problem_of
from appliance.services import child_jobs
from appliance.services.blob_references import drop_outputs
from appliance.services.campaigns import ENDED, finish, open_campaign, read_steps, set_step
from appliance.services.context import Context
from appliance.services.jobs import resolve
from appliance.services.training_inputs import require_trainable
from appliance.training.recipe_file import parse_recipe_file

_MOST = 20


def submit(ctx: Context, body: t.SubmitKfold) -> t.CampaignView:
    """Start a cross-validation of a recipe file."""
    ctx.authorise("campaign.submit", "kfold")
    if not 2 <= body.folds <= _MOST:
        raise BadInput("kfold.folds", f"{body.folds} folds cannot be made.", hint=f"Give 2 to {_MOST}.")
    run = parse_recipe_file(body.text.encode(), name=body.name)
    given = resolve(ctx, JobKind(run.kind), dict(run.inputs))
    require_trainable(ctx, JobKind(run.kind), given, run.recipe, folded=True)
    spec: dict[str, Any] = {
        "kind": run.kind,
        "inputs": {name: ref.ref for name, ref in given.items()},
        "parameters": run.parameters,
        "run_seed": run.seed,
        "input": _folded_input(given),
        "folds": body.folds,
    }
    steps: list[tuple[str, Mapping[str, Any]]] = [
        (f"fold {index + 1} of {body.folds}", {"index": index}) for index in range(body.folds)
    ]
    return open_campaign(ctx, "kfold", title=" + ".join(spec["inputs"].values()), spec=spec, steps=steps)


def advance(ctx: Context, campaign: Row[Any]) -> None:
    """Start the folds, take in those that ended, and sum up when all have."""
    steps = read_steps(ctx, campaign.id)
    for step in steps:
        if step.state == "running":
            _look(ctx, step)
        elif step.state == "pending":
            _launch(ctx, campaign, step, steps)
    steps = read_steps(ctx, campaign.id)
    if any(step.state not in ENDED for step in steps):
        return
    failed = [step for step in steps if step.state != "succeeded"]
    if failed:
        problem = Problem(
            code="kfold.failed",
            message=f"{failed[0].name} failed: {(failed[0].problem or {}).get('message', failed[0].state)}",
            hint=f"`intramuros kfold resume {campaign.id}` tries what failed again.",
            exit_code=4,
        )
        finish(ctx, campaign.id, "failed", summary={}, problem=problem)
        return
    drop_outputs(ctx, campaign.id, keep=())
    spreads = _spreads(steps)
    if spreads:
        finish(ctx, campaign.id, "succeeded", summary={"metrics": spreads})
        return
    problem = Problem(
        code="kfold.no_figures",
        message=f"A {campaign.spec['kind']} run measures nothing on held-out rows: nothing to compare.",
        hint="Cross-validate a recipe whose runs have held-out figures, such as lora, full or classify.",
        exit_code=2,
    )
    finish(ctx, campaign.id, "failed", summary={}, problem=problem)


def _launch(ctx: Context, campaign: Row[Any], step: Row[Any], steps: list[Row[Any]]) -> None:
    body = t.SubmitJob(
        kind=campaign.spec["kind"],
        inputs=campaign.spec["inputs"],
        parameters=campaign.spec["parameters"],
        seed=campaign.spec["run_seed"],
    )
    fold = Fold(
        input=campaign.spec["input"],
        index=step.spec["index"],
        of=campaign.spec["folds"],
        seed=campaign.spec["run_seed"],
    )
    try:
        child_jobs.start(ctx, step, body, fold=fold)
    except BadInput as refused:
        if refused.code == "training.memory" and any(other.state == "running" for other in steps):
            return  # the memory is with a fold that will end
        set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem_of(refused)))


def _look(ctx: Context, step: Row[Any]) -> None:
    job = child_jobs.job_of(ctx, step)
    if job.state == "succeeded":
        set_step(ctx, step, state="succeeded", outcome={"metrics": child_jobs.qualities_of(job)})
    elif job.state in ("failed", "cancelled"):
        set_step(ctx, step, state="failed", problem=msgspec.to_builtins(child_jobs.why_ended(job)))


def _spreads(steps: list[Row[Any]]) -> dict[str, Any]:
    """Return the spread of every figure that each fold has."""
    common = set.intersection(*(set(step.outcome["metrics"]) for step in steps))
    return {
        name: dataclasses.asdict(spread_of([step.outcome["metrics"][name] for step in steps]))
        for name in sorted(common)
    }


def _folded_input(given: Mapping[str, InputRef]) -> str:
    """Return the input that is a data set. Raises BadInput when there is none or more than one."""
    data = [name for name, ref in given.items() if any(entry.path == TRAIN for entry in ref.files)]
    if len(data) != 1:
        raise BadInput(
            "kfold.no_data",
            f"This recipe takes in {len(data)} data sets; folds are made of exactly one.",
            hint="Give a recipe that trains on one data set.",
        )
    return data[0]
