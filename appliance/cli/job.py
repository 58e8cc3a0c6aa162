"""`intramuros job …`."""

from __future__ import annotations

import json

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import event_text, follow, progress_text
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import table, when


@click.group()
def job() -> None:
    """Follow, cancel and resume jobs."""


@job.command("list")
@verb
def list_(session: Session) -> None:
    """List queue and history, newest first."""
    found = session.send(calls.jobs())
    session.show(
        found,
        lambda: table(
            ("JOB", "STATE", "KIND", "WHAT", "PROGRESS", "CREATED", "BY"),
            [
                (
                    entry.id,
                    entry.state,
                    entry.kind,
                    entry.title,
                    progress_text(entry.progress) if entry.progress and entry.state == "running" else "",
                    when(entry.created_at),
                    entry.created_by,
                )
                for entry in found
            ],
            empty="No jobs yet. Start one with `intramuros train` or `intramuros eval`.",
        ),
    )


@job.command()
@click.argument("id")
@verb
def show(session: Session, id: str) -> None:
    """Show a job with its specification and results."""
    detail = session.send(calls.job(id))
    session.show(detail, lambda: _text(detail))


@job.command()
@click.argument("id")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the job ends.")
@verb
def log(session: Session, id: str, following: bool) -> None:
    """Print a job's events."""
    if following:
        ended = follow(session, session.send(calls.job(id)).job)
        session.show(ended, lambda: f"run:{ended.id} {ended.state}")
        return
    page = session.send(calls.job_events(id))
    session.show(page, lambda: "\n".join(f"{when(entry.at)}  {event_text(entry.event)}" for entry in page.events))


@job.command()
@click.argument("id")
@verb
def cancel(session: Session, id: str) -> None:
    """Stop a job; its checkpoints stay and it can be resumed."""
    view = session.send(calls.cancel_job(id))
    session.show(view, lambda: f"{view.id} is being cancelled; resume it with `intramuros job resume {view.id}`")


@job.command()
@click.argument("id")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def resume(session: Session, id: str, detach: bool) -> None:
    """Go on with a stopped job from its newest valid checkpoint."""
    view = session.send(calls.resume_job(id))
    if not detach:
        view = follow(session, view)
    session.show(view, lambda: f"run:{view.id} {view.state}")


def _text(detail: t.JobDetail) -> str:
    entry = detail.job
    lines = [
        f"{entry.id}  {entry.state}  {entry.kind}  {entry.title}",
        f"  run id      {entry.run_id}",
        f"  by          {entry.created_by} at {when(entry.created_at)}",
        f"  ran         {when(entry.started_at)} to {when(entry.finished_at)}, attempt {entry.attempt}",
    ]
    if entry.problem:
        lines.append(f"  problem     {entry.problem.message} [{entry.problem.code}] {entry.problem.hint}")
    lines.append("  result      " + json.dumps(entry.summary, indent=2, ensure_ascii=False).replace("\n", "\n  "))
    lines.append("  spec        " + json.dumps(detail.spec, indent=2, ensure_ascii=False).replace("\n", "\n  "))
    return "\n".join(lines)
