"""What a row is: how a record of a file becomes a canonical one, or is set aside with a code.

A row is a JSON object whose keys its form decides, UTF-8 without NUL, line ends as `\\n`. Columns that a person keeps
stand beside them under `meta`. A record that cannot become
a row is set aside with its line, a stable code and a reason that quotes none of its texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.datasets.contents import Refused, content_of
from appliance.datasets.forms import Form, Schema, name_columns

_SPLITS: Final = {"train": "train", "training": "train"} | dict.fromkeys(
    ("heldout", "held-out", "held_out", "test", "testing", "validation", "valid", "val", "dev", "eval"), "heldout"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as it stands in the file: fields by name, and the line (or row) on which it begins."""

    line: int
    fields: Mapping[str, Any]
    unread: frozenset[str] = frozenset()
    """Columns that were not even read, because nothing is made of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A canonical row. `split` is train or heldout where the file says so, else empty."""

    line: int
    form: Form
    content: dict[str, Any]
    split: str = ""


class Rejected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that was set aside: first line, stable code, and why, without its content."""

    line: int
    code: str
    reason: str
    file: str = ""
    """which file of several"""


def to_row(record: Record, schema: Schema) -> Row | Rejected:
    """Make a record a row of the shape that the schema gives its columns."""
    try:
        shape = schema.shape_of(record.fields)
        if shape is None:
            raise Refused("row.unknown_fields", f"no mapping, and none known of {name_columns(record.fields)}")
        content = content_of(record.fields, shape, labels=schema.labels, keep=schema.keep)
        split = _split(record.fields, schema.split)
    except Refused as refusal:
        return Rejected(line=record.line, code=refusal.code, reason=refusal.reason)
    return Row(line=record.line, form=shape.form, content=content, split=split)


def unused_fields(record: Record, schema: Schema) -> frozenset[str]:
    """Return the fields that the row is not made of, so that a person sees what is left behind."""
    shape = schema.shape_of(record.fields)
    used = schema.columns_of(shape) if shape else frozenset[str]()
    return (frozenset(record.fields) | record.unread) - used


def side_of(word: str) -> str:
    """Return train or heldout for a word that people call a part by, else empty."""
    return _SPLITS.get(word.strip().lower(), "")


def prompt_of(content: Mapping[str, Any]) -> str:
    """Return what is asked in a row (the text, where there is one): what must not leak between the parts."""
    if "text" in content:
        return str(content["text"])
    if "prompt" in content:
        return str(content["prompt"])
    return "\n".join(message["content"] for message in content["messages"] if message["role"] == "user")


def texts_of(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield every text of a row, in order; labels are none."""
    for message in content.get("messages", ()):
        yield message["content"]
    for part in ("text", "prompt", "completion", "chosen", "rejected"):
        if part in content:
            yield content[part]


def characters_of(content: Mapping[str, Any]) -> int:
    """Return the number of characters of a row's texts."""
    return sum(map(len, texts_of(content)))


def labels_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of a row: one of a classification row, one for each span of a tagged text."""
    if "label" in content:
        return (content["label"],)
    return tuple(span["label"] for span in content.get("spans", ()))


def form_of(content: Mapping[str, Any]) -> Form:
    """Return the form of a canonical row."""
    if "chosen" in content:
        return Form.PREFERENCE
    if "messages" in content:
        return Form.CHAT
    if "completion" in content:
        return Form.COMPLETION
    if "spans" in content:
        return Form.TAGS
    return Form.CLASSIFICATION if "label" in content else Form.TEXT


def _split(fields: Mapping[str, Any], column: str) -> str:
    value = fields.get(column)
    if value is None or value == "":
        return ""
    split = side_of(value) if isinstance(value, str) else ""
    if not split:
        raise Refused("row.split", f"{name_columns([column])} is none of train, heldout, validation and test")
    return split
