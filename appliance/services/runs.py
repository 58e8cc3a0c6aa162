"""Everything about one run in one answer, and the same recipe once more in today's environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from appliance.api import types as t
from appliance.jobs.spec import JobSpec
from appliance.kernel.events import CheckpointSaved, CheckpointSkipped, Note
from appliance.services.child_jobs import figures_of
from appliance.services.context import Context
from appliance.services.environment_locks import find_lock, requirements_text
from appliance.services.job_parts import parts_of
from appliance.services.jobs import enqueue, job_view
from appliance.services.machine import environment
from appliance.services.records import file_entries, find_job, ref_of, verification_views
from appliance.services.reruns import differences
from appliance.store.schema import jobs, models
from appliance.training.recipe_file import RunFile, canonical_text
from appliance.training.recipes.registry import parse_recipe

Log = Callable[[str], tuple[t.JobEvent, ...]]
"""Job -> its events."""

_NOTES = 20


def show(ctx: Context, text: str, log: Log) -> t.RunDetail:
    """Return a run with its recipe, inputs, environment, figures, outputs and what was made of it."""
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, text)
        spec = msgspec.convert(row.spec, JobSpec)
        lock = find_lock(connection, row.lock)
        made, children = _versions(connection, row.id), _children(connection, row.id)
        verified = verification_views(connection, [row.id])
        different = differences(ctx, connection, row)
        part = parts_of(connection, [row.id]).get(row.id)
    return t.RunDetail(
        job=job_view(row, part=part),
        inputs=tuple(
            t.RunInput(
                name=name,
                ref=given.ref,
                digest=given.digest,
                files=len(given.files),
                size=sum(entry.size for entry in given.files),
            )
            for name, given in sorted(spec.inputs.items())
        ),
        parameters=spec.parameters,
        recipe_file=_recipe_file(spec),
        seed=spec.seed,
        fold=msgspec.to_builtins(spec.fold) if spec.fold else {},
        environment=msgspec.to_builtins(spec.environment),
        lock=row.lock,
        requirements=requirements_text(lock) if lock else "",
        metrics=figures_of(row),
        outputs=file_entries(row.files),
        events=_events(log(row.id)),
        versions=made,
        parents=tuple(given.ref for _, given in sorted(spec.inputs.items()) if given.ref.startswith("run:")),
        children=children,
        verifications=verified,
        differences=different,
    )


def repeat(ctx: Context, text: str) -> t.JobView:
    """Queue a run's recipe, inputs and seed once more in the present environment; an equal run is returned."""
    ctx.authorise("job.submit", text)
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, text)
    spec = msgspec.convert(row.spec, JobSpec)
    present = environment(ctx.appliance.settings.training_threads, ctx.appliance.code_digest)
    return enqueue(ctx, msgspec.structs.replace(spec, environment=present), title=row.title, reuse=True)


def _recipe_file(spec: JobSpec) -> str:
    if not spec.kind.startswith("train.") or spec.fold is not None:
        return ""
    inputs = {name: given.ref for name, given in spec.inputs.items()}
    recipe = parse_recipe(spec.kind, spec.parameters)
    return canonical_text(RunFile(kind=spec.kind, inputs=inputs, recipe=recipe, seed=spec.seed))


def _events(events: tuple[t.JobEvent, ...]) -> t.RunEvents:
    notes = [entry.event.text for entry in events if isinstance(entry.event, Note)]
    return t.RunEvents(
        events=len(events),
        first=events[0].at if events else "",
        last=events[-1].at if events else "",
        checkpoints=sum(isinstance(entry.event, CheckpointSaved) for entry in events),
        skipped_checkpoints=sum(isinstance(entry.event, CheckpointSkipped) for entry in events),
        notes=tuple(notes[-_NOTES:]),
    )


def _versions(connection: Connection, job_id: str) -> tuple[str, ...]:
    """Return the versions in whose lineage the run stands, newest first."""
    rows: list[Row[Any]] = list(
        connection.execute(select(models).where(models.c.removed_at == "").order_by(models.c.id.desc()))
    )
    return tuple(ref_of(row) for row in rows if any(step["job"] == job_id for step in row.lineage.get("runs", [])))


def _children(connection: Connection, job_id: str) -> tuple[str, ...]:
    rows = connection.execute(select(jobs.c.id, jobs.c.spec).order_by(jobs.c.id))
    wanted = f"run:{job_id}"
    return tuple(
        f"run:{row.id}" for row in rows if any(given["ref"] == wanted for given in row.spec["inputs"].values())
    )
