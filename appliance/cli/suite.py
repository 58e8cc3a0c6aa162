"""`intramuros suite …`: what models are measured with."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.session import Session, confirmed, verb
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import table, when


@click.group()
def suite() -> None:
    """Take in, list, show and remove evaluation suites."""


@suite.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the suite; another content under it is a new version.")
@verb
def add(session: Session, source: Path, name: str) -> None:
    """Take in a suite (YAML; see docs/operators/evaluation.md)."""
    _take_in(session, source, name)


@suite.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the suite.")
@verb
def import_(session: Session, source: Path, name: str) -> None:
    """Take in a task of lm-evaluation-harness (YAML) whose data lie beside it."""
    _take_in(session, source, name)


@suite.command("list")
@verb
def list_(session: Session) -> None:
    """List every version of every suite, newest first."""
    found = session.send(calls.suites())
    session.show(
        found,
        lambda: table(
            ("SUITE", "TASKS", "DATA", "CREATED", "BY"),
            [
                (
                    entry.ref,
                    ", ".join(f"{task.name} ({task.type})" for task in entry.tasks)[:60],
                    ", ".join(entry.data) or "its own rows",
                    when(entry.created_at),
                    entry.created_by,
                )
                for entry in found
            ],
            empty="No suites yet. Take one in with `intramuros suite add FILE --name NAME`.",
        ),
    )


@suite.command()
@click.argument("ref")
@verb
def show(session: Session, ref: str) -> None:
    """Show a suite's tasks."""
    found = session.send(calls.suite(ref))
    session.show(found, lambda: _text(found))


@suite.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb
def remove(session: Session, ref: str, yes: bool) -> None:
    """Remove a version of a suite; what was measured with it stays."""
    target = session.send(calls.suite(ref)).ref
    if not confirmed(f"Remove {target}? Gates that name it will refuse.", yes=yes):
        raise BadInput("suite.not_confirmed", f"{target} was not removed.", hint="Confirm it, or add --yes.")
    view = session.send(calls.remove_suite(target))
    session.show(view, lambda: f"{view.ref} removed")


def _take_in(session: Session, source: Path, name: str) -> None:
    job = follow(session, session.send(calls.import_suite(t.ImportSuite(source=str(source.absolute()), name=name))))
    found = session.send(calls.suite(str(job.summary["ref"])))
    session.show(found, lambda: _text(found))


def _text(entry: t.SuiteView) -> str:
    lines = [
        f"{entry.ref}  {entry.description}".rstrip(),
        f"  digest      {entry.digest}",
        f"  taken in    by {entry.created_by} at {when(entry.created_at)}",
    ]
    for task in entry.tasks:
        rows = f"held-out part of {task.data}" if task.data else f"{task.rows} rows"
        limit = f", first {task.limit}" if task.limit else ""
        lines.append(f"  task        {task.name}  {task.type}  {rows}{limit}")
    return "\n".join(lines)
