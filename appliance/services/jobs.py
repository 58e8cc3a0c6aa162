"""Queues, cancels and resumes jobs, and turns what a person asked for into a canonical specification.

An equal specification that already succeeded is returned instead of repeated: its bytes would be the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from appliance.api import types as t
from appliance.conversion.ladder import parse as parse_ladder
from appliance.jobs.spec import Environment, FileEntry, Fold, InputRef, JobKind, JobSpec, manifest_digest
from appliance.kernel.clock import new_id, to_text
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem
from appliance.services.context import Context
from appliance.services.environment_locks import environment_lock, keep_lock
from appliance.services.job_parts import parts_of
from appliance.services.machine import environment
from appliance.services.planning import memory_plan
from appliance.services.records import (
    file_entries,
    find_dataset,
    find_job,
    find_model,
    find_suite,
    ref_of,
    served_gguf,
)
from appliance.services.training_inputs import require_evaluable, require_trainable
from appliance.store.schema import jobs
from appliance.training.recipes.registry import RECIPES, parse_recipe, recipe_kind
from appliance.tuning.ladder import parse as parse_tuning

UNFINISHED = ("queued", "running")

_WANTED: dict[JobKind, tuple[frozenset[str], frozenset[str]]] = {
    **{JobKind(f"train.{name}"): (kind.required_inputs, kind.optional_inputs) for name, kind in RECIPES.items()},
    JobKind.EVALUATE: (frozenset({"model"}), frozenset({"dataset", "suite"})),
    JobKind.CONVERT_GGUF: (frozenset({"model"}), frozenset({"dataset"})),
    JobKind.CONVERT_LADDER: (frozenset({"model"}), frozenset({"dataset"})),
    JobKind.CONVERT_ADAPTER: (frozenset({"model"}), frozenset({"dataset"})),
    JobKind.TUNE: (frozenset({"model"}), frozenset()),
}
DATASET_INPUTS = frozenset({"corpus", "dataset"})
TRAINS = frozenset(JobKind(f"train.{name}") for name in RECIPES)
"""Kinds whose outputs are a model."""


def submit(ctx: Context, body: t.SubmitJob, *, fold: Fold | None = None) -> t.JobView:
    """Queue a training, evaluation or conversion run; `fold` holds out a part of the training rows instead."""
    ctx.authorise("job.submit", body.kind)
    kind = kind_of(body.kind)
    inputs = resolve(ctx, kind, body.inputs)
    parameters = body.parameters
    if kind in TRAINS:
        recipe = parse_recipe(kind, body.parameters)
        require_trainable(ctx, kind, inputs, recipe, folded=fold is not None)
        memory_plan(ctx, inputs, recipe).require()
        parameters = msgspec.to_builtins(recipe)
    if kind == JobKind.EVALUATE:
        require_evaluable(ctx, inputs)
    if kind == JobKind.CONVERT_LADDER:
        parameters = msgspec.to_builtins(parse_ladder(parameters))
    if kind == JobKind.TUNE:
        parameters = msgspec.to_builtins(parse_tuning(parameters)) | {"model": _figures(ctx, body.inputs["model"])}
    spec = spec_of(ctx, kind, inputs, parameters, seed=body.seed, fold=fold)
    refs = [ref.ref for name, ref in sorted(inputs.items(), key=lambda item: item[0] in DATASET_INPUTS)]
    title = " + ".join(dict.fromkeys(refs))
    return enqueue(ctx, spec, title=title, reuse=kind != JobKind.TUNE)  # a measurement is worth repeating


def spec_of(
    ctx: Context,
    kind: JobKind,
    inputs: dict[str, InputRef],
    parameters: dict[str, Any],
    *,
    seed: int,
    fold: Fold | None = None,
) -> JobSpec:
    """Return the specification of a run on this machine, with the threads that jobs have here."""
    return JobSpec(
        kind=kind,
        inputs=inputs,
        parameters=parameters,
        seed=seed,
        environment=environment(ctx.appliance.settings.training_threads, ctx.appliance.code_digest),
        fold=fold,
    )


def enqueue(ctx: Context, spec: JobSpec, *, title: str, reuse: bool, repeats: str = "") -> t.JobView:
    """Record a job and wake the runner; with `reuse`, an equal queued, running or succeeded run is returned.

    `repeats` is the job whose run this one does again to compare the bytes.
    """
    run_id = spec.run_id
    job_id = new_id()
    lock = environment_lock()
    with ctx.appliance.database.write() as connection:
        if reuse and (row := equal_run(connection, run_id)) is not None:
            return job_view(row, cached=row.state == "succeeded")
        connection.execute(
            insert(jobs).values(
                id=job_id,
                kind=spec.kind,
                title=title,
                run_id=run_id,
                spec=msgspec.to_builtins(spec),
                state="queued",
                created_by=ctx.caller.user,
                created_at=to_text(ctx.appliance.clock()),
                campaign_id=ctx.campaign,
                repeats=repeats,
                lock=keep_lock(connection, lock, at=to_text(ctx.appliance.clock())),
            )
        )
        part_of = {"campaign": ctx.campaign} if ctx.campaign else {}
        ctx.record(connection, "job.submit", job_id, kind=str(spec.kind), run_id=run_id, **part_of)
        view = job_view(find_job(connection, job_id))
    ctx.appliance.doorbell.ring()
    return view


def cancel(ctx: Context, text: str) -> t.JobView:
    """Stop a job; what it has saved stays."""
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, text)
    ctx.authorise("job.cancel", row.id)
    with ctx.appliance.database.write() as connection:
        row = find_job(connection, row.id)
        if row.state not in UNFINISHED:
            raise Conflict("job.not_running", f"Job {row.id} is already {row.state}.")
        request_cancel(ctx, connection, row)
        view = job_view(find_job(connection, row.id))
    ctx.appliance.doorbell.ring()
    return view


def request_cancel(ctx: Context, connection: Connection, row: Row[Any]) -> None:
    """Take a waiting job off the queue, or ask a running one to stop; the caller rings the doorbell."""
    values: dict[str, Any] = {"cancel_requested": True}
    if row.state == "queued":
        values |= {"state": "cancelled", "finished_at": to_text(ctx.appliance.clock())}
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
    ctx.record(connection, "job.cancel", row.id)


def is_stopping(row: Row[Any]) -> bool:
    """Return whether a job was asked to stop and has not yet."""
    return row.state in UNFINISHED and bool(row.cancel_requested)


def resume(ctx: Context, text: str) -> t.JobView:
    """Queue a stopped job again; it goes on from its newest valid checkpoint."""
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, text)
    ctx.authorise("job.submit", row.id)
    with ctx.appliance.database.write() as connection:
        row = find_job(connection, row.id)
        if row.state not in ("cancelled", "failed", "interrupted"):
            raise Conflict(
                "job.not_stopped",
                f"Job {row.id} is {row.state}; only a stopped job can be resumed.",
                hint="Follow it with `intramuros job log`.",
            )
        connection.execute(
            update(jobs)
            .where(jobs.c.id == row.id)
            .values(state="queued", cancel_requested=False, problem=None, stalled=0, finished_at="")
        )
        ctx.record(connection, "job.resume", row.id)
        view = job_view(find_job(connection, row.id))
    ctx.appliance.doorbell.ring()
    return view


def list_jobs(ctx: Context, live: dict[str, Progress]) -> tuple[t.JobView, ...]:
    """Return queue and history, newest first, with the live progress of running ones."""
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(select(jobs).order_by(jobs.c.id.desc()).limit(500)).all()
        parts = parts_of(connection, [row.id for row in rows if row.campaign_id])
    return tuple(job_view(row, progress=live.get(row.id), part=parts.get(row.id)) for row in rows)


def show(ctx: Context, text: str, live: dict[str, Progress]) -> t.JobDetail:
    """Return one job with its specification."""
    with ctx.appliance.database.read() as connection:
        row = find_job(connection, text)
        part = parts_of(connection, [row.id]).get(row.id)
    view = job_view(row, progress=live.get(row.id), part=part)
    return t.JobDetail(job=view, spec=row.spec, files=file_entries(row.files))


def job_view(
    row: Row[Any], *, progress: Progress | None = None, cached: bool = False, part: t.JobPart | None = None
) -> t.JobView:
    """Return one job as the control API tells it."""
    return t.JobView(
        id=row.id,
        kind=row.kind,
        title=row.title,
        run_id=row.run_id,
        state=row.state,
        created_by=row.created_by,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempt=row.attempt,
        progress=progress,
        problem=msgspec.convert(row.problem, Problem) if row.problem else None,
        summary=row.summary or {},
        output_digest=row.output_digest,
        cached=cached,
        parent=row.campaign_id,
        repeats=row.repeats,
        part=part,
    )


def bare_environment(ctx: Context) -> Environment:
    """Return the environment of jobs that only copy and parse."""
    return environment(1, ctx.appliance.code_digest)


def equal_run(connection: Connection, run_id: str) -> Row[Any] | None:
    """Return the job that is or was the same run and whose result can be had, or None."""
    return connection.execute(
        select(jobs)
        .where(jobs.c.run_id == run_id, jobs.c.state.in_((*UNFINISHED, "succeeded")), jobs.c.spec.is_not(None))
        .where(jobs.c.repeats == "")
        .where(
            ((jobs.c.state == "succeeded") & (jobs.c.output_digest != ""))
            | ((jobs.c.state != "succeeded") & jobs.c.cancel_requested.is_(False))
        )
        .order_by(jobs.c.id.desc())
        .limit(1)
    ).first()


def kind_of(text: str) -> JobKind:
    """Return the kind of work with that name. Raises BadInput (`job.kind`)."""
    if text not in {str(kind) for kind in _WANTED}:
        raise BadInput("job.kind", f"{text!r} is not a kind of job.", hint=f"Kinds: {', '.join(sorted(_WANTED))}.")
    return JobKind(text)


def resolve(ctx: Context, kind: JobKind, given: dict[str, str]) -> dict[str, InputRef]:
    """Return the inputs of a job by digest. Raises BadInput (`job.inputs`) or NotFound."""
    required, optional = _WANTED[kind]
    missing, unknown = required - given.keys(), given.keys() - required - optional
    if missing or unknown:
        what = f"misses {', '.join(sorted(missing))}" if missing else f"has no input {', '.join(sorted(unknown))}"
        raise BadInput("job.inputs", f"A {kind} job {what}.", hint=f"Inputs: {', '.join(sorted(required))}.")
    with ctx.appliance.database.read() as connection:
        found = {
            name: _data_input(connection, kind, text)
            if name in DATASET_INPUTS
            else (_gguf_input if kind == JobKind.TUNE else model_input)(connection, text)
            for name, text in given.items()
            if name != "suite"
        }
        return found | _asked_inputs(connection, kind, given) | _made_of(connection, kind, given)


def _data_input(connection: Connection, kind: JobKind, text: str) -> InputRef:
    """Return a data set that this kind of training can learn from as an input. Raises BadInput (`job.form`)."""
    row = find_dataset(connection, text)
    wanted, form = recipe_kind(kind).learns_from if kind in TRAINS else (), row.summary["form"]
    if wanted and form not in wanted:
        raise BadInput(
            "job.form",
            f"{kind} learns from {' or '.join(wanted)} rows; {ref_of(row)} has {form} rows.",
            hint=f"Choose another data set, or import the file again with --form {wanted[0]}.",
        )
    return _dataset_ref(row)


def _asked_inputs(connection: Connection, kind: JobKind, given: dict[str, str]) -> dict[str, InputRef]:
    """Return a suite and the data sets it names as inputs. Raises BadInput when an evaluation has not exactly one."""
    if kind != JobKind.EVALUATE:
        return {}
    if ("suite" in given) == ("dataset" in given):
        raise BadInput(
            "job.inputs", "An evaluation is on a suite or on a data set.", hint="Give --suite NAME or --data NAME."
        )
    if "suite" not in given:
        return {}
    row = find_suite(connection, given["suite"])
    found = {"suite": InputRef(ref=ref_of(row), digest=row.digest, files=file_entries(row.files))}
    return found | {f"data.{data}": dataset_input(connection, data) for data in row.summary["data"]}


def _made_of(connection: Connection, kind: JobKind, given: dict[str, str]) -> dict[str, InputRef]:
    """Return what else a conversion needs: data to measure on, and an adapter with the base it was made for."""
    if kind == JobKind.CONVERT_LADDER and "dataset" not in given:
        trained_on = trained_data(connection, given["model"])
        if not trained_on:
            raise BadInput(
                "conversion.no_data",
                f"{given['model']} names no data that it was trained on, so there is no text to measure it with.",
                hint="Name a data set with --data; its held-out part is measured.",
            )
        return {"dataset": dataset_input(connection, trained_on[0])}
    if kind == JobKind.CONVERT_ADAPTER:
        return adapter_inputs(connection, given["model"])
    return {}


def trained_data(connection: Connection, text: str) -> list[str]:
    """Return the data sets that a version, or a run's output, was trained on."""
    if text.startswith("run:"):
        inputs = find_job(connection, text).spec["inputs"]
        return [given["ref"] for name, given in sorted(inputs.items()) if name in DATASET_INPUTS]
    return [item["ref"] for item in find_model(connection, text).lineage.get("datasets", [])]


def adapter_inputs(connection: Connection, text: str) -> dict[str, InputRef]:
    """Return the adapter that lies with a model, and the base it was trained on. Raises BadInput `model.no_adapter`."""
    row = find_job(connection, text) if text.startswith("run:") else find_model(connection, text)
    files = tuple(
        FileEntry(path=entry.path.removeprefix("adapter/"), digest=entry.digest, size=entry.size)
        for entry in file_entries(row.files)
        if entry.path in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
    )
    base = row.spec["inputs"].get("base") if text.startswith("run:") else row.lineage.get("base")
    if len(files) != 2 or base is None:
        raise BadInput(
            "model.no_adapter",
            f"{text} has no adapter beside it.",
            hint="Only models that were tuned by LoRA here have one.",
        )
    ref = text if text.startswith("run:") else ref_of(row)
    return {
        "adapter": InputRef(ref=ref, digest=manifest_digest(files), files=files),
        "base": model_input(connection, base["ref"]),
    }


def _gguf_input(connection: Connection, text: str) -> InputRef:
    """Return a version's GGUF file as a job input; its digest is the file's own."""
    row = find_model(connection, text)
    entry = served_gguf(file_entries(row.files))
    if entry is not None:
        return InputRef(ref=ref_of(row), digest=entry.digest, files=(entry,))
    raise BadInput(
        "model.no_gguf",
        f"{ref_of(row)} has no GGUF file; only those are tuned.",
        hint=f"Convert it first: `intramuros model convert {ref_of(row)}`.",
    )


def _figures(ctx: Context, text: str) -> dict[str, Any]:
    """Return what a tuning run must know of a model beyond its file."""
    with ctx.appliance.database.read() as connection:
        described: dict[str, Any] = find_model(connection, text).description
    return {name: described[name] for name in ("parameters", "quantisation") if name in described}


def dataset_input(connection: Connection, text: str) -> InputRef:
    """Return a data set version as a job input."""
    return _dataset_ref(find_dataset(connection, text))


def _dataset_ref(row: Row[Any]) -> InputRef:
    return InputRef(ref=ref_of(row), digest=row.digest, files=file_entries(row.files))


def model_input(connection: Connection, text: str) -> InputRef:
    """Return the Hugging Face part of a version's or a finished run's files as a job input."""
    if text.startswith("run:"):
        row = find_job(connection, text)
        if row.state != "succeeded" or row.kind not in TRAINS:
            raise BadInput(
                "ref.not_a_model",
                f"{text} is {row.state} {row.kind}, not a finished training run.",
                hint="See `intramuros job list`.",
            )
        ref, files = f"run:{row.id}", file_entries(row.files)
    else:
        row = find_model(connection, text)
        ref, files = ref_of(row), file_entries(row.files)
    folder = huggingface_part(files)
    if not folder:
        raise BadInput(
            "model.no_weights",
            f"{text} has no safetensors weights; training, evaluation and conversion need them.",
            hint="Import the Hugging Face folder of the model as well.",
        )
    return InputRef(ref=ref, digest=manifest_digest(folder), files=folder)


def encoder_part(files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    """Return a model's Hugging Face folder with what lies deeper in it, such as how an encoder pools."""
    deeper = tuple(
        entry for entry in files if "/" in entry.path and entry.path.endswith(".json") and "adapter" not in entry.path
    )
    return (*huggingface_part(files), *deeper)


def huggingface_part(files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    """Return the top-level files of a model's Hugging Face folder: no adapter, no GGUF, no report."""
    return tuple(
        entry
        for entry in files
        if "/" not in entry.path and not entry.path.endswith(".gguf") and entry.path != "parity.json"
    )
