"""The job behind one step of a campaign: started once, found again after a crash, gone on with after a failure."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from appliance.api import types as t
from appliance.jobs.spec import Fold
from appliance.kernel.problem import Problem
from appliance.services import jobs as job_service
from appliance.services.campaigns import set_step
from appliance.services.context import Context
from appliance.services.records import find_job
from appliance.store.schema import jobs


def start(ctx: Context, step: Row[Any], body: t.SubmitJob, *, fold: Fold | None = None) -> None:
    """Start a step's job, or go on with the one that it had; an equal run that is there is taken instead.

    One that is still stopping is left to stop, and the step as it is: the next call goes on with it.

    Killed between the job and the step's row, the next call finds the same job by its equal specification.
    """
    job = job_of(ctx, step) if step.job_id else None
    if job is not None and job_service.is_stopping(job):
        return  # it is sealing its checkpoint; a second one beside it would begin from nothing
    if job is not None and job.state in ("failed", "cancelled", "interrupted"):
        view = job_service.resume(ctx, step.job_id)
    else:
        view = job_service.submit(ctx, body, fold=fold)
    set_step(ctx, step, state="running", job_id=view.id)


def job_of(ctx: Context, step: Row[Any]) -> Row[Any]:
    """Return the row of a step's job."""
    with ctx.appliance.database.read() as connection:
        return connection.execute(select(jobs).where(jobs.c.id == step.job_id)).one()


def stop(ctx: Context, job: Row[Any]) -> None:
    """Ask a job to stop, if it is this campaign's own and still has something to do."""
    with ctx.appliance.database.write() as connection:
        row = find_job(connection, job.id)
        if row.campaign_id == ctx.campaign and row.state in job_service.UNFINISHED and not row.cancel_requested:
            job_service.request_cancel(ctx, connection, row)
    ctx.appliance.doorbell.ring()


def why_ended(job: Row[Any]) -> Problem:
    """Return the problem of a job that did not succeed."""
    if job.problem:
        return Problem(**job.problem)
    return Problem(
        code="job.cancelled",
        message=f"Job {job.id} was cancelled.",
        hint=f"See `intramuros job show {job.id}`.",
        exit_code=4,
    )


def figures_of(job: Row[Any]) -> dict[str, float]:
    """Return the figures in a finished job's summary: those under `metrics`, and the plain numbers beside them."""
    summary: dict[str, Any] = job.summary or {}
    flat = {name: value for name, value in summary.items() if name != "metrics"} | dict(summary.get("metrics") or {})
    return {
        name: float(value)
        for name, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def qualities_of(job: Row[Any]) -> dict[str, float]:
    """Return what a finished job measured on rows that it did not train on: its metrics and held-out figures."""
    measured = set((job.summary or {}).get("metrics") or {})
    return {name: value for name, value in figures_of(job).items() if name in measured or name.startswith("heldout_")}
