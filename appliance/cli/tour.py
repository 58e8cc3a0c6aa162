"""`intramuros tour`: the whole way once, then the console (on a terminal) or an orderly stop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.cli.power import stop_appliance
from appliance.cli.session import Session, verb
from appliance.kernel.durable import write_file
from appliance.kernel.errors import storage_errors
from appliance.tour.script import walk_the_tour
from appliance.tour.walk import Walk


@click.command()
@click.option("--port", type=click.IntRange(1, 65534), default=8443, show_default=True, help="Port of the gateway.")
@click.option("--keep", is_flag=True, help="Leave the appliance running and open no console.")
@click.option("--tolerate-faults", is_flag=True, help="Count broken streams instead of failing on them.")
@verb
def tour(session: Session, port: int, keep: bool, tolerate_faults: bool) -> None:
    """Walk the whole way once: data, tune, gate, serve, roll back, back up, restore, audit.

    The summary is also written as JSON to the file named by TOUR_JSON.
    """
    walk = Walk(session.paths.root)
    summary = walk_the_tour(walk, port=port, tolerate_faults=tolerate_faults)
    if target := os.environ.get("TOUR_JSON"):
        with storage_errors("writing the tour's summary"):
            write_file(Path(target).absolute(), msgspec.json.format(msgspec.json.encode(summary), indent=2))
    session.show(summary, lambda: _text(summary))
    if keep:
        return
    if sys.stdin.isatty() and sys.stdout.isatty() and not session.as_json:
        from tui.main import run_console

        run_console(session.paths.control_socket, tier=None, line=False)
        session.say("The appliance goes on; stop it with `intramuros down`.")
    else:
        stop_appliance(session.paths)


def _text(summary: dict[str, Any]) -> str:
    lines = [
        "",
        f"The tour took {summary['seconds']:.0f} s, {len(summary['steps'])} steps, all good.",
        f"  exact match on the held-out part  {summary['exact_match_before']:.2f} -> {summary['exact_match_after']:.2f}"
        f"  (the gate wants +{summary['required_gain']:.2f})",
        f"  {summary['question']}",
        f"  > {summary['answer']}   (first token after {summary['ttft_seconds'] * 1000:.0f} ms)",
    ]
    lines += [f"  {step.seconds:7.1f} s  {step.title}" for step in summary["steps"]]
    return "\n".join(lines)
