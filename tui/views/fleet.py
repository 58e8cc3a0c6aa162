"""The boxes that train together: the list, and one of them."""

from __future__ import annotations

from appliance.api.types import FleetBox
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, hint, state


def fleet_table(boxes: tuple[FleetBox, ...], look: Look) -> Table:
    """Every box, this one first, with what it has to give now."""
    return Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Box"),
            Column(title="Address", width=16),
            Column(title="Threads", width=7, right=True),
            Column(title="Memory free", width=11, right=True),
            Column(title="Runs", width=4, right=True),
        ),
        rows=tuple(
            Row(
                key=box.name,
                cells=(
                    state(_state(box), look),
                    Span(f"{box.name} (this one)" if box.own else box.name, Tone.STRONG),
                    Span(box.address),
                    Span(fmt.count(box.threads) if box.reachable else "-"),
                    Span(fmt.size(box.memory_available) if box.reachable else "-"),
                    Span(fmt.count(box.running) if box.reachable else "-"),
                ),
            )
            for box in boxes
        ),
    )


def box_lines(box: FleetBox, look: Look) -> list[Line]:
    """One box, and why it cannot train where it cannot."""
    lines = [
        fact("state", state(_state(box), look)),
        fact("box", f"{box.name}, this one" if box.own else box.name),
        fact("address", f"{box.address}, inside the fleet's private network"),
    ]
    if not box.reachable:
        return [
            *lines,
            fact("reason", Span(fmt.clean(box.problem), Tone.BAD)),
            hint("On that box:   systemctl status intramuros-ranks"),
        ]
    version = "the same as this box's" if box.same_version else "another one: install the same bundle on both"
    return [
        *lines,
        fact("version", f"{fmt.clean(box.version)}, {version}"),
        fact("processor", f"{fmt.clean(box.cpu)}, {fmt.count(box.threads)} threads"),
        fact("memory", f"{fmt.size(box.memory_available)} free of {fmt.size(box.memory)}"),
        fact("runs", f"trains for {fmt.count(box.running)} now"),
        hint("To train here:"),
        hint(f"  intramuros train full --base MODEL --data DATA --set boxes={box.name}"),
    ]


def _state(box: FleetBox) -> str:
    if not box.reachable:
        return "failed"
    return "ready" if box.same_version else "warn"
