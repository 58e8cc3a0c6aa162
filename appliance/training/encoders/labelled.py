"""Rows with labels: texts that have one label each, and texts with labelled spans.

A row `{"text", "label"}` is read as it stands; a conversation of one question and one answer counts as a text and its
label, so a table that was imported as questions and answers serves too. Knows no torch and no tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.kernel.errors import BadInput
from appliance.training.rows import Message
from appliance.weights.head import MOST_LABELS

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """A text and its one label."""

    text: str
    label: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Characters `start` up to but not including `end`, and what they are."""

    start: int
    end: int
    label: str


class TaggedText(msgspec.Struct, frozen=True, kw_only=True):
    """A text and its spans."""

    text: str
    spans: tuple[Span, ...] = ()


class _Row(msgspec.Struct, frozen=True):
    text: str = ""
    label: str | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledData:
    """Both parts of a data set for classification; `labels` are those of the training part, sorted."""

    training: tuple[LabelledText, ...]
    heldout: tuple[LabelledText, ...]
    labels: tuple[str, ...]
    single: tuple[str, ...] = ()
    """those of them with one training row"""

    def numbers(self, rows: Sequence[LabelledText]) -> list[int]:
        """Return each row's label as its place among the labels; -1 for one that training never saw."""
        places = {label: place for place, label in enumerate(self.labels)}
        return [places.get(row.label, -1) for row in rows]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Labels of the held-out part that training never saw: each such row counts as wrong."""
        return tuple(sorted({row.label for row in self.heldout} - set(self.labels)))


def read_classification(folder: Path) -> LabelledData:
    """Read a data set for classification.

    Raises BadInput: `training.dataset_empty`, `training.no_heldout`, `training.one_label`, `training.row_invalid`,
    `training.not_labelled`.
    """
    training = _read_labelled(folder / "train.jsonl")
    if not training:
        raise BadInput(
            "training.dataset_empty",
            "The data set has no training rows with a text and a label.",
            hint="Import a table with the columns text and label.",
        )
    heldout = _read_labelled(folder / "heldout.jsonl")
    if not heldout:
        raise BadInput(
            "training.no_heldout",
            "The data set has no held-out rows, so nobody could say how good the classifier is.",
            hint="Import it again with a held-out share, such as --heldout 20.",
        )
    counts = Counter(row.label for row in training)
    single = tuple(sorted(label for label, rows in counts.items() if rows == 1))
    if len(counts) < 2:
        raise BadInput(
            "training.one_label",
            f"All {len(training)} training rows have the label {_shown(training[0].label)}; there is nothing to tell "
            "apart.",
            hint="Add rows with another label, and import them as the next version.",
        )
    return LabelledData(training=training, heldout=heldout, labels=tuple(sorted(counts)), single=single)


def require_learnable(*, rows: int, labels: int, single: int, name: str = "The data set") -> None:
    """Raise BadInput `training.too_many_labels` where the labels of training rows are no classes.

    `single` labels have one row each. Where they are most of the rows, there is nothing in common to learn; beside
    classes of many rows a few of them do no harm.
    """
    if labels > MOST_LABELS:
        raise BadInput(
            "training.too_many_labels",
            f"{name} has {labels:,} labels; a classifier has at most {MOST_LABELS:,}.",
            hint="Free text is no label: choose the column that names the class, or merge rare labels.",
        )
    if 2 * single > rows:
        raise BadInput(
            "training.too_many_labels",
            f"{name} has {labels:,} labels for {rows:,} training rows, and most of them have a single row; nothing can "
            "be learnt of those.",
            hint="Are text and label swapped? Import it again with --map text=COLUMN --map label=COLUMN, or merge rare "
            "labels.",
        )


def read_tagged(file: Path) -> tuple[TaggedText, ...]:
    """Read one part of a data set with spans. Raises BadInput `training.row_invalid` or `training.not_tagged`."""
    return tuple(_tagged(line, file.name, number) for number, line in _lines(file))


def _read_labelled(file: Path) -> tuple[LabelledText, ...]:
    return tuple(_labelled(line, file.name, number) for number, line in _lines(file))


def _lines(file: Path) -> list[tuple[int, bytes]]:
    if not file.exists():
        return []
    with file.open("rb") as stream:
        return [(number, line) for number, line in enumerate(stream, start=1) if line.strip()]


def _labelled(line: bytes, name: str, number: int) -> LabelledText:
    try:
        row = msgspec.json.decode(line, type=_Row)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _invalid(name, number, str(error)) from error
    roles = [message.role for message in row.messages]
    if row.label is not None:
        text, label = row.text, row.label
    elif roles[-2:] == ["user", "assistant"] and "assistant" not in roles[:-1]:
        text, label = row.messages[-2].content, row.messages[-1].content
    else:
        raise BadInput(
            "training.not_labelled",
            f"{name}, line {number} has no label: it is neither a text with a label nor one question with one answer.",
            hint="Import the table as a data set for classification, with the columns text and label.",
        )
    if not text.strip() or not label.strip():
        raise _invalid(name, number, "its text or its label is empty")
    return LabelledText(text=text, label=label.strip())


def _tagged(line: bytes, name: str, number: int) -> TaggedText:
    try:
        row = msgspec.json.decode(line, type=TaggedText)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _invalid(name, number, str(error)) from error
    if b'"spans"' not in line:
        raise BadInput(
            "training.not_tagged",
            f"{name}, line {number} has no spans.",
            hint="Use a data set whose rows have a text and its labelled spans.",
        )
    last = 0
    for span in sorted(row.spans, key=lambda span: span.start):
        if not last <= span.start < span.end <= len(row.text) or not span.label.strip():
            raise _invalid(name, number, f"its span {span.start}-{span.end} overlaps another or lies outside the text")
        last = span.end
    return row


def _invalid(name: str, number: int, reason: str) -> BadInput:
    return BadInput(
        "training.row_invalid",
        f"{name}, line {number} is not a canonical row: {reason}.",
        hint="Import the file as a data set; the import writes canonical rows.",
    )


def _shown(label: str) -> str:
    return repr(label if len(label) <= _SHOWN else label[: _SHOWN - 1] + "…")
