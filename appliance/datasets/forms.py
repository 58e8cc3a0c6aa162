"""The forms a data set may have, and which columns make a row of each.

A form is found from the columns, chosen by a person, or follows from a mapping. Knows names alone, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import lru_cache
from itertools import product
from typing import Final

from appliance.kernel.errors import BadInput
from appliance.kernel.field_faults import nearest


class Form(StrEnum):
    """What the rows of a data set are."""

    CHAT = "chat"
    TEXT = "text"
    PREFERENCE = "preference"
    CLASSIFICATION = "classification"
    TAGS = "tags"
    COMPLETION = "completion"


LABELLED: Final = frozenset({Form.CLASSIFICATION, Form.TAGS})
_SYNONYMS: Final = {"instruction": Form.CHAT, "sharegpt": Form.CHAT, "dpo": Form.PREFERENCE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which column plays which part. The parts that are filled tell the form."""

    messages: str = ""
    prompt: str = ""
    context: str = ""
    system: str = ""
    answer: str = ""
    completion: str = ""
    chosen: str = ""
    rejected: str = ""
    text: str = ""
    label: str = ""
    spans: str = ""
    tokens: str = ""
    tags: str = ""

    @property
    def form(self) -> Form:
        """The form that the filled parts make."""
        if self.chosen:
            return Form.PREFERENCE
        if self.spans or self.tags:
            return Form.TAGS
        if self.label:
            return Form.CLASSIFICATION
        if self.completion:
            return Form.COMPLETION
        return Form.TEXT if self.text else Form.CHAT

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that a record must have."""
        optional = {"context", "system"} | ({"prompt"} if self.chosen else set())
        return tuple(column for part, column in self._filled() if part not in optional)

    @property
    def used(self) -> frozenset[str]:
        """Every column that is read."""
        return frozenset(column for _, column in self._filled())

    def _filled(self) -> list[tuple[str, str]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self) if getattr(self, field.name)]


_TEXTS = ("text", "sentence", "utterance", "query")
_LABELS = ("label", "category", "intent", "class", "topic", "sentiment")

KNOWN_SHAPES: Final = (
    Shape(messages="messages", chosen="chosen", rejected="rejected"),
    Shape(prompt="prompt", chosen="chosen", rejected="rejected"),
    Shape(messages="messages"),
    Shape(messages="conversations"),
    Shape(messages="conversation"),
    Shape(tokens="tokens", tags="ner_tags"),
    Shape(tokens="tokens", tags="tags"),
    Shape(text="text", spans="spans"),
    Shape(text="text", spans="entities"),
    Shape(text="full_text", spans="spans"),
    Shape(prompt="question", answer="answer"),
    Shape(prompt="prompt", answer="completion"),
    Shape(prompt="prompt", answer="answer"),
    Shape(prompt="prompt", answer="response"),
    Shape(prompt="instruction", context="input", system="system", answer="output"),
    Shape(prompt="instruction", context="context", system="system", answer="response"),
    *(Shape(text=text, label=label) for text, label in product(_TEXTS, _LABELS)),
    Shape(text="text"),
)
"""Tried in this order when no mapping is given."""

_WHEN_ASKED: Final = (Shape(prompt="prompt", completion="completion"),)
"""Known by these names, and otherwise one question with its answer."""

_BY_COLUMNS: Final = {
    asked: tuple((frozenset(shape.required), shape) for shape in shapes if asked in (None, shape.form))
    for asked in (None, *Form)
    for shapes in [KNOWN_SHAPES if asked is None else (*KNOWN_SHAPES, *_WHEN_ASKED)]
}
"""Asked form (or none) -> the columns that each candidate needs."""

_MAPPINGS: Final[tuple[tuple[frozenset[str], frozenset[str]], ...]] = tuple(
    (frozenset(required), frozenset(optional))
    for required, optional in (
        (("prompt", "answer"), ("context", "system")),
        (("messages",), ()),
        (("text",), ()),
        (("text", "label"), ()),
        (("prompt", "completion"), ()),
        (("chosen", "rejected"), ("prompt",)),
        (("messages", "chosen", "rejected"), ()),
        (("text", "spans"), ()),
        (("tokens", "tags"), ()),
    )
)
_MAPPING_HINT = (
    "Map prompt and answer, messages, text, text and label, prompt and completion, prompt (or messages), chosen and "
    "rejected, text and spans, or tokens and tags; split may come with any."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a person said about the columns of a source: all of it may be left open."""

    shape: Shape | None = None
    form: Form | None = None
    split: str = "split"
    labels: frozenset[str] = frozenset()
    """Declared labels; empty allows every label."""
    keep: tuple[str, ...] = ()
    """Columns that stay with a row as they are, for splits by group or time."""

    def columns_of(self, shape: Shape) -> frozenset[str]:
        """Return every column that is read."""
        return shape.used | {self.split, *self.keep}

    def shape_of(self, columns: Iterable[str]) -> Shape | None:
        """Return the mapped shape, or the first known one (of the asked form) whose columns are all there."""
        if self.shape is not None:
            return self.shape
        return _known_shape(frozenset(columns), self.form)

    def require_columns(self, columns: list[str], *, name: str) -> Shape:
        """Return the shape for a header. Raises BadInput `dataset.mapping` or `dataset.columns`."""
        shape = self.shape_of(columns)
        if shape is None:
            wanted = f" of the form {self.form}" if self.form else ""
            raise BadInput(
                "dataset.columns",
                f"{name} has no columns that make a row{wanted}: {name_columns(columns)}.",
                hint="Map them, for example --map prompt=COLUMN --map answer=COLUMN, or --map text=COLUMN.",
            )
        if missing := sorted({*shape.required, *self.keep} - set(columns)):
            raise BadInput(
                "dataset.mapping",
                f"{name} has no column {name_columns(missing)}; its columns are {name_columns(columns)}.",
                hint=f"{_meant(missing[0], columns)}Write the name as it stands in the file.",
            )
        return shape


def rivals_of(columns: Collection[str], shape: Shape) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (part, column taken, others that could be meant) for the text and the label of a classification."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    if not shape.label:
        return found
    for part, names in (("text", _TEXTS), ("label", _LABELS)):
        taken = getattr(shape, part)
        others = tuple(name for name in names if name in columns and name != taken)
        if taken in names and others:
            found.append((part, taken, others))
    return found


def schema_from(mapping: object, *, form: object = "", labels: object = (), keep: object = ()) -> Schema:
    """Return the schema of a person's wishes. Raises BadInput `dataset.mapping`, `dataset.form` or `dataset.labels`."""
    given = _checked_mapping(mapping)
    wanted = _form(form)
    split = given.pop("split", "split")
    shape = _shape(given)
    if shape is not None and wanted is not None and shape.form != wanted:
        raise BadInput("dataset.form", f"The mapping makes {shape.form} rows, and the form {wanted} was asked for.")
    if not isinstance(keep, list | tuple) or not all(isinstance(column, str) and column for column in keep):
        raise BadInput("dataset.mapping", "The columns to keep are not a list of names.")
    return Schema(shape=shape, form=wanted, split=split, labels=_labels(labels, shape, wanted), keep=tuple(keep))


@lru_cache(maxsize=256)
def _known_shape(columns: frozenset[str], form: Form | None) -> Shape | None:
    return next((shape for needed, shape in _BY_COLUMNS[form] if needed <= columns), None)


def shape_from_mapping(mapping: object) -> Shape | None:
    """Return the shape that a person's mapping names; None for an empty one. Raises BadInput `dataset.mapping`."""
    given = _checked_mapping(mapping)
    given.pop("split", None)
    return _shape(given)


def name_columns(columns: Iterable[str]) -> str:
    """List column names for a message; one that looks like content (no header line?) is given by its number."""
    shown = [
        name if re.fullmatch(r"[\w .:/()-]{1,40}", name) else f"(column {number})"
        for number, name in enumerate(columns, start=1)
    ]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "")


def _meant(missing: str, columns: Sequence[str]) -> str:
    near = nearest(missing, columns)
    return f"Did you mean {name_columns([near])}? " if near else ""


def _checked_mapping(mapping: object) -> dict[str, str]:
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping) or not all(isinstance(v, str) and v for v in mapping.values()):
        raise BadInput("dataset.mapping", "The mapping does not map names to columns.", hint=_MAPPING_HINT)
    return dict(mapping)


def _shape(given: dict[str, str]) -> Shape | None:
    if not given:
        return None
    if given.keys() == {"label"}:
        return Shape(text="text", label=given["label"])
    for required, optional in _MAPPINGS:
        if required <= given.keys() <= required | optional:
            return replace(Shape(), **given)
    raise BadInput(
        "dataset.mapping",
        f"A mapping of {', '.join(sorted(given))[:80]} makes no row.",
        hint=_MAPPING_HINT,
    )


def _form(text: object) -> Form | None:
    if text in ("", None):
        return None
    if isinstance(text, str) and text in _SYNONYMS:
        return _SYNONYMS[text]
    if not isinstance(text, str) or text not in set(Form):
        raise BadInput("dataset.form", f"{str(text)[:40]!r} is no form of data set.", hint=f"Forms: {', '.join(Form)}.")
    return Form(text)


def _labels(labels: object, shape: Shape | None, form: Form | None) -> frozenset[str]:
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise BadInput("dataset.labels", "The labels are not a list of names.")
    settled = shape.form if shape else form
    if labels and settled is not None and settled not in LABELLED:
        raise BadInput("dataset.labels", f"Rows of the form {settled} have no labels.")
    return frozenset(label.strip() for label in labels)
