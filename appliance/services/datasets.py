"""Data sets: queue an import, list, show, remove. A data set version is its content's digest and never changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from appliance.api import types as t
from appliance.datasets.forms import schema_from
from appliance.jobs.spec import JobKind, JobSpec
from appliance.kernel.clock import to_text
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.sources import resolve_source
from appliance.registry.refs import check_name
from appliance.services.blob_references import release_unreferenced
from appliance.services.context import Context
from appliance.services.jobs import UNFINISHED, bare_environment, enqueue
from appliance.services.records import dataset_view, file_entries, find_dataset, ref_of
from appliance.store.schema import datasets, jobs, models, suites


def import_dataset(ctx: Context, body: t.ImportDataset) -> t.JobView:
    """Queue the import of a file, several, or a folder. Bytes of the source are only read in the job."""
    ctx.authorise("dataset.import", body.name)
    check_name(body.name, what="data set")
    if not 0 <= body.heldout_percent <= 90:
        raise BadInput("dataset.heldout", f"{body.heldout_percent} % cannot be held out.", hint="Give 0 to 90.")
    schema_from(body.mapping, form=body.form, labels=body.labels, keep=body.keep)
    spec = JobSpec(
        kind=JobKind.IMPORT_DATASET,
        inputs={},
        parameters={
            "source": str(resolve_source(body.source, state=ctx.appliance.paths)),
            "more": [str(resolve_source(source, state=ctx.appliance.paths)) for source in body.more],
            "name": body.name,
            "mapping": body.mapping,
            "form": body.form,
            "labels": list(body.labels),
            "keep": list(body.keep),
            "heldout_percent": body.heldout_percent,
            "redact": body.redact,
        },
        seed=0,
        environment=bare_environment(ctx),
    )
    return enqueue(ctx, spec, title=body.name, reuse=False)


def list_datasets(ctx: Context) -> tuple[t.DatasetView, ...]:
    """Return every data set version, newest first."""
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(
            select(datasets).where(datasets.c.removed_at == "").order_by(datasets.c.created_at.desc())
        ).all()
    return tuple(dataset_view(row) for row in rows)


def show(ctx: Context, text: str) -> t.DatasetDetail:
    """Return one data set with statistics, samples, refused rows, and its newest check."""
    with ctx.appliance.database.read() as connection:
        return dataset_detail(connection, find_dataset(connection, text))


def dataset_detail(connection: Connection, row: Row[Any]) -> t.DatasetDetail:
    """Return a version with everything that is known of it."""
    check = _newest_check(connection, row.digest)
    return t.DatasetDetail(
        dataset=dataset_view(row),
        statistics=row.summary.get("statistics", {}),
        samples=tuple(row.summary.get("samples", ())),
        rejected=tuple(row.summary.get("rejected", ())),
        files=file_entries(row.files),
        labels=tuple(row.summary.get("labels", ())),
        personal=row.summary.get("personal", {}),
        redacted=row.summary.get("redacted", {}),
        origin=row.summary.get("origin", {}),
        synthetic=row.summary.get("synthetic", {}),
        check=check.summary if check is not None else {},
        check_job=check.id if check is not None else "",
        used_by=tuple(dependants(connection, row)),
    )


def remove(ctx: Context, text: str) -> t.DatasetView:
    """Remove a version that nothing depends on, and free its bytes. Its number is never given to another."""
    with ctx.appliance.database.read() as connection:
        ref = ref_of(find_dataset(connection, text))
    ctx.authorise("dataset.remove", ref)
    with ctx.appliance.adopting:
        view, freed = _forget(ctx, ref)
        for digest in freed:
            ctx.appliance.blobs.remove(digest)
    return view


def dependants(connection: Connection, row: Row[Any]) -> list[str]:
    """Name what would lose its data: models that were trained on this version, suites that ask it, unfinished jobs."""
    trained = connection.execute(select(models).where(models.c.removed_at == "").order_by(models.c.id)).all()
    found = [
        f"model {ref_of(model)}"
        for model in trained
        if any(given["digest"] == row.digest for given in model.lineage.get("datasets", []))
    ]
    asked = {ref_of(row)} | ({row.name} if find_dataset(connection, row.name).id == row.id else set())
    asking = connection.execute(select(suites).where(suites.c.removed_at == "").order_by(suites.c.id)).all()
    found += [f"suite {ref_of(suite)}" for suite in asking if asked & set(suite.summary["data"])]
    waiting = connection.execute(select(jobs.c.id, jobs.c.spec).where(jobs.c.state.in_(UNFINISHED)))
    found += [
        f"job {job.id}"
        for job in waiting
        if any(given["digest"] == row.digest for given in job.spec["inputs"].values())
    ]
    return found


def _forget(ctx: Context, ref: str) -> tuple[t.DatasetView, tuple[str, ...]]:
    with ctx.appliance.database.write() as connection:
        row = find_dataset(connection, ref)
        view = dataset_view(row)
        if users := dependants(connection, row):
            raise Conflict(
                "dataset.in_use",
                f"{ref} cannot be removed: {', '.join(users)} depends on it.",
                hint="Remove what depends on it first.",
            )
        connection.execute(
            update(datasets).where(datasets.c.id == row.id).values(removed_at=to_text(ctx.appliance.clock()))
        )
        freed = release_unreferenced(connection, file_entries(row.files))
        ctx.record(connection, "dataset.remove", ref, digest=row.digest, files_freed=len(freed))
        return view, freed


def _newest_check(connection: Connection, digest: str) -> Row[Any] | None:
    """Return the newest finished check of these bytes."""
    rows = connection.execute(
        select(jobs)
        .where(jobs.c.kind == JobKind.CHECK_DATASET, jobs.c.state == "succeeded")
        .order_by(jobs.c.id.desc())
        .limit(500)
    )
    return next((row for row in rows if row.spec["inputs"]["data"]["digest"] == digest), None)
