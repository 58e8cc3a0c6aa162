"""`intramuros job …`."""

from __future__ import annotations

import json

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.campaigns import part_text
from appliance.cli.follow import event_text, follow, progress_text
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import table, when


@click.group()
def job() -> None:
    """Follow, cancel and resume jobs."""


@job.command("list")
@verb
def list_(session: Session) -> None:
    """List queue and history, newest first; runs that are part of another stand below it."""
    found = session.send(calls.jobs())
    above = () if session.as_json else session.send(calls.campaigns())
    session.show(
        found,
        lambda: table(
            ("JOB", "STATE", "KIND", "WHAT", "PROGRESS", "CREATED", "BY"),
            tree_rows(found, above),
            empty="No jobs yet. Start one with `intramuros train` or `intramuros eval`.",
        ),
    )


def tree_rows(found: tuple[t.JobView, ...], above: tuple[t.CampaignView, ...]) -> list[tuple[str, ...]]:
    """Return the rows of the list: a search, cross-validation, pipeline or repetition stands above its jobs."""
    shown = {item.id for item in above}
    heads: list[t.JobView | t.CampaignView] = [entry for entry in found if entry.parent not in shown]
    rows: list[tuple[str, ...]] = []
    for head in sorted([*heads, *above], key=lambda entry: entry.id, reverse=True):
        if isinstance(head, t.JobView):
            rows.append(_row(head, head.id))
            continue
        progress = f"{head.done} of {head.steps}" if head.state in ("running", "waiting") else ""
        rows.append((head.id, head.state, head.kind, head.title, progress, when(head.created_at), head.created_by))
        rows += [_row(entry, f"  {entry.id}") for entry in reversed(found) if entry.parent == head.id]
    return rows


def _row(entry: t.JobView, name: str) -> tuple[str, ...]:
    progress = progress_text(entry.progress) if entry.progress and entry.state == "running" else ""
    return (name, entry.told_state, entry.kind, entry.what, progress, when(entry.created_at), entry.created_by)


@job.command()
@click.argument("id")
@verb
def show(session: Session, id: str) -> None:
    """Show a job with its specification and results."""
    detail = session.send(calls.job(id))
    session.show(detail, lambda: _text(detail))


@job.command()
@click.argument("id")
@click.argument("path")
@verb
def output(session: Session, id: str, path: str) -> None:
    """Print one output file of a job, such as report/report.json; `job show` names them."""
    found = session.send(calls.job_output(id, path))
    session.show(found, lambda: found.text.removesuffix("\n"))


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
        f"{entry.id}  {entry.told_state}  {entry.kind}  {entry.title}",
        *([f"  part of     {part_text(entry)}"] if entry.parent else []),
        f"  run id      {entry.run_id}",
        f"  by          {entry.created_by} at {when(entry.created_at)}",
        f"  ran         {when(entry.started_at)} to {when(entry.finished_at)}, attempt {entry.attempt}",
    ]
    if entry.problem:
        lines.append(f"  problem     {entry.problem.message} [{entry.problem.code}] {entry.problem.hint}")
    lines.append("  result      " + json.dumps(entry.summary, indent=2, ensure_ascii=False).replace("\n", "\n  "))
    lines.append("  spec        " + json.dumps(detail.spec, indent=2, ensure_ascii=False).replace("\n", "\n  "))
    return "\n".join(lines)
