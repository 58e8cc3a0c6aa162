"""What a row is: canonical chat and text rows, and how a record of a file becomes one.

A row is `{"messages": [...]}` (form chat) or `{"text": ...}` (form text), UTF-8 without NUL, line ends as `\\n`.
A record that cannot become a row is set aside with its line, a stable code and a reason that never quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.kernel.errors import BadInput

FIELD_LIMIT: Final = 1 << 20
"""Longest field, in characters."""
_ROLES = frozenset({"system", "user", "assistant"})
_SPLITS = {"train": "train", "training": "train"} | dict.fromkeys(
    ("heldout", "held-out", "held_out", "test", "testing", "validation", "valid", "val", "dev", "eval"), "heldout"
)
_SPLIT_COLUMN = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as it stands in the file: fields by name, and the line on which it begins."""

    line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A canonical row. `split` is train or heldout where the file says so, else empty."""

    line: int
    form: str
    content: dict[str, Any]
    split: str = ""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was set aside: first line, stable code, and why, without its content."""

    line: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which fields make a row: `messages`, or `prompt` (and `context`) with `answer`, or `text`."""

    messages: str = ""
    prompt: str = ""
    context: str = ""
    answer: str = ""
    text: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """Fields that a record must have."""
        return tuple(name for name in (self.messages, self.prompt, self.answer, self.text) if name)

    @property
    def used(self) -> frozenset[str]:
        """Every field that is read."""
        return frozenset(self.required) | {self.context, _SPLIT_COLUMN} - {""}


KNOWN_SHAPES: Final = (
    Shape(messages="messages"),
    Shape(prompt="question", answer="answer"),
    Shape(prompt="prompt", answer="completion"),
    Shape(prompt="prompt", answer="answer"),
    Shape(prompt="instruction", context="input", answer="output"),
    Shape(text="text"),
)
"""Tried in this order when no mapping is given."""


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def shape_from_mapping(mapping: object) -> Shape | None:
    """Return the shape that a person's mapping names; None for an empty one. Raises BadInput `dataset.mapping`."""
    if mapping in (None, {}):
        return None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) and v for v in mapping.values()):
        raise BadInput("dataset.mapping", "The mapping does not map names to columns.", hint=_MAPPING_HINT)
    if mapping.keys() in ({"prompt", "answer"}, {"text"}):
        return Shape(**mapping)
    raise BadInput(
        "dataset.mapping",
        "The mapping names neither prompt and answer, nor text alone.",
        hint=_MAPPING_HINT,
    )


_MAPPING_HINT = "For a chat data set map prompt and answer to columns; for plain text map text to one."


def shape_for(fields: Iterable[str]) -> Shape | None:
    """Return the first known shape whose fields are all there."""
    names = set(fields)
    return next((shape for shape in KNOWN_SHAPES if names.issuperset(shape.required)), None)


def name_columns(columns: Iterable[str]) -> str:
    """List column names for a message; one that looks like content (no header line?) is given by its number."""
    shown = [
        name if re.fullmatch(r"[\w .:/()-]{1,40}", name) else f"(column {number})"
        for number, name in enumerate(columns, start=1)
    ]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "")


def to_row(record: Record, shape: Shape | None) -> Row | Rejected:
    """Make a record a row: by `shape`, or by the first known shape that fits."""
    try:
        chosen = shape or shape_for(record.fields)
        if chosen is None:
            raise _Refused("row.unknown_fields", f"no mapping, and none known of {name_columns(record.fields)}")
        content = _content(record.fields, chosen)
        return Row(
            line=record.line,
            form="chat" if "messages" in content else "text",
            content=content,
            split=_split(record.fields),
        )
    except _Refused as refusal:
        return Rejected(line=record.line, code=refusal.code, reason=refusal.reason)


def unused_fields(record: Record, shape: Shape | None) -> frozenset[str]:
    """Return the fields that the row is not made of, so that a person sees what is left behind."""
    chosen = shape or shape_for(record.fields)
    return frozenset(record.fields) - (chosen.used if chosen else frozenset())


def prompt_of(content: Mapping[str, Any]) -> str:
    """Return what the user says in a row (all of the text, in a text row): what must not leak between the parts."""
    if "text" in content:
        return str(content["text"])
    return "\n".join(message["content"] for message in content["messages"] if message["role"] == "user")


def characters_of(content: Mapping[str, Any]) -> int:
    """Return the number of characters of a row's texts."""
    if "text" in content:
        return len(content["text"])
    return sum(len(message["content"]) for message in content["messages"])


def _content(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    if shape.messages:
        return {"messages": _messages(fields.get(shape.messages))}
    if shape.text:
        return {"text": _text(fields, shape.text)}
    prompt = _text(fields, shape.prompt)
    if shape.context and fields.get(shape.context) not in (None, ""):
        prompt = f"{prompt}\n\n{_text(fields, shape.context)}"
    answer = _text(fields, shape.answer)
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def _messages(value: Any) -> list[dict[str, str]]:
    """Check a conversation: an optional system message, then user and assistant in turn, the assistant last."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise _Refused("row.messages", "messages is not a list of messages")
    roles = [item.get("role") for item in value]
    if not all(isinstance(role, str) and role in _ROLES for role in roles):
        raise _Refused("row.roles", "a message has a role other than system, user and assistant")
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or len(turns) % 2 or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        raise _Refused("row.roles", "user and assistant do not take turns, ending with the assistant")
    return [{"role": item["role"], "content": _text(item, "content")} for item in value]


def _text(fields: Mapping[str, Any], name: str) -> str:
    """Return a field as clean text. `name` is a column, not content, and may be told."""
    shown = name_columns([name])
    value = fields.get(name)
    if value is None:
        raise _Refused("row.missing_field", f"{shown} is missing")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _Refused("row.not_text", f"{shown} is not text")
    if len(value) > FIELD_LIMIT:
        raise _Refused("row.too_long", f"{shown} has {len(value)} characters; {FIELD_LIMIT} are allowed")
    if "\0" in value:
        raise _Refused("row.nul", f"{shown} has a NUL byte at character {value.index(chr(0)) + 1}")
    if not value.strip():
        raise _Refused("row.empty", f"{shown} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Refused("row.encoding", f"{shown} has half a character (a lone surrogate)") from error
    return value.replace("\r\n", "\n")


def _split(fields: Mapping[str, Any]) -> str:
    value = fields.get(_SPLIT_COLUMN)
    if value is None or value == "":
        return ""
    split = _SPLITS.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise _Refused("row.split", "split is none of train, heldout, validation and test")
    return split
