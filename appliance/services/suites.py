"""Evaluation suites: take in, list, show, remove. A version is its content's digest and never changes."""

from __future__ import annotations

from sqlalchemy import select, update

from appliance.api import types as t
from appliance.jobs.spec import JobKind, JobSpec
from appliance.kernel.clock import to_text
from appliance.kernel.errors import Conflict
from appliance.kernel.sources import resolve_source
from appliance.registry.refs import check_name
from appliance.services.blob_references import release_unreferenced
from appliance.services.context import Context
from appliance.services.jobs import UNFINISHED, bare_environment, enqueue
from appliance.services.records import file_entries, find_suite, ref_of, suite_view
from appliance.store.schema import jobs, suites


def import_suite(ctx: Context, body: t.ImportSuite) -> t.JobView:
    """Queue the import of a suite's file. What somebody wrote is only read in the job."""
    ctx.authorise("suite.import", body.name)
    check_name(body.name, what="suite")
    spec = JobSpec(
        kind=JobKind.IMPORT_SUITE,
        inputs={},
        parameters={"source": str(resolve_source(body.source, state=ctx.appliance.paths)), "name": body.name},
        seed=0,
        environment=bare_environment(ctx),
    )
    return enqueue(ctx, spec, title=body.name, reuse=False)


def list_suites(ctx: Context) -> tuple[t.SuiteView, ...]:
    """Return every version of every suite, newest first."""
    query = select(suites).where(suites.c.removed_at == "").order_by(suites.c.created_at.desc(), suites.c.id.desc())
    with ctx.appliance.database.read() as connection:
        return tuple(suite_view(row) for row in connection.execute(query))


def show(ctx: Context, text: str) -> t.SuiteView:
    """Return one suite."""
    with ctx.appliance.database.read() as connection:
        return suite_view(find_suite(connection, text))


def remove(ctx: Context, text: str) -> t.SuiteView:
    """Remove a version that no unfinished evaluation reads, and free its bytes. Its evaluations stay."""
    with ctx.appliance.database.read() as connection:
        ref = ref_of(find_suite(connection, text))
    ctx.authorise("suite.remove", ref)
    with ctx.appliance.adopting:
        view, freed = _forget(ctx, ref)
        for digest in freed:
            ctx.appliance.blobs.remove(digest)
    return view


def _forget(ctx: Context, ref: str) -> tuple[t.SuiteView, tuple[str, ...]]:
    with ctx.appliance.database.write() as connection:
        row = find_suite(connection, ref)
        waiting = connection.execute(select(jobs.c.id, jobs.c.spec).where(jobs.c.state.in_(UNFINISHED)))
        users = [job.id for job in waiting if job.spec["inputs"].get("suite", {}).get("ref") == ref]
        if users:
            raise Conflict(
                "suite.in_use",
                f"{ref} cannot be removed: job {users[0]} reads it.",
                hint="Wait for it, or cancel it.",
            )
        view = suite_view(row)
        connection.execute(
            update(suites).where(suites.c.id == row.id).values(removed_at=to_text(ctx.appliance.clock()))
        )
        freed = release_unreferenced(connection, file_entries(row.files))
        ctx.record(connection, "suite.remove", ref, digest=row.digest)
        return view, freed
