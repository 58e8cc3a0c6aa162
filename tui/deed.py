"""What an action is: its keys and words, who may use it, and the deed that it sends to the appliance.

An action either moves the console (`deed` is None; the front end does it) or changes or asks the appliance. Danger:
0 reads; 1 reversible, one Enter; 2 interrupts service, upper-case key, going back is the default; 3 destroys data, and
the object's name has to be typed. The server checks every role again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.api.calls import Call
from appliance.kernel.errors import BadInput, IntramurosError, NotFound
from tui.session import Session
from tui.text import Line, Look

Answers = Mapping[str, str]
"""What a person filled in, by field name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The thing under the cursor: what a person types to name it, its record, and words for templates."""

    name: str = ""
    item: Any = None
    words: Mapping[str, str] = field(default_factory=dict)
    opens: str = ""
    """the record that it opens, where a list holds things of several kinds"""


Choices = Callable[[Session], Coroutine[Any, Any, tuple[str, ...]]]
Preview = Callable[[Session, Answers], Coroutine[Any, Any, tuple[Line, ...]]]
"""What would come of the answers. Raises IntramurosError for what is wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing to fill in before a deed."""

    name: str
    label: str
    default: Callable[[Target], str] = lambda _: ""
    choices: Choices | None = None
    required: bool = True
    faults: tuple[str, ...] = ()
    """beginnings of the codes of those errors that are about it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked. Templates are filled from the target's words and the answers."""

    cli: str | Callable[[Target, Answers], str]
    """the line that does the same, as a template or made for what the target is"""
    consequences: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    needs_target: bool = True
    refused: Callable[[Answers], str] = lambda _: ""
    """why the answers cannot be taken as they are, in one line, or empty"""
    preview: Preview | None = None
    """shown as the answers are filled in"""

    def fill(self, template: str, target: Target, answers: Answers) -> str:
        """Put the target's words and the answers into a template."""
        return template.format_map(_Words({**target.words, **answers}))

    def at_fault(self, error: IntramurosError) -> str:
        """The name of the field that an error is about, or empty. The longest beginning of a code decides."""
        if not isinstance(error, BadInput | NotFound):
            return ""
        about = [(len(start), one.name) for one in self.fields for start in one.faults if error.code.startswith(start)]
        return max(about)[1] if about else ""

    def command(self, target: Target, answers: Answers) -> str:
        """The CLI line that does the same; a part in square brackets is left out when its word is empty."""
        if callable(self.cli):
            return self.cli(target, answers)
        words = _Words({name: quoted(value) for name, value in {**target.words, **answers}.items()})
        kept = _OPTION.sub(lambda found: found["text"] if words[found["word"]] else "", self.cli)
        return kept.format_map(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed(Question):
    """What an action sends, in words and as a call."""

    call: Callable[[Target, Answers], Call[Any]]
    done: str
    ready: Callable[[Target], str] = lambda _: ""
    """why it cannot be done now, or empty"""
    result: Callable[[Any, Look], list[Line]] | None = None
    """renders an answer that deserves a screen of its own"""
    then: Callable[[Any], tuple[str, Target]] | None = None
    """the record to go to afterwards: its place and what it is about"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One row of the table. No `places` means everywhere; no `roles` means everybody."""

    id: str
    keys: tuple[str, ...]
    label: str
    help: str
    places: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    danger: int = 0
    bar: bool = False
    """shown in the key bar"""
    deed: Deed | None = None


class _Words(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ""


_OPTION = re.compile(r"\[(?P<text>[^\]]*\{(?P<word>\w+)\}[^\]]*)\]")


def quoted(value: str) -> str:
    """Quote for a POSIX shell where needed; an empty value stays empty, it is an option left out."""
    if not value or all(c.isalnum() or c in "@:._-/+=," for c in value):
        return value
    return "'" + value.replace("'", "'\\''") + "'"


def in_one_line(error: IntramurosError) -> str:
    """Say what is wrong beside the field that it is about."""
    return f"{error.code}: {error.message} {error.hint}".strip()
