"""The one table of the wizard's keys: key bar and help come from it. What may interrupt is an upper-case letter."""

from __future__ import annotations

from dataclasses import dataclass

from tui import format as fmt
from tui.text import Line, Look, Span, Tone, heading, line

FORM, SECRETS = "form", "secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a key does. No `stages` means everywhere."""

    id: str
    keys: tuple[str, ...]
    name: str
    label: str
    help: str
    stages: tuple[str, ...] = ()
    danger: int = 0
    bar: bool = True


_TYPED = (FORM, SECRETS, "key")
"""Stages where letters are text."""


def _key(
    id: str, keys: str, label: str, help: str, *stages: str, name: str = "", danger: int = 0, bar: bool = True
) -> Key:
    pressed = tuple(keys.split())
    return Key(
        id=id, keys=pressed, name=name or pressed[0], label=label, help=help, stages=stages, danger=danger, bar=bar
    )


TABLE: tuple[Key, ...] = (
    _key("on", "enter", "go on", "To the questions.", "checks", name="Enter"),
    _key("on", "enter", "next", "To the next question, then to the next page.", *_TYPED, name="Enter"),
    _key("finish", "enter", "finish", "Leave the wizard.", "report", name="Enter"),
    _key("apply", "A", "apply", "Change the box as planned. Asks first.", "review", danger=2),
    _key("mend", "f", "fix", "Go to the first answer that is not right.", "review"),
    _key("stop", "S", "stop", "End the run after its present task. Asks first.", "run", danger=2),
    _key("log", "l", "log", "What was told so far, or the overview.", "run"),
    _key("again", "r f5", "check again", "Look once more.", "checks", "review"),
    _key("again", "r", "try again", "Back to the plan.", "report"),
    _key("offer", "f2", "offers", "Fill in what the box offers, one by one.", FORM, name="F2"),
    _key("down", "pagedown", "on", "To the next page, whatever is missing.", FORM, SECRETS, name="PgDn"),
    _key("back", "pageup", "back", "To the page before.", FORM, SECRETS, name="PgUp", bar=False),
    _key(
        "back",
        "escape",
        "back",
        "To the page before. Nothing typed is lost.",
        *(FORM, SECRETS, "review", "key"),
        name="Esc",
    ),
    _key("help", "f1", "help", "What the keys do here.", name="F1"),
    _key("look", "f4", "look", "Switch between the rich and the basic look.", name="F4", bar=False),
    _key("leave", "ctrl+q", "leave", "Leave. Answers are kept, a run goes on.", name="Ctrl+Q"),
)


def at(stage: str) -> list[Key]:
    """The keys of one stage: its own, then those of everywhere."""
    own = [key for key in TABLE if stage in key.stages]
    return [*own, *(key for key in TABLE if not key.stages)]


def for_key(stage: str, pressed: str) -> Key | None:
    """What a key means in a stage."""
    return next((key for key in at(stage) if pressed in key.keys), None)


def bar_line(stage: str, refused: dict[str, str]) -> Line:
    """The key bar: what cannot be done now stays visible, in brackets."""
    spans = [Span(" ")]
    for key in at(stage):
        if not key.bar:
            continue
        if key.id in refused:
            spans.append(Span(f"({key.name} {key.label})  ", Tone.FAINT))
        else:
            spans += [Span(key.name, Tone.STRONG), Span(f" {key.label}  ")]
    return tuple(spans)


def help_lines(stage: str, refused: dict[str, str], look: Look) -> list[Line]:
    """What every key does here, and why some do nothing now."""
    lines: list[Line] = [heading("Keys")]
    for key in at(stage):
        lines.append(line(Span(f"   {fmt.fit(key.name, 8)} ", Tone.STRONG), f"{fmt.fit(key.label, 12)} {key.help}"))
        if key.id in refused:
            lines += [line(" " * 25, Span(part, Tone.WARN)) for part in fmt.wrap(f"Not now: {refused[key.id]}", 50)]
    if stage == FORM:
        lines += [
            line(Span("   Up Down  ", Tone.STRONG), "move         Between questions; Tab does the same."),
            line(Span("   Space    ", Tone.STRONG), "choose       Mark what Left and Right moved to."),
        ]
    return lines
