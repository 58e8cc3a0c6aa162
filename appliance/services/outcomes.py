"""What becomes of a job that ended: its files are adopted, its figures recorded, its state settled.

Everything here can be repeated: a daemon killed in the middle settles the same job again after its restart.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, func, insert, select, update

from appliance.jobs.spec import JobKind, JobSpec, TaskResult
from appliance.kernel.clock import new_id, to_text
from appliance.kernel.problem import Problem
from appliance.services.blob_references import note_blobs
from appliance.services.context import Context
from appliance.services.jobs import UNFINISHED
from appliance.services.models import insert_version
from appliance.services.records import find_job, ref_of
from appliance.store.schema import datasets, evaluations, jobs, suites


def succeed(ctx: Context, job_id: str, result: TaskResult) -> None:
    """Adopt the sealed output files into the store and record what the job brought, in one transaction."""
    with ctx.appliance.adopting:
        outputs = ctx.appliance.paths.job(job_id) / "out"
        for entry in result.files:
            ctx.appliance.blobs.adopt(outputs / entry.path, entry.digest, entry.size)
        _record_success(ctx, job_id, result)


def _record_success(ctx: Context, job_id: str, result: TaskResult) -> None:
    with ctx.appliance.database.write() as connection:
        row = find_job(connection, job_id)
        if row.state == "succeeded":
            return
        now = to_text(ctx.appliance.clock())
        note_blobs(connection, result.files, now)
        summary = dict(result.summary)
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(
                state="succeeded",
                finished_at=now,
                problem=None,
                files=msgspec.to_builtins(result.files),
                output_digest=result.digest,
            )
        )
        match row.kind:
            case _ if row.repeats:
                pass  # done again to compare its bytes: what it says was recorded the first time
            case JobKind.IMPORT_MODEL:
                summary["ref"] = _register_import(ctx, connection, row, result)
            case JobKind.IMPORT_DATASET | JobKind.SPLIT_DATASET | JobKind.GENERATE_DATASET:
                summary["ref"] = _register_content(ctx, connection, row, result, datasets, "dataset")
            case JobKind.IMPORT_SUITE:
                summary["ref"] = _register_content(ctx, connection, row, result, suites, "suite")
            case JobKind.EVALUATE:
                _record_evaluation(connection, row, result, now)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(summary=summary))
        ctx.record(connection, "job.finish", job_id, kind=row.kind, output=result.digest, attempt=row.attempt)


def fail(ctx: Context, job_id: str, problem: Problem) -> None:
    """Record that a job failed, and why."""
    _settle(ctx, job_id, "failed", problem=msgspec.to_builtins(problem), code=problem.code)


def cancelled(ctx: Context, job_id: str) -> None:
    """Record that a job stopped because somebody asked."""
    _settle(ctx, job_id, "cancelled", problem=None, code="")


def _settle(ctx: Context, job_id: str, state: str, *, problem: Any, code: str) -> None:
    with ctx.appliance.database.write() as connection:
        if find_job(connection, job_id).state not in UNFINISHED:
            return
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(state=state, problem=problem, finished_at=to_text(ctx.appliance.clock()))
        )
        ctx.record(connection, "job.finish", job_id, phase="failed" if code else "done", state=state, code=code)


def _register_import(ctx: Context, connection: Connection, row: Row[Any], result: TaskResult) -> str:
    spec = msgspec.convert(row.spec, JobSpec)
    version = insert_version(
        ctx,
        connection,
        name=spec.parameters["name"],
        kind="imported",
        licence=spec.parameters["licence"] or str(result.summary.get("licence") or "unknown"),
        description=result.summary,
        files=result.files,
        lineage={
            "base": None,
            "datasets": [],
            "runs": [],
            "authors": [row.created_by],
            "source": spec.parameters["source"],
        },
        parity=None,
        created_by=row.created_by,
    )
    return ref_of(version)


def _register_content(
    ctx: Context, connection: Connection, row: Row[Any], result: TaskResult, table: Table, what: str
) -> str:
    """Insert the next version of a data set or suite, or return the present one that has the same bytes."""
    name, digest = msgspec.convert(row.spec, JobSpec).parameters["name"], result.digest
    present = (table.c.name == name, table.c.digest == digest, table.c.removed_at == "")
    same = connection.execute(select(table).where(*present)).first()
    if same is not None:
        return ref_of(same)
    newest = connection.execute(select(func.max(table.c.version)).where(table.c.name == name)).scalar() or 0
    connection.execute(
        insert(table).values(
            id=new_id(),
            name=name,
            version=newest + 1,
            digest=digest,
            files=msgspec.to_builtins(result.files),
            summary=result.summary,
            job_id=row.id,
            created_by=row.created_by,
            created_at=to_text(ctx.appliance.clock()),
        )
    )
    ref = f"{name}@{newest + 1}"
    ctx.record(connection, f"{what}.register", ref, digest=digest)
    return ref


def _record_evaluation(connection: Connection, row: Row[Any], result: TaskResult, now: str) -> None:
    spec = msgspec.convert(row.spec, JobSpec)
    subject, suite = spec.inputs["model"], spec.inputs.get("suite")
    asked = suite or spec.inputs["dataset"]
    connection.execute(
        insert(evaluations).values(
            id=new_id(),
            subject_digest=subject.digest,
            subject=subject.ref,
            dataset=f"suite {suite.ref}" if suite else asked.ref,
            dataset_digest=asked.digest,
            metrics=result.summary["metrics"],
            examples=result.summary["examples"],
            job_id=row.id,
            at=now,
            suite=suite.ref if suite else "",
            detail={name: result.summary.get(name, {}) for name in ("intervals", "informative")},
        )
    )
