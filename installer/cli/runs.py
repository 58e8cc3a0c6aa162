"""`intramuros runs …`: what installations and hardening runs did on this machine."""

from __future__ import annotations

import time

import click
import msgspec

from appliance.kernel.terminal import table, when
from installer import run_journal
from installer.cli.output import Narrator, duration, json_option, require_root, show
from installer.events import StepEvent
from installer.places import Places

_POLL = 0.2


@click.group()
def runs() -> None:
    """See what installation and hardening runs did."""


@runs.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List every run, oldest first."""
    require_root("read the journals of runs")
    found = run_journal.list_runs(Places().runs)
    document = [_document(run) for run in found]
    rows = [
        (run.head.run, run.head.book + (" (check)" if run.head.check else ""), when(run.head.at), run.state)
        for run in found
    ]
    show(document, lambda: table(("RUN", "WHAT", "BEGUN", "STATE"), rows, empty="no run yet"), as_json=as_json)


@runs.command("show")
@click.argument("run")
@json_option
def show_(run: str, as_json: bool) -> None:
    """Show one run: its number, its name, or `last`."""
    require_root("read the journals of runs")
    found = run_journal.get(Places().runs, run)
    result = run_journal.read_result(found)
    document = {**_document(found), "entries": found.entries, "result": result}

    def text() -> str:
        lines = [f"{found.head.run}: {found.head.book}, {found.state}"]
        rows = [
            (when(e.at), e.kind, e.phase, str(e.changed) if e.kind in {"phase_done", "done"} else "", e.text)
            for e in found.entries
        ]
        lines.append(table(("AT", "WHAT", "PHASE", "CHANGED", ""), rows, empty="nothing was journaled"))
        if result is not None:
            lines.append(f"{result.outcome}: {result.changed} changed in {duration(result.seconds)}")
        return "\n".join(lines)

    show(document, text, as_json=as_json)


@runs.command()
@click.argument("run", default="last")
@json_option
def follow(run: str, as_json: bool) -> None:
    """Show what a run tells, from its beginning until it has ended."""
    require_root("read the journals of runs")
    narrator = Narrator(as_json=as_json)
    found = run_journal.get(Places().runs, run)
    told = 0
    while True:
        ended = run_journal.get(Places().runs, found.head.run).state != "unfinished"
        events: list[StepEvent] = run_journal.read_events(found)
        for event in events[told:]:
            narrator.tell(event)
        told = len(events)
        if ended:
            return
        time.sleep(_POLL)


def _changed(entry: run_journal.Entry) -> str:
    return str(entry.changed) if entry.kind in {"phase_done", "done"} else ""


def _document(run: run_journal.Run) -> dict[str, object]:
    return {**msgspec.to_builtins(run.head), "state": run.state, "finished": run.finished}
