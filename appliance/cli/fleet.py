"""`intramuros fleet`: the boxes that train together, and whether each is ready."""

from __future__ import annotations

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.session import Session, verb
from appliance.kernel.terminal import size_text, table


@click.command()
@verb
def fleet(session: Session) -> None:
    """List the boxes that train together, and what each has to give now."""
    found = session.send(calls.fleet())
    session.show(found, lambda: fleet_text(found))


def fleet_text(boxes: tuple[t.FleetBox, ...]) -> str:
    """Return the list for a person, with a line for each box that is not ready."""
    return table(
        ("BOX", "ADDRESS", "THREADS", "MEMORY FREE", "RUNS", "STATE"),
        [
            (
                f"{box.name} (this one)" if box.own else box.name,
                box.address,
                str(box.threads) if box.reachable else "–",
                f"{size_text(box.memory_available)} of {size_text(box.memory)}" if box.reachable else "–",
                str(box.running) if box.reachable else "–",
                _state(box),
            )
            for box in boxes
        ],
        empty="This box is in no fleet. docs/it-staff/fleet.md says how boxes are joined.",
    )


def _state(box: t.FleetBox) -> str:
    if not box.reachable:
        return box.problem
    return "ready" if box.same_version else f"has another version ({box.version})"
