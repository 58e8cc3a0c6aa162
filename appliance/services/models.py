"""Models: import, register, verify, remove. A registered version never changes; nothing in use can be removed."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from appliance.api import types as t
from appliance.jobs.spec import FileEntry, JobKind, JobSpec, manifest_digest
from appliance.kernel.clock import new_id, to_text
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.sources import resolve_source
from appliance.registry.refs import check_name
from appliance.services.blob_references import known_digests, release_unreferenced
from appliance.services.context import Context
from appliance.services.jobs import TRAINS, UNFINISHED, bare_environment, enqueue, huggingface_part
from appliance.services.lineage import lineage_of
from appliance.services.records import (
    approval_views,
    evaluation_views,
    file_entries,
    find_job,
    find_model,
    model_view,
    ref_of,
    verdict_views,
    verification_views,
)
from appliance.store.schema import deployments, jobs, models, revisions, stages


def list_models(ctx: Context) -> tuple[t.ModelView, ...]:
    """Return every registered version, newest first."""
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(
            select(models).where(models.c.removed_at == "").order_by(models.c.created_at.desc())
        ).all()
        return tuple(model_view(connection, row) for row in rows)


def show(ctx: Context, text: str) -> t.ModelDetail:
    """Return one version with its lineage."""
    with ctx.appliance.database.read() as connection:
        return model_detail(connection, find_model(connection, text))


def import_model(ctx: Context, body: t.ImportModel) -> t.JobView:
    """Queue the import of a GGUF file or a Hugging Face folder. Untrusted bytes are only read in the job."""
    ctx.authorise("model.import", body.name)
    check_name(body.name, what="model")
    source = str(resolve_source(body.source, state=ctx.appliance.paths))
    spec = JobSpec(
        kind=JobKind.IMPORT_MODEL,
        inputs={},
        parameters={
            "source": source,
            "name": body.name,
            "licence": body.licence,
        },
        seed=0,
        environment=bare_environment(ctx),
    )
    return enqueue(ctx, spec, title=body.name, reuse=False)


def register(ctx: Context, body: t.RegisterModel) -> t.ModelDetail:
    """Register the outputs of a finished training or conversion run as the next version of a name."""
    ctx.authorise("model.register", body.name)
    check_name(body.name, what="model")
    with ctx.appliance.database.write() as connection:
        run = find_job(connection, body.run)
        files, parity = _registrable(connection, run, body.rung)
        _require_kept(connection, run, files)
        lineage = lineage_of(connection, run)
        row = insert_version(
            ctx,
            connection,
            name=body.name,
            kind=_kind(lineage),
            licence=body.licence or _inherited_licence(connection, run, lineage),
            description=_description(connection, run, body.rung),
            files=files,
            lineage=lineage,
            parity=parity,
            created_by=ctx.caller.user,
        )
        return model_detail(connection, row)


def insert_version(
    ctx: Context,
    connection: Connection,
    *,
    name: str,
    kind: str,
    licence: str,
    description: dict[str, Any],
    files: tuple[FileEntry, ...],
    lineage: dict[str, Any],
    parity: dict[str, Any] | None,
    created_by: str,
) -> Row[Any]:
    """Insert the next version of a name, or return the present one that has the same bytes."""
    digest = manifest_digest(files)
    same = connection.execute(
        select(models).where(models.c.name == name, models.c.digest == digest, models.c.removed_at == "")
    ).first()
    if same is not None:
        return same
    newest = connection.execute(select(func.max(models.c.version)).where(models.c.name == name)).scalar() or 0
    folder = huggingface_part(files)
    model_id = new_id()
    connection.execute(
        insert(models).values(
            id=model_id,
            name=name,
            version=newest + 1,
            digest=digest,
            kind=kind,
            licence=licence,
            description=description,
            files=msgspec.to_builtins(files),
            weights_digest=manifest_digest(folder or files),
            lineage=lineage,
            parity=parity,
            created_by=created_by,
            created_at=to_text(ctx.appliance.clock()),
        )
    )
    ctx.record(connection, "model.register", f"{name}@{newest + 1}", digest=digest, kind=kind)
    return find_model(connection, f"{name}@{newest + 1}")


def verify(ctx: Context, text: str) -> t.ModelDetail:
    """Re-hash every file of a version. Raises IntegrityFailure naming the first that differs."""
    with ctx.appliance.database.read() as connection:
        row = find_model(connection, text)
        detail = model_detail(connection, row)
    for entry in detail.files:
        ctx.appliance.blobs.verify(entry.digest)
    return detail


def remove(ctx: Context, text: str) -> t.ModelView:
    """Remove a version that nothing depends on, and free its bytes."""
    with ctx.appliance.database.read() as connection:
        ref = ref_of(find_model(connection, text))
    ctx.authorise("model.remove", ref)
    with ctx.appliance.adopting:
        view, freed = _forget(ctx, ref)
        for digest in freed:
            ctx.appliance.blobs.remove(digest)
    return view


def _forget(ctx: Context, ref: str) -> tuple[t.ModelView, tuple[str, ...]]:
    with ctx.appliance.database.write() as connection:
        row = find_model(connection, ref)
        view = model_view(connection, row)
        if users := dependants(connection, row):
            raise Conflict(
                "model.in_use",
                f"{ref} cannot be removed: {', '.join(users)} depends on it.",
                hint="Remove what depends on it first.",
            )
        connection.execute(
            update(models).where(models.c.id == row.id).values(removed_at=to_text(ctx.appliance.clock()))
        )
        freed = release_unreferenced(connection, file_entries(row.files))
        ctx.record(connection, "model.remove", ref, digest=row.digest, files_freed=len(freed))
        return view, freed


def model_detail(connection: Connection, row: Row[Any]) -> t.ModelDetail:
    """Return a version with everything that is known of it."""
    reached = connection.execute(select(stages).where(stages.c.model_id == row.id).order_by(stages.c.id)).all()
    description = dict(row.description)
    if row.parity:
        description["parity"] = row.parity
    return t.ModelDetail(
        model=model_view(connection, row),
        description=description,
        files=file_entries(row.files),
        lineage=row.lineage,
        evaluations=evaluation_views(connection, row.weights_digest),
        approvals=approval_views(connection, row.id),
        stages=tuple(
            t.StageView(stage=step.stage, by=step.by, at=step.at, verdict=step.verdict.get("text", ""))
            for step in reached
        ),
        used_by=tuple(dependants(connection, row)),
        verifications=verification_views(connection, [step["job"] for step in row.lineage.get("runs", [])]),
        verdicts=verdict_views(connection, row.id),
    )


def dependants(connection: Connection, row: Row[Any]) -> list[str]:
    """Name what would break if this version went: deployments, models tuned or taught by it, unfinished jobs."""
    ref = ref_of(row)
    served = connection.execute(
        select(deployments.c.name, revisions.c.number, deployments.c.live_revision)
        .join(revisions, revisions.c.deployment == deployments.c.name)
        .where(
            revisions.c.model_id == row.id,
            deployments.c.removed_at == "",
            revisions.c.state.in_(("starting", "live", "superseded")),
        )
    ).all()
    found = sorted({f"deployment {entry.name}" for entry in served} | _served_beside(connection, ref))
    children = connection.execute(select(models).where(models.c.removed_at == "")).all()
    found += [
        f"model {ref_of(child)}"
        for child in children
        if ref in {(child.lineage.get(name) or {}).get("ref") for name in ("base", "teacher")}
    ]
    waiting = connection.execute(select(jobs.c.id, jobs.c.spec).where(jobs.c.state.in_(UNFINISHED)))
    own = {entry.digest for entry in file_entries(row.files)}
    found += [f"job {job.id}" for job in waiting if _reads(job.spec["inputs"], ref, own)]
    return found


def _served_beside(connection: Connection, ref: str) -> set[str]:
    """Name the deployments that offer this version's adapter, or let it guess."""
    query = (
        select(deployments.c.name, revisions.c.options)
        .join(revisions, revisions.c.deployment == deployments.c.name)
        .where(deployments.c.removed_at == "", revisions.c.state.in_(("starting", "live", "superseded")))
    )
    return {
        f"deployment {row.name}"
        for row in connection.execute(query)
        if any(entry["ref"] == ref for entry in _beside(row.options))
    }


def _beside(options: dict[str, Any]) -> list[dict[str, Any]]:
    draft = options.get("draft")
    return [*options.get("adapters", {}).values(), *([draft] if draft else [])]


def _reads(inputs: dict[str, Any], ref: str, digests: set[str]) -> bool:
    """Tell whether a job takes in that version, by its name or as the run whose outputs only the version conserves."""
    return any(
        given["ref"] == ref
        or (given["ref"].startswith("run:") and digests & {entry["digest"] for entry in given["files"]})
        for given in inputs.values()
    )


def _registrable(
    connection: Connection, run: Row[Any], rung: str
) -> tuple[tuple[FileEntry, ...], dict[str, Any] | None]:
    """Return the files a version made from this run consists of, and the parity report if it has one."""
    if run.state != "succeeded":
        raise Conflict("run.not_finished", f"Run {run.id} is {run.state}; only a finished run can be registered.")
    outputs = file_entries(run.files)
    if rung and run.kind != JobKind.CONVERT_LADDER:
        raise BadInput("run.no_rung", f"Run {run.id} is of kind {run.kind}; only a ladder has rungs.")
    if run.kind in TRAINS:
        # A report quotes the data it was measured on: it stays with the run, and leaves the box with no model.
        return tuple(entry for entry in outputs if not entry.path.startswith("report/")), None
    if run.kind == JobKind.CONVERT_LADDER:
        return _rung_files(connection, run, rung)
    if run.kind == JobKind.CONVERT_ADAPTER:
        return _with_adapter(connection, run)
    if run.kind != JobKind.CONVERT_GGUF:
        raise BadInput(
            "run.not_a_model",
            f"Run {run.id} is of kind {run.kind}; its outputs are no model.",
            hint="Register a train or convert run.",
        )
    source = msgspec.convert(run.spec, JobSpec).inputs["model"]
    return (*_whole_source(connection, source.ref, source.files), *outputs), run.summary["parity"]


def _rung_files(
    connection: Connection, run: Row[Any], rung: str
) -> tuple[tuple[FileEntry, ...], dict[str, Any] | None]:
    """Return the source's folder with one rung as its GGUF file, and what was measured of that rung."""
    made = {one["name"]: one for one in run.summary["rungs"] if one["made"]}
    if rung not in made:
        raise BadInput(
            "run.no_rung",
            f"Run {run.id} has no rung {rung or '(none was named)'}.",
            hint=f"Name one with --rung: {', '.join(made) or 'none was made'}.",
        )
    source = msgspec.convert(run.spec, JobSpec).inputs["model"]
    own = [entry for entry in file_entries(run.files) if entry.path == f"{rung}/model.gguf"]
    renamed = tuple(FileEntry(path="model.gguf", digest=entry.digest, size=entry.size) for entry in own)
    return (*_whole_source(connection, source.ref, source.files), *renamed), made[rung]["parity"]


def _with_adapter(connection: Connection, run: Row[Any]) -> tuple[tuple[FileEntry, ...], dict[str, Any] | None]:
    """Return everything of the model whose adapter was converted, with the adapter's GGUF file beside it."""
    ref = msgspec.convert(run.spec, JobSpec).inputs["model"].ref
    row = find_job(connection, ref) if ref.startswith("run:") else find_model(connection, ref)
    outputs = file_entries(run.files)
    named = {entry.path for entry in outputs}
    kept = tuple(entry for entry in file_entries(row.files) if entry.path not in named)
    return (*kept, *outputs), None if ref.startswith("run:") else row.parity


def _require_kept(connection: Connection, run: Row[Any], files: tuple[FileEntry, ...]) -> None:
    """Refuse a run whose bytes went when the version that conserved them was removed."""
    if not files or not {entry.digest for entry in files} <= known_digests(connection):
        raise Conflict(
            "run.no_outputs",
            f"The outputs of run {run.id} were deleted with the version that kept them.",
            hint="Submit the same run again; it will give the same bytes.",
        )


def _kind(lineage: dict[str, Any]) -> str:
    if lineage["base"] is not None:
        return "tuned"
    return "seed" if any(step["kind"] == JobKind.TRAIN_SEED for step in lineage["runs"]) else "imported"


def _inherited_licence(connection: Connection, run: Row[Any], lineage: dict[str, Any]) -> str:
    """Return the licence of the version this one was made from; what was trained here from nothing is ours."""
    made_from = [lineage["base"], run.spec["inputs"].get("model")]
    for given in made_from:
        if given is not None and not given["ref"].startswith("run:"):
            name, _, number = given["ref"].partition("@")
            query = select(models.c.licence).where(models.c.name == name, models.c.version == int(number))
            return str(connection.execute(query).scalar_one())
    return "Apache-2.0"


def _whole_source(connection: Connection, ref: str, folder: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    row = find_job(connection, ref) if ref.startswith("run:") else find_model(connection, ref)
    adapters = tuple(entry for entry in file_entries(row.files) if entry.path.startswith("adapter/"))
    return (*folder, *adapters)


def _description(connection: Connection, run: Row[Any], rung: str) -> dict[str, Any]:
    summary: dict[str, Any] = dict(run.summary or {})
    if run.kind == JobKind.CONVERT_ADAPTER:
        ref = run.spec["inputs"]["model"]["ref"]
        source = find_job(connection, ref) if ref.startswith("run:") else find_model(connection, ref)
        described = source.summary if ref.startswith("run:") else source.description
        return {**described, "adapter": summary}
    summary.pop("parity", None)
    rungs = summary.pop("rungs", [])
    if rung:
        summary["quantised"] = next(one for one in rungs if one["name"] == rung)
        summary["quantisation"] = rung
    return summary
