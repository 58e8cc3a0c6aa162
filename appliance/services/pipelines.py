"""Pipelines: one step after another, each an ordinary call made in the name of who began it.

A step that has been done is never done again; a gate that does not pass ends the pipeline with its verdict, a missing
approval makes it wait. Killed anywhere, it goes on with the step that has no outcome yet: jobs are found by their
specification, versions by their bytes, stages and deployments by what is recorded of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from appliance.api import types as t
from appliance.campaigns import pipeline_file as form
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, Conflict, GateRefused, IntramurosError, StorageFailure
from appliance.kernel.problem import Problem, problem_of
from appliance.registry.refs import check_name
from appliance.registry.stages import Stage, parse_stage
from appliance.services import child_jobs, datasets, deployments, models, promotion
from appliance.services import jobs as job_service
from appliance.services.campaigns import finish, jobs_of, open_campaign, read_steps, set_campaign, set_step
from appliance.services.context import Context
from appliance.services.records import find_dataset, find_model, ref_of, stage_of
from appliance.training.recipe_file import parse_recipe_file

_EXAMPLES: Final = Path(__file__).parent.parent / "examples"
_STAGES: Final = (Stage.DEV, Stage.TEST, Stage.PROD)
_ACTIONS: Final = {
    "import": "dataset.import",
    "train": "job.submit",
    "job": "job.submit",
    "convert": "job.submit",
    "evaluate": "job.submit",
    "register": "model.register",
    "promote": "model.promote",
    "deploy": "deployment.deploy",
}
"""Verb -> the action that its author must be allowed, asked before the first step and again at each."""


def submit(ctx: Context, body: t.SubmitPipeline) -> t.CampaignView:
    """Start a pipeline. Raises BadInput for a file with any fault, Forbidden for a step that its author may not do."""
    ctx.authorise("campaign.submit", "pipeline")
    file = form.parse_pipeline_file(body.text.encode(), name=body.name)
    steps = []
    for step in file.steps:
        if step.verb in _ACTIONS:
            ctx.authorise(_ACTIONS[step.verb], f"{file.name}.{step.name}")
        _check(step, name=body.name)
        given = dict(step.given)
        if step.verb == "import":
            given["source"] = _source(given["source"], body.folder)
        steps.append((step.name, {"verb": step.verb, "given": given}))
    return open_campaign(ctx, "pipeline", title=file.name, spec={"text": body.text}, steps=steps)


def advance(ctx: Context, campaign: Row[Any]) -> None:
    """Go as far as possible now: to the next job that must end, approval that is missing, or the end."""
    for step in read_steps(ctx, campaign.id):
        if step.state == "succeeded":
            continue
        try:
            outcome = _go_on(ctx, campaign, step)
        except StorageFailure:
            raise  # a full disk is no fault of the pipeline; the coordinator tries again
        except IntramurosError as refused:
            _fail(ctx, campaign, step, problem_of(refused))
            return
        if outcome is None:
            return
        set_step(ctx, step, state="succeeded", outcome=outcome, problem=None)
        if campaign.state == "waiting" and step.state == "waiting":
            with ctx.appliance.database.write() as connection:
                set_campaign(connection, campaign.id, state="running", problem=None)
    finish(ctx, campaign.id, "succeeded", summary=_summary(read_steps(ctx, campaign.id)))


def _go_on(ctx: Context, campaign: Row[Any], step: Row[Any]) -> dict[str, Any] | None:
    """Return what the step brought, or None while it is not done. Raises what its call raises."""
    if step.state == "running" and step.job_id:
        return _job_outcome(ctx, step)
    verb = step.spec["verb"]
    try:
        body = form.form_of(verb, form.substitute(step.spec["given"], _values(ctx, campaign)))
    except msgspec.ValidationError as error:
        raise BadInput("pipeline.value", f"Step {step.name}: {error}.", hint="Correct the step.") from error
    match verb:
        case "import":
            _begin_import(ctx, campaign, step, body)
            return None
        case "train":
            given = form.substitute(step.spec["given"], _values(ctx, campaign))
            run = parse_recipe_file(json.dumps(given).encode(), name=f"step {step.name}")
            return _begin(ctx, step, run.kind, dict(run.inputs), run.parameters, run.seed)
        case "job":
            return _begin(ctx, step, body.kind, body.inputs, body.parameters, body.seed)
        case "convert":
            inputs = {"model": body.model} | ({"dataset": body.prompts} if body.prompts else {})
            return _begin(ctx, step, JobKind.CONVERT_GGUF, inputs, {"dtype": body.dtype}, 0)
        case "evaluate":
            inputs = {"model": body.model} | ({"suite": body.suite} if body.suite else {"dataset": body.data})
            return _begin(ctx, step, JobKind.EVALUATE, inputs, body.parameters, 0)
        case "data":
            with ctx.appliance.database.read() as connection:
                row = find_dataset(connection, body.ref)
            return {"ref": ref_of(row), "digest": row.digest}
        case "register":
            model = models.register(ctx, t.RegisterModel(name=body.name, run=body.run, licence=body.licence)).model
            return {"ref": model.ref, "digest": model.digest}
        case "promote":
            return _promote(ctx, campaign, step, body)
        case _:
            return _deploy(ctx, campaign, step, body)


def _begin(
    ctx: Context, step: Row[Any], kind: str, inputs: dict[str, str], parameters: Mapping[str, Any], seed: int
) -> dict[str, Any] | None:
    child_jobs.start(ctx, step, t.SubmitJob(kind=kind, inputs=inputs, parameters=dict(parameters), seed=seed))
    return None


def _begin_import(ctx: Context, campaign: Row[Any], step: Row[Any], body: form.Import) -> None:
    """Queue an import once: an import is no pure function, so the one that was queued before a crash is looked for.

    One that is still stopping is left to stop first.
    """
    if step.job_id and job_service.is_stopping(child_jobs.job_of(ctx, step)):
        return
    known = {other.job_id for other in read_steps(ctx, campaign.id)}
    with ctx.appliance.database.read() as connection:
        orphans = [job for job in jobs_of(connection, campaign.id, unfinished=True) if job.id not in known]
    if orphans:
        job_id = orphans[-1].id
    else:
        job_id = datasets.import_dataset(ctx, t.ImportDataset(**msgspec.structs.asdict(body))).id
    set_step(ctx, step, state="running", job_id=job_id)


def _job_outcome(ctx: Context, step: Row[Any]) -> dict[str, Any] | None:
    job = child_jobs.job_of(ctx, step)
    if job.state in ("failed", "cancelled"):
        problem = child_jobs.why_ended(job)
        raise Conflict(problem.code, problem.message, hint=problem.hint)
    if job.state != "succeeded":
        return None
    if job.kind == JobKind.IMPORT_DATASET:
        with ctx.appliance.database.read() as connection:
            row = find_dataset(connection, job.summary["ref"])
        return {"ref": ref_of(row), "digest": row.digest}
    return {"run": f"run:{job.id}", "digest": job.output_digest, "metrics": child_jobs.figures_of(job)}


def _promote(ctx: Context, campaign: Row[Any], step: Row[Any], body: form.Promote) -> dict[str, Any] | None:
    """Move a version on, stage by stage. Waits where nothing but an approval is missing."""
    wanted = parse_stage(body.to)
    for stage in _STAGES[: _STAGES.index(wanted) + 1]:
        with ctx.appliance.database.read() as connection:
            row = find_model(connection, body.model)
            ref, reached = ref_of(row), stage_of(connection, row.id)
            if reached in _STAGES and _STAGES.index(Stage(reached)) >= _STAGES.index(stage):
                continue
            verdict = promotion.gate_verdict(ctx, connection, row, stage)
        if verdict.failures and all(check.name == "approvals" for check in verdict.failures):
            _wait(ctx, campaign, step, ref, stage)
            return None
        promotion.promote(ctx, ref, t.Promote(stage=stage))
    return {"ref": ref, "stage": str(wanted)}


def _wait(ctx: Context, campaign: Row[Any], step: Row[Any], ref: str, stage: Stage) -> None:
    if step.state == "waiting" and campaign.state == "waiting":
        return
    problem = Problem(
        code="pipeline.approval",
        message=f"{ref} waits for somebody other than its author to approve it for {stage}.",
        hint=f"An approver: `intramuros model approve {ref} --to {stage}`. The pipeline then goes on by itself.",
        exit_code=GateRefused.exit_code,
    )
    set_step(ctx, step, state="waiting", problem=msgspec.to_builtins(problem))
    with ctx.appliance.database.write() as connection:
        set_campaign(connection, campaign.id, state="waiting", problem=msgspec.to_builtins(problem))
        ctx.record(connection, "campaign.wait", campaign.id, step=step.name, model=ref, stage=str(stage))


def _deploy(ctx: Context, campaign: Row[Any], step: Row[Any], body: form.Deploy) -> dict[str, Any] | None:
    """Wish for a version and follow it. The request's id has the attempt, so that a failed one can be made anew."""
    attempt = (step.outcome or {}).get("attempt", 0)
    request = f"{campaign.id}-{step.number}-{attempt}"
    view = deployments.deploy(ctx, body.name, t.Deploy(model=body.model, request_id=request))
    mine = next(entry for entry in view.revisions if entry.number == view.revision)
    if mine.state == "starting":
        if step.state != "running":
            set_step(ctx, step, state="running", outcome={"attempt": attempt})
        return None
    if mine.state == "failed":
        set_step(ctx, step, outcome={"attempt": attempt + 1})
        raise Conflict(
            "pipeline.deploy",
            f"{mine.model} could not be served as {body.name}: {mine.reason.rstrip('.')}.",
            hint="What was live before is still live.",
        )
    return {"name": body.name, "ref": mine.model, "revision": mine.number}


def _fail(ctx: Context, campaign: Row[Any], step: Row[Any], problem: Problem) -> None:
    set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem))
    told = msgspec.structs.replace(problem, message=f"Step {step.name}: {problem.message}")
    finish(ctx, campaign.id, "failed", summary=_summary(read_steps(ctx, campaign.id)), problem=told)


def _values(ctx: Context, campaign: Row[Any]) -> Callable[[str], str]:
    outcomes = {step.name: step.outcome or {} for step in read_steps(ctx, campaign.id)}

    def value_of(wanted: str) -> str:
        step, _, name = wanted.partition(".")
        return str(outcomes[step][name])

    return value_of


def _summary(steps: list[Row[Any]]) -> dict[str, Any]:
    """Return what the steps brought, by their names."""
    return {step.name: step.outcome for step in steps if step.state == "succeeded"}


def _check(step: form.PipelineStep, *, name: str) -> None:
    """Refuse now what could only fail later: a recipe with a fault, a name that cannot be."""
    if step.verb == "train":
        parse_recipe_file(json.dumps(dict(step.given)).encode(), name=f"{name}, step {step.name}")
    if step.verb in ("import", "register"):
        check_name(step.given["name"], what="data set" if step.verb == "import" else "model")
    if step.verb == "deploy":
        check_name(step.given["as"], what="deployment")


def _source(source: str, folder: str) -> str:
    """Return a source as the appliance takes it, an absolute path: a shipped example, or a file beside the pipeline."""
    if source.startswith("example:"):
        return str(_EXAMPLES / f"{Path(source.removeprefix('example:')).name}.jsonl")
    return str(Path(folder) / source)
