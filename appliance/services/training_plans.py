"""Shows a training run before it is queued: what it is, every default of it, and what it needs. Changes nothing."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from appliance.api import types as t
from appliance.jobs.spec import InputRef, JobKind
from appliance.kernel.errors import BadInput
from appliance.services.context import Context
from appliance.services.jobs import DATASET_INPUTS, TRAINS, equal_run, kind_of, resolve, spec_of
from appliance.services.planning import memory_plan
from appliance.services.records import find_dataset
from appliance.services.training_inputs import require_trainable
from appliance.training.plan import MemoryPlan
from appliance.training.recipe_file import RunFile, canonical_text
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.registry import parse_recipe, recipe_kind


def plan_training(ctx: Context, body: t.SubmitJob) -> t.TrainingPlanView:
    """Return the plan of a run that `submit` would queue with the same words. Raises what `submit` would."""
    ctx.authorise("read", body.kind)
    kind = _training_kind(body.kind)
    inputs = resolve(ctx, kind, body.inputs)
    recipe = parse_recipe(kind, body.parameters)
    require_trainable(ctx, kind, inputs, recipe, folded=body.folded)
    plan = memory_plan(ctx, inputs, recipe)
    spec = spec_of(ctx, kind, inputs, msgspec.to_builtins(recipe), seed=body.seed)
    with ctx.appliance.database.read() as connection:
        shown = _inputs(connection, kind, inputs)
        equal = equal_run(connection, spec.run_id)
    steps = recipe.steps_for(sum(given.train_rows for given in shown))
    return t.TrainingPlanView(
        kind=kind,
        run_id=spec.run_id,
        inputs=shown,
        recipe=spec.parameters,
        given=tuple(sorted(body.parameters)),
        seed=body.seed,
        threads=spec.environment.threads,
        steps=steps,
        tokens=None if steps is None else steps * _tokens_of_a_step(recipe),
        memory=_memory(plan),
        proposals=plan.proposals,
        equal_job="" if equal is None else equal.id,
        file=canonical_text(RunFile(kind=kind, inputs=body.inputs, recipe=recipe, seed=body.seed)),
    )


def _training_kind(text: str) -> JobKind:
    kind = kind_of(text)
    if kind not in TRAINS:
        raise BadInput("job.kind", f"{text!r} is not a kind of training.", hint=f"Kinds: {', '.join(sorted(TRAINS))}.")
    return kind


def _inputs(connection: Connection, kind: JobKind, inputs: dict[str, InputRef]) -> tuple[t.TrainingInput, ...]:
    found = []
    for word, name in recipe_kind(kind).inputs.items():
        if name not in inputs:
            continue
        given = t.TrainingInput(word=word, ref=inputs[name].ref, digest=inputs[name].digest)
        if name in DATASET_INPUTS:
            summary = find_dataset(connection, given.ref).summary
            given = msgspec.structs.replace(
                given,
                form=summary["form"],
                train_rows=summary["train_rows"],
                heldout_rows=summary["heldout_rows"],
            )
        found.append(given)
    return tuple(found)


def _tokens_of_a_step(recipe: Recipe) -> int:
    load = recipe.load()
    return load.batch_size * load.accumulation * load.sequence_length * load.copies


def _memory(plan: MemoryPlan) -> t.TrainingMemory:
    return t.TrainingMemory(
        weights=plan.weights,
        training_state=plan.training_state,
        activations=plan.activations,
        data=plan.data,
        process=plan.process,
        merging=plan.merging,
        total=plan.total,
        available=plan.available,
        fits=plan.fits,
    )
