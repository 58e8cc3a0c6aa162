"""Data sets: queue an import, list, show. A data set version is its content's digest and never changes."""

from __future__ import annotations

from sqlalchemy import select

from appliance.api import types as t
from appliance.datasets.forms import schema_from
from appliance.jobs.spec import JobKind, JobSpec
from appliance.kernel.errors import BadInput
from appliance.kernel.sources import resolve_source
from appliance.registry.refs import check_name
from appliance.services.context import Context
from appliance.services.jobs import bare_environment, enqueue
from appliance.services.records import dataset_view, file_entries, find_dataset
from appliance.store.schema import datasets


def import_dataset(ctx: Context, body: t.ImportDataset) -> t.JobView:
    """Queue the import of a file, several, or a folder. Bytes of the source are only read in the job."""
    ctx.authorise("dataset.import", body.name)
    check_name(body.name, what="data set")
    if not 0 <= body.heldout_percent <= 90:
        raise BadInput("dataset.heldout", f"{body.heldout_percent} % cannot be held out.", hint="Give 0 to 90.")
    schema_from(body.mapping, form=body.form, labels=body.labels)
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
        rows = connection.execute(select(datasets).order_by(datasets.c.created_at.desc())).all()
    return tuple(dataset_view(row) for row in rows)


def show(ctx: Context, text: str) -> t.DatasetDetail:
    """Return one data set with statistics, samples and refused rows."""
    with ctx.appliance.database.read() as connection:
        row = find_dataset(connection, text)
    return t.DatasetDetail(
        dataset=dataset_view(row),
        statistics=row.summary.get("statistics", {}),
        samples=tuple(row.summary.get("samples", ())),
        rejected=tuple(row.summary.get("rejected", ())),
        files=file_entries(row.files),
    )
