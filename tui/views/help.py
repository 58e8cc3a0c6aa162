"""The help page of a place, from the action table."""

from __future__ import annotations

from tui import format as fmt
from tui.actions import at, key_name
from tui.text import Line, Look, Span, Tone, heading, hint, line, state

_DANGER = ("", "asks once", "interrupts service: asks, and Back is chosen first", "destroys data: type the name")


def help_lines(place: str, refused: dict[str, str], look: Look) -> list[Line]:
    """What every key does here, what may not be used and why, and the words of states."""
    actions = at(place)
    lines: list[Line] = []
    for title, chosen in (
        ("Here", [action for action in actions if action.places]),
        ("Everywhere", [action for action in actions if not action.places]),
    ):
        if chosen:
            lines.append(heading(title))
        for action in chosen:
            keys = " ".join(key_name(key) for key in action.keys[:2])
            lines.append(
                line(Span(f"   {fmt.fit(keys, 9)} ", Tone.STRONG), f"{fmt.fit(action.label, 13)} {action.help}")
            )
            notes = [note for note in (_DANGER[action.danger], refused.get(action.id, "")) if note]
            if notes:
                lines.append(hint(f"{' ' * 24}{'; not now: '.join(notes) if len(notes) > 1 else notes[0]}"))
    words = {
        "ready": "works",
        "running": "under way",
        "queued": "waits",
        "warn": "look at it",
        "failed": "broken",
        "off": "not on",
    }
    lines.append(heading("Words of state"))
    lines += [line("   ", state(name, look), f"     {told}") for name, told in words.items()]
    lines.append(hint("All times are UTC. The console has no authority: the appliance checks every action again."))
    return lines
