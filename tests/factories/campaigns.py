"""Drives a campaign without a daemon: moves it, and ends its jobs as a test says, in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, select, update

from appliance.api import types as t
from appliance.campaigns.ask_task import Question, ask, importance
from appliance.jobs.spec import JobKind
from appliance.kernel.problem import Problem
from appliance.services import campaigns, kfolds, outcomes, pipelines, reruns, searches
from appliance.services.context import Context
from appliance.services.records import find_campaign
from appliance.store import schema
from tests.factories.appliance import SUMMARY, WEIGHTS, finish_job

Ending = Mapping[str, Any] | Problem
"""A job's summary, or why it failed."""
Reports = Callable[[str, str], Mapping[int, float]]


def silent(_job: str, _metric: str) -> Mapping[int, float]:
    """No figures on the way."""
    return {}


def move(ctx: Context, campaign: str, *, reports: Reports = silent) -> t.CampaignDetail:
    """Make one move, as the coordinator does."""
    with ctx.appliance.database.read() as connection:
        row = find_campaign(connection, campaign)
    within = Context(appliance=ctx.appliance, caller=ctx.caller, campaign=row.id)
    if row.state in campaigns.ACTIVE:
        match row.kind:
            case "search":
                searches.advance(within, row, reports)
            case "kfold":
                kfolds.advance(within, row)
            case "pipeline":
                pipelines.advance(within, row)
            case _:
                reruns.advance(within, row)
    return campaigns.show(ctx, row.id)


def open_jobs(ctx: Context) -> list[Row[Any]]:
    """Return the jobs that wait or run, oldest first."""
    with ctx.appliance.database.read() as connection:
        query = select(schema.jobs).where(schema.jobs.c.state.in_(("queued", "running"))).order_by(schema.jobs.c.id)
        return list(connection.execute(query))


def end(ctx: Context, job: Row[Any], ending: Ending, files: Mapping[str, bytes] | None = None) -> None:
    """End a job: with this summary and these files, with that problem, or as cancelled when that was asked."""
    if job.cancel_requested:
        outcomes.cancelled(ctx, job.id)
    elif isinstance(ending, Problem):
        outcomes.fail(ctx, job.id, ending)
    else:
        finish_job(ctx, job.id, files if files is not None else WEIGHTS | {"run": job.run_id.encode()}, ending)


def answered(job: Row[Any]) -> dict[str, Any]:
    """Return what `search.ask` answers."""
    question = msgspec.convert(job.spec["parameters"], Question)
    return {
        "asked": ask(question, seed=job.spec["seed"]),
        "importance": {} if question.count else importance(question),
    }


def drive(
    ctx: Context,
    campaign: str,
    ending: Callable[[Row[Any]], Ending],
    *,
    reports: Reports = silent,
    backwards: bool = False,
    files: Callable[[Row[Any]], Mapping[str, bytes]] | None = None,
    moves: int = 100,
) -> t.CampaignDetail:
    """Move and end jobs until the campaign rests; `ending` says how one that is no question ends, `files` with what."""
    still = 0
    mark = ""
    for _ in range(moves):
        detail = move(ctx, campaign, reports=reports)
        jobs = open_jobs(ctx)
        still = still + 1 if detail.mark == mark and not jobs else 0
        mark = detail.mark
        if detail.campaign.state not in campaigns.ACTIVE or still > 2:
            return detail
        if not jobs:
            continue
        job = jobs[-1 if backwards else 0]
        if job.kind == JobKind.SEARCH_ASK:
            end(ctx, job, answered(job), {})
        else:
            made = files(job) if files is not None else None
            end(ctx, job, SUMMARY | dict(found) if isinstance(found := ending(job), Mapping) else found, made)
    raise AssertionError(f"the campaign still moves after {moves} moves")


def put_running(ctx: Context, job_id: str) -> None:
    """Have a job run."""
    with ctx.appliance.database.write() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == job_id).values(state="running"))
