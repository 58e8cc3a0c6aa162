"""Searches: asks for trials in fixed batches, runs them as ordinary jobs, stops the hopeless, keeps the best.

The state machine stands in rows: a batch is asked for by a short job, becomes steps, the steps become jobs, and their
outcomes are told in the order of the trials. Nothing depends on which job ended first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from appliance.api import types as t
from appliance.campaigns.ask_task import Question, Told
from appliance.campaigns.pruning import pruned_at, upto
from appliance.campaigns.search_file import Dimension, SearchFile, combinations, parse_search_file
from appliance.jobs.spec import InputRef, JobKind, JobSpec
from appliance.kernel.errors import BadInput
from appliance.kernel.problem import Problem, problem_of
from appliance.services import child_jobs
from appliance.services.blob_references import drop_outputs
from appliance.services.campaigns import ENDED, add_steps, finish, open_campaign, read_steps, set_campaign, set_step
from appliance.services.context import Context
from appliance.services.jobs import DATASET_INPUTS, bare_environment, enqueue, resolve
from appliance.services.records import find_dataset, find_job
from appliance.services.training_inputs import require_trainable
from appliance.training.recipe_file import RunFile, canonical_text, run_of
from appliance.training.recipes.registry import fault_of, figure_of, more_is_better, parse_recipe

Reports = Callable[[str, str], Mapping[int, float]]
"""(job, metric) -> step -> figure, as the job's log has it now."""

_TOLD: Final = {"succeeded": "complete", "pruned": "pruned", "failed": "failed"}
_OUTCOME: Final[dict[str, Any]] = {"value": None, "reports": {}}


def submit(ctx: Context, body: t.SubmitSearch) -> t.CampaignView:
    """Start a search. Raises BadInput for a file, a recipe or a field that cannot be."""
    ctx.authorise("campaign.submit", "search")
    file, document = parse_search_file(body.text.encode(), name=body.name)
    run = run_of(document.part("recipe"))
    for field, dimension in file.space.items():
        for value in _ends(dimension):
            if (fault := fault_of(run.kind, run.parameters | {field: value})) is not None:
                # Of one field by itself the fault says the value too; of several, it matters which value it was.
                which = "" if fault.alone else f"{field} = {value}: "
                raise BadInput("search.file", f"{document.before('space', field)}{which}{fault.text}.", hint=fault.hint)
    given = resolve(ctx, JobKind(run.kind), dict(run.inputs))
    require_trainable(ctx, JobKind(run.kind), given, run.recipe)
    metric = file.metric or figure_of(run.kind, run.recipe, form=_form_of_rows(ctx, given))
    spec = msgspec.to_builtins(file) | {
        "metric": metric,
        "direction": file.direction or ("maximize" if more_is_better(metric) else "minimize"),
        "trials": min(file.trials, combinations(file.space) or file.trials),
        "kind": run.kind,
        "inputs": {name: ref.ref for name, ref in given.items()},  # later batches use the versions of the first
        "parameters": run.parameters,
        "run_seed": run.seed,
    }
    return open_campaign(ctx, "search", title=" + ".join(spec["inputs"].values()), spec=spec)


def advance(ctx: Context, campaign: Row[Any], reports: Reports) -> None:
    """Do what can be done now; called again whenever something may have changed."""
    file = msgspec.convert({name: campaign.spec[name] for name in SearchFile.__struct_fields__}, SearchFile)
    steps = read_steps(ctx, campaign.id)
    for step in steps:
        if step.state == "running":
            _look(ctx, file, step, steps, reports)
    for step in steps:
        if step.state == "pending":
            _launch(ctx, campaign, step, steps)
    steps = read_steps(ctx, campaign.id)
    if any(step.state not in ENDED for step in steps):
        return
    if len(steps) >= min(file.batch, file.trials) and all(step.state == "failed" for step in steps):
        problem = Problem(
            code="search.all_failed",
            message=f"The first {len(steps)} trials all failed; the last: {steps[-1].problem['message']}",
            hint="Correct the recipe or the space and start the search again.",
            exit_code=4,
        )
        finish(ctx, campaign.id, "failed", summary=_summary(file, campaign, steps, {}), problem=problem)
        return
    _ask(ctx, file, campaign, steps)


def _launch(ctx: Context, campaign: Row[Any], step: Row[Any], steps: list[Row[Any]]) -> None:
    body = t.SubmitJob(
        kind=campaign.spec["kind"],
        inputs=campaign.spec["inputs"],
        parameters=campaign.spec["parameters"] | step.spec,
        seed=campaign.spec["run_seed"],
    )
    try:
        child_jobs.start(ctx, step, body)
    except BadInput as refused:
        if refused.code == "training.memory" and any(other.state == "running" for other in steps):
            return  # the memory is with a trial that will end
        set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem_of(refused)), outcome=_OUTCOME)


def _look(ctx: Context, file: SearchFile, step: Row[Any], steps: list[Row[Any]], reports: Reports) -> None:
    """See what became of a running trial. The median rule comes first, so that it does not matter who was faster."""
    job = child_jobs.job_of(ctx, step)
    seen = reports(job.id, file.metric)
    minimize = file.direction == "minimize"
    earlier = _earlier(file, step, steps) if file.pruner == "median" else []
    cut = pruned_at(seen, earlier, minimize=minimize)
    if cut is not None:
        child_jobs.stop(ctx, job)
        known = {str(at): value for at, value in upto(seen, cut).items()}
        set_step(ctx, step, state="pruned", outcome={"value": None, "reports": known, "pruned_at": cut})
        return
    outcome: dict[str, Any] = {"value": None, "reports": {str(at): value for at, value in seen.items()}}
    match job.state:
        case "succeeded":
            figures = child_jobs.figures_of(job)
            value = figures.get(file.metric)
            if value is None:
                problem = Problem(
                    code="search.no_metric",
                    message=f"Run {job.id} has no figure {file.metric}; it has {', '.join(figures)}.",
                    hint="Name one of these as metric.",
                    exit_code=2,
                )
                set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem), outcome=outcome)
            else:
                set_step(ctx, step, state="succeeded", outcome=outcome | {"value": value})
        case "failed" | "cancelled":
            problem = child_jobs.why_ended(job)
            set_step(ctx, step, state="failed", problem=msgspec.to_builtins(problem), outcome=outcome)


def _earlier(file: SearchFile, step: Row[Any], steps: list[Row[Any]]) -> list[Mapping[int, float]]:
    first = (step.number - 1) // file.batch * file.batch + 1
    return [
        {int(at): value for at, value in other.outcome["reports"].items()}
        for other in steps
        if other.number < first and other.state == "succeeded"
    ]


def _ask(ctx: Context, file: SearchFile, campaign: Row[Any], steps: list[Row[Any]]) -> None:
    """Have the next batch drawn, or the importance of the fields when there is none; then go on or end."""
    count = min(file.batch, file.trials - len(steps))
    question = Question(
        space=file.space,
        direction="maximize" if file.direction == "maximize" else "minimize",
        startup=file.startup,
        count=count,
        history=tuple(_told(step) for step in steps),
    )
    asked = (campaign.summary or {}).get("asking", "")
    if not asked:
        environment = bare_environment(ctx)
        packages = environment.packages | {"optuna": version("optuna")}
        spec = JobSpec(
            kind=JobKind.SEARCH_ASK,
            inputs={},
            parameters=msgspec.to_builtins(question),
            seed=file.seed,
            environment=msgspec.structs.replace(environment, packages=packages),
        )
        title = f"trials {len(steps) + 1} to {len(steps) + count}" if count else "importance"
        view = enqueue(ctx, spec, title=title, reuse=True)
        with ctx.appliance.database.write() as connection:
            set_campaign(connection, campaign.id, summary={"asking": view.id})
        asked = view.id
    with ctx.appliance.database.read() as connection:
        job = find_job(connection, asked)
    if job.state in ("failed", "cancelled"):
        problem = child_jobs.why_ended(job)
        finish(ctx, campaign.id, "failed", summary=_summary(file, campaign, steps, {}), problem=problem)
    elif job.state == "succeeded" and count:
        first = len(steps) + 1
        drawn = [(f"trial {number}", given) for number, given in enumerate(job.summary["asked"], start=first)]
        with ctx.appliance.database.write() as connection:
            add_steps(connection, campaign.id, drawn, first=first)
            set_campaign(connection, campaign.id, summary={})
    elif job.state == "succeeded":
        summary = _summary(file, campaign, steps, job.summary["importance"])
        best = summary.get("job", "")
        drop_outputs(ctx, campaign.id, keep={best})
        finish(ctx, campaign.id, "succeeded", summary=summary)


def _told(step: Row[Any]) -> Told:
    outcome = step.outcome
    return Told(parameters=step.spec, state=_TOLD[step.state], value=outcome["value"], reports=outcome["reports"])


def _summary(
    file: SearchFile, campaign: Row[Any], steps: list[Row[Any]], importance: Mapping[str, float]
) -> dict[str, Any]:
    counts = {state: sum(step.state == state for step in steps) for state in ("succeeded", "pruned", "failed")}
    done = [step for step in steps if step.state == "succeeded"]
    if not done:
        return {"trials": counts}
    sign = 1 if file.direction == "minimize" else -1
    best = min(done, key=lambda step: (sign * step.outcome["value"], step.number))
    parameters = campaign.spec["parameters"] | best.spec
    run = RunFile(
        kind=campaign.spec["kind"],
        inputs=campaign.spec["inputs"],
        recipe=parse_recipe(campaign.spec["kind"], parameters),
        seed=campaign.spec["run_seed"],
    )
    return {
        "trials": counts,
        "best": best.number,
        "value": best.outcome["value"],
        "values": best.spec,
        "job": best.job_id,
        "recipe": canonical_text(run),
        "importance": dict(importance),
    }


def _form_of_rows(ctx: Context, given: Mapping[str, InputRef]) -> str:
    """Return the form of the rows that runs learn from; empty where there are none."""
    refs = [ref.ref for name, ref in given.items() if name in DATASET_INPUTS]
    with ctx.appliance.database.read() as connection:
        forms = [str(find_dataset(connection, ref).summary["form"]) for ref in refs]
    return forms[0] if forms else ""


def _ends(dimension: Dimension) -> tuple[Any, ...]:
    """Return the values at which a field of the space is tried before anything runs."""
    return dimension.choices or (dimension.low, dimension.high)
