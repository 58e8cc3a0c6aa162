"""`intramuros runs …`: what installations and hardening runs did on this machine."""

from __future__ import annotations

import click
import msgspec

from appliance.kernel.terminal import table, when
from installer import run_journal
from installer.cli.output import Narrator, duration, json_option, require_root, say, show
from installer.following import tail
from installer.lock import holder
from installer.places import Places
from installer.run_journal import Run


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
        (run.head.run, run.head.book + (" (check)" if run.head.check else ""), when(run.head.at), _state(run))
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
        lines = [f"{found.head.run}: {found.head.book}, {_state(found)}"]
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

    def state() -> str:
        return _state(run_journal.get(Places().runs, found.head.run))

    for event in tail(found.events, lambda: state() != "running"):
        narrator.tell(event)
    if (ended := state()) == "unfinished" and not as_json:
        say("Nobody is at work on it: it was killed or cut off. The same command goes on with it.")
    elif ended == "failed" and not as_json:
        say(f"It failed. See: intramuros runs show {found.head.run}")


def _state(run: Run) -> str:
    """Return the journal's word, or `running`: of the newest run without an end while an installer is at work."""
    at_work = run.state == "unfinished" and holder(Places().lock) is not None
    newest = run_journal.latest(Places().runs) if at_work else None
    return "running" if newest is not None and newest.head.run == run.head.run else run.state


def _document(run: Run) -> dict[str, object]:
    return {**msgspec.to_builtins(run.head), "state": _state(run), "finished": run.finished}
