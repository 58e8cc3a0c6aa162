"""The last line: what the keys do here. An action that cannot be used stays visible, in brackets.

Textual's own Footer keeps every binding it ever showed alive (textual#6666); this is one painted line.
"""

from __future__ import annotations

from tui import format as fmt
from tui.actions import at, key_name
from tui.deed import Action
from tui.text import Line, Span, Tone


def bar_line(place: str, refused: dict[str, str], width: int) -> Line:
    """Compose the bar: the place's own actions, then what is left of the general ones; help and back always."""
    shown = [action for action in at(place) if action.bar]
    own = sorted((action for action in shown if action.places), key=lambda action: action.id != "open")
    general = [action for action in shown if not action.places and action.id not in _ALWAYS]
    always = [action for action in shown if action.id in _ALWAYS]
    room = width - 1 - sum(_cells(action, place, refused) for action in always) - len(_SCREENS)
    kept: list[Action] = []
    for action in (*own, *general):
        if (taken := _cells(action, place, refused)) <= room:
            kept.append(action)
            room -= taken
    spans = [Span(" ")]
    for action in (*kept, *always):
        spans += _spans(action, place, refused)
    return (*spans, Span(_SCREENS, Tone.FAINT))


_ALWAYS = ("help", "back")
_SCREENS = "0-9 go"


def _words(action: Action, place: str) -> tuple[str, str]:
    if action.id == "back" and place == "home":
        return "q", "leave"
    return key_name(action.keys[0]), action.label


def _cells(action: Action, place: str, refused: dict[str, str]) -> int:
    return fmt.cells(" ".join(_words(action, place))) + (4 if action.id in refused else 2)


def _spans(action: Action, place: str, refused: dict[str, str]) -> list[Span]:
    key, label = _words(action, place)
    if action.id in refused:
        return [Span(f"({key} {label})  ", Tone.FAINT)]
    return [Span(key, Tone.STRONG), Span(f" {label}  ")]
