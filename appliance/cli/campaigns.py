"""What the verbs of searches, cross-validations and pipelines share: following, listing, the table of steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import progress_text
from appliance.cli.session import Session
from appliance.kernel.errors import Conflict
from appliance.kernel.problem import error_of
from appliance.kernel.terminal import table, when

_HOLD = 20.0
_ENDED = ("succeeded", "failed", "cancelled")

DETACH = click.option("--detach", is_flag=True, help="Start it and return.")
"""for every verb that starts a campaign"""

Cells = Callable[[t.CampaignStepView], tuple[str, ...]]
"""A step -> what its row says between state and job."""


def follow(session: Session, view: t.CampaignView, *, patient: bool = False) -> t.CampaignDetail:
    """Tell of every step that changes until the campaign ends or, unless `patient`, waits for a person.

    Raises the campaign's own error when it failed.
    """
    told: dict[int, str] = {}
    seen = ""
    try:
        while True:
            detail = session.send(calls.campaign(view.id, seen=seen, wait=_HOLD))
            for step in detail.steps:
                if told.get(step.number, "pending") != step.state:
                    told[step.number] = step.state
                    session.say(f"{view.kind}: {step.name} {step.state}{_outcome(step)}")
            if detail.campaign.state in _ENDED or (detail.campaign.state == "waiting" and not patient):
                break
            if detail.mark == seen:
                time.sleep(0.1)
            seen = detail.mark
    except KeyboardInterrupt:
        session.say(f"It goes on; see it with `intramuros {view.kind} show {view.id}`.")
        raise
    ended = detail.campaign
    if ended.state == "failed" and ended.problem is not None:
        raise error_of(ended.problem)
    if ended.state == "cancelled":
        raise Conflict("campaign.cancelled", f"{ended.kind} {ended.id} was cancelled.")
    if ended.problem is not None:
        session.say(f"{ended.problem.message} {ended.problem.hint}")
    return detail


def show_started(session: Session, view: t.CampaignView) -> None:
    """Name a campaign that goes on by itself, in the form of `run:ID  queued`; its verbs take that name."""
    session.show(view, lambda: f"{view.kind}:{view.id}  {view.state}")


def show_list(session: Session, kind: str, *, empty: str) -> None:
    """Print the campaigns of one kind."""
    found = session.send(calls.campaigns(kind=kind))
    session.show(
        found,
        lambda: table(
            (kind.upper(), "STATE", "WHAT", "DONE", "CREATED", "BY"),
            [
                (item.id, item.state, item.title, f"{item.done}/{item.steps}", when(item.created_at), item.created_by)
                for item in found
            ],
            empty=empty,
        ),
    )


def show_one(session: Session, text: str, body: Callable[[t.CampaignDetail], list[str]]) -> None:
    """Print one campaign: its head, and the lines that its kind adds."""
    detail = session.send(calls.campaign(text))
    session.show(detail, lambda: "\n".join([*head(detail), *body(detail)]))


def show_cancel(session: Session, text: str) -> None:
    """Stop a campaign and the jobs that it started."""
    view = session.send(calls.cancel_campaign(text))
    # Only a repetition has no verb to go on with: it is one job, and `run rerun` begins it again.
    again = "" if view.kind == "rerun" else f"; go on with `intramuros {view.kind} resume {view.id}`"
    session.show(view, lambda: f"{view.id} is cancelled{again}")


def head(detail: t.CampaignDetail) -> list[str]:
    """Return the lines that every kind begins with."""
    view = detail.campaign
    lines = [
        f"{view.id}  {view.kind}  {view.state}  {view.title}",
        f"  by          {view.created_by} at {when(view.created_at)}",
    ]
    if view.problem is not None:
        lines.append(f"  problem     {view.problem.message} [{view.problem.code}] {view.problem.hint}")
    return lines


def steps_table(
    detail: t.CampaignDetail, columns: tuple[str, ...], cells: Callable[[t.CampaignStepView], tuple[str, ...]]
) -> str:
    """Return the steps as a table; `cells` gives what stands between a step's state and its job."""
    return table(
        ("STEP", "STATE", *columns, "JOB"),
        [
            (
                step.name,
                f"{step.state} {progress_text(step.progress)}" if step.progress else step.state,
                *cells(step),
                step.job,
            )
            for step in detail.steps
        ],
        empty="no steps yet",
    )


def part_text(job: t.JobView) -> str:
    """Return which part of what a job is, a trial with its values; empty for a job that stands alone."""
    if job.part is None:
        return f"campaign {job.parent}" if job.parent else ""
    values = f": {json.dumps(job.part.values, ensure_ascii=False)}" if job.part.values else ""
    return f"{job.part.name} of {job.part.kind} {job.parent}{values}"


def _outcome(step: t.CampaignStepView) -> str:
    if step.problem is not None:
        return f": {step.problem.message}"
    value = step.outcome.get("value")
    return f" at {value:.6g}" if isinstance(value, float) and step.state == "succeeded" else ""
