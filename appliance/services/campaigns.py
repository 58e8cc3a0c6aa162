"""Runs that consist of runs: their rows, what a client sees of them, cancelling and resuming.

What a kind of campaign does next is decided in a module of its own (searches, kfolds, pipelines, reruns), which the
daemon's coordinator calls again and again. Invariant: the next move follows from rows alone, so a campaign goes on
after any death.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from appliance.api import types as t
from appliance.kernel.canonical import digest_of
from appliance.kernel.clock import new_id, to_text
from appliance.kernel.errors import BadInput, Conflict
from appliance.kernel.events import Progress
from appliance.kernel.problem import Problem
from appliance.services import jobs as job_service
from appliance.services.context import Context
from appliance.services.records import find_campaign
from appliance.store.schema import campaign_steps, campaigns, jobs

KINDS = ("search", "kfold", "pipeline", "rerun")
ACTIVE = ("running", "waiting")
ENDED = ("succeeded", "failed", "pruned", "cancelled")
_SHOWN = 200


def open_campaign(
    ctx: Context, kind: str, *, title: str, spec: Mapping[str, Any], steps: Iterable[tuple[str, Mapping[str, Any]]] = ()
) -> t.CampaignView:
    """Record a campaign with its first steps, and wake the coordinator. The caller has authorised and validated it."""
    campaign_id = new_id()
    with ctx.appliance.database.write() as connection:
        connection.execute(
            insert(campaigns).values(
                id=campaign_id,
                kind=kind,
                title=title,
                spec=dict(spec),
                state="running",
                created_by=ctx.caller.user,
                created_uid=ctx.caller.uid,
                created_at=to_text(ctx.appliance.clock()),
                summary={},
            )
        )
        add_steps(connection, campaign_id, steps, first=1)
        ctx.record(connection, "campaign.submit", campaign_id, kind=kind, title=title, spec=digest_of(dict(spec)))
        view = campaign_view(connection, find_campaign(connection, campaign_id))
    ctx.appliance.doorbell.ring()
    return view


def add_steps(
    connection: Connection, campaign_id: str, steps: Iterable[tuple[str, Mapping[str, Any]]], *, first: int
) -> None:
    """Append steps that are still to be done, numbered from `first`."""
    for number, (name, spec) in enumerate(steps, start=first):
        connection.execute(
            insert(campaign_steps).values(
                campaign_id=campaign_id, number=number, name=name, state="pending", spec=dict(spec)
            )
        )


def list_campaigns(ctx: Context, kind: str = "") -> tuple[t.CampaignView, ...]:
    """Return the campaigns of a kind, or all, newest first."""
    if kind and kind not in KINDS:
        raise BadInput("campaign.kind", f"{kind!r} is not a kind of campaign.", hint=f"Kinds: {', '.join(KINDS)}.")
    query = select(campaigns).order_by(campaigns.c.id.desc()).limit(_SHOWN)
    with ctx.appliance.database.read() as connection:
        rows = connection.execute(query.where(campaigns.c.kind == kind) if kind else query).all()
        return tuple(campaign_view(connection, row) for row in rows)


def show(ctx: Context, text: str, live: Mapping[str, Progress] | None = None) -> t.CampaignDetail:
    """Return one campaign with its steps as their jobs stand, and the live progress of these."""
    with ctx.appliance.database.read() as connection:
        row = find_campaign(connection, text)
        view = campaign_view(connection, row)
        rows = steps_of(connection, row.id)
        behind = {job.id: job for job in _jobs_behind(connection, rows)}
        steps = tuple(_step_view(step, behind.get(step.job_id), live or {}) for step in rows)
    mark = digest_of([view.state, [[step.number, step.state, step.job] for step in steps]])
    return t.CampaignDetail(campaign=view, spec=row.spec, steps=steps, mark=mark)


def cancel(ctx: Context, text: str) -> t.CampaignView:
    """Stop a campaign, and every unfinished job that it started itself."""
    with ctx.appliance.database.read() as connection:
        row = find_campaign(connection, text)
    ctx.authorise("campaign.cancel", row.id)
    with ctx.appliance.database.write() as connection:
        row = find_campaign(connection, row.id)
        if row.state not in ACTIVE:
            raise Conflict("campaign.not_running", f"{row.kind} {row.id} is already {row.state}.")
        for job in jobs_of(connection, row.id, unfinished=True):
            job_service.request_cancel(ctx, connection, job)
        connection.execute(
            update(campaign_steps)
            .where(campaign_steps.c.campaign_id == row.id, campaign_steps.c.state.not_in(ENDED))
            .values(state="cancelled")
        )
        settle(ctx, connection, row, "cancelled")
        view = campaign_view(connection, find_campaign(connection, row.id))
    ctx.appliance.doorbell.ring()
    return view


def resume(ctx: Context, text: str) -> t.CampaignView:
    """Go on with a campaign that failed or was cancelled: what succeeded stays, the rest is tried again.

    It goes on in the name of who began it; only they, or somebody who may cancel campaigns as well, can ask for it.
    """
    with ctx.appliance.database.read() as connection:
        row = find_campaign(connection, text)
    ctx.authorise("campaign.submit", row.id)
    with ctx.appliance.database.write() as connection:
        row = find_campaign(connection, row.id)
        if row.state not in ("failed", "cancelled"):
            hint = f"See `intramuros {row.kind} show {row.id}`."
            raise Conflict(
                "campaign.not_stopped", f"{row.kind} {row.id} is {row.state}; only a stopped one goes on.", hint=hint
            )
        connection.execute(
            update(campaign_steps)
            .where(campaign_steps.c.campaign_id == row.id, campaign_steps.c.state.in_(("failed", "cancelled")))
            .values(state="pending", problem=None)
        )
        connection.execute(
            update(campaigns)
            .where(campaigns.c.id == row.id)
            .values(state="running", problem=None, finished_at="", summary={})
        )
        ctx.record(connection, "campaign.resume", row.id, kind=row.kind)
        view = campaign_view(connection, find_campaign(connection, row.id))
    ctx.appliance.doorbell.ring()
    return view


def active_campaigns(ctx: Context) -> list[Row[Any]]:
    """Return every campaign that has something left to do, oldest first."""
    with ctx.appliance.database.read() as connection:
        return list(connection.execute(select(campaigns).where(campaigns.c.state.in_(ACTIVE)).order_by(campaigns.c.id)))


def finish(
    ctx: Context, campaign_id: str, state: str, *, summary: Mapping[str, Any], problem: Problem | None = None
) -> None:
    """Record how a campaign ended, unless somebody cancelled it meanwhile."""
    with ctx.appliance.database.write() as connection:
        row = find_campaign(connection, campaign_id)
        if row.state in ACTIVE:
            settle(ctx, connection, row, state, summary=summary, problem=problem)


def settle(
    ctx: Context,
    connection: Connection,
    row: Row[Any],
    state: str,
    *,
    summary: Mapping[str, Any] | None = None,
    problem: Problem | None = None,
) -> None:
    """Put a campaign into its last state, inside the caller's transaction."""
    values: dict[str, Any] = {"state": state, "finished_at": to_text(ctx.appliance.clock())}
    if summary is not None:
        values["summary"] = dict(summary)
    values["problem"] = msgspec.to_builtins(problem) if problem is not None else None
    connection.execute(update(campaigns).where(campaigns.c.id == row.id).values(**values))
    code = problem.code if problem is not None else ""
    phase = "failed" if state == "failed" else "done"
    ctx.record(connection, "campaign.finish", row.id, phase=phase, kind=row.kind, state=state, code=code)


def set_campaign(connection: Connection, campaign_id: str, **values: Any) -> None:
    """Change columns of an active campaign, such as what it waits for."""
    connection.execute(
        update(campaigns).where(campaigns.c.id == campaign_id, campaigns.c.state.in_(ACTIVE)).values(**values)
    )


def set_step(ctx: Context, step: Row[Any], **values: Any) -> None:
    """Change a step that was not cancelled meanwhile."""
    with ctx.appliance.database.write() as connection:
        connection.execute(
            update(campaign_steps)
            .where(
                campaign_steps.c.campaign_id == step.campaign_id,
                campaign_steps.c.number == step.number,
                campaign_steps.c.state != "cancelled",
            )
            .values(**values, at=to_text(ctx.appliance.clock()))
        )


def steps_of(connection: Connection, campaign_id: str) -> list[Row[Any]]:
    """Return a campaign's steps in their order."""
    query = select(campaign_steps).where(campaign_steps.c.campaign_id == campaign_id).order_by(campaign_steps.c.number)
    return list(connection.execute(query))


def read_steps(ctx: Context, campaign_id: str) -> list[Row[Any]]:
    """Return a campaign's steps in their order, as they are now."""
    with ctx.appliance.database.read() as connection:
        return steps_of(connection, campaign_id)


def jobs_of(connection: Connection, campaign_id: str, *, unfinished: bool = False) -> list[Row[Any]]:
    """Return the jobs that a campaign started itself, oldest first."""
    query = select(jobs).where(jobs.c.campaign_id == campaign_id).order_by(jobs.c.id)
    return list(connection.execute(query.where(jobs.c.state.in_(job_service.UNFINISHED)) if unfinished else query))


def problem_in(row: Row[Any]) -> Problem | None:
    """Return the problem that a job, step or campaign row keeps."""
    return msgspec.convert(row.problem, Problem) if row.problem else None


def campaign_view(connection: Connection, row: Row[Any]) -> t.CampaignView:
    """Return one campaign as the control API tells it."""
    states = [step.state for step in steps_of(connection, row.id)]
    return t.CampaignView(
        id=row.id,
        kind=row.kind,
        title=row.title,
        state=row.state,
        created_by=row.created_by,
        created_at=row.created_at,
        finished_at=row.finished_at,
        done=sum(state in ENDED and state != "cancelled" for state in states),
        steps=max(len(states), row.spec.get("trials", 0)),
        summary=row.summary or {},
        problem=problem_in(row),
    )


def _jobs_behind(connection: Connection, steps: Iterable[Row[Any]]) -> list[Row[Any]]:
    """Return the jobs of these steps, which may be another campaign's where an equal run was taken."""
    query = select(jobs.c.id, jobs.c.state, jobs.c.cancel_requested, jobs.c.campaign_id)
    return list(connection.execute(query.where(jobs.c.id.in_([step.job_id for step in steps if step.job_id]))))


def _step_view(row: Row[Any], job: Row[Any] | None, live: Mapping[str, Progress]) -> t.CampaignStepView:
    state = row.state if job is None else _state(row, job)
    return t.CampaignStepView(
        number=row.number,
        name=row.name,
        state=state,
        spec=row.spec,
        job=row.job_id,
        outcome=row.outcome or {},
        problem=problem_in(row),
        progress=live.get(row.job_id) if state in ("running", "stopping") else None,
    )


def _state(step: Row[Any], job: Row[Any]) -> str:
    """Return how a step stands: the row says what was decided of it, its job whether that is so yet."""
    if job_service.is_stopping(job) and job.campaign_id == step.campaign_id:
        return "stopping"
    # One whose job has ended is running until its outcome has been taken in.
    return str(job.state) if step.state == "running" and job.state in ("queued", "interrupted") else str(step.state)
