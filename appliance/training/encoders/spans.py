"""Spans of characters as labels of tokens (BIO) and back, and how well they were found. Pure; knows no model.

`B-x` begins a span of label x, `I-x` goes on with it, `O` is outside. A found span counts only if its label and both of
its ends are right (strict, as CoNLL-2003 counts); where two wanted spans are one token, the first has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from appliance.training.encoders.labelled import Span, TaggedText

OUTSIDE: Final = "O"


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a tagger's outputs: outside first, then begin and inside of each label."""
    return (OUTSIDE, *(f"{place}-{label}" for label in labels for place in "BI"))


def labels_of(rows: Iterable[TaggedText]) -> tuple[str, ...]:
    """Return the labels of all spans, sorted."""
    return tuple(sorted({span.label for row in rows for span in row.spans}))


def token_tags(spans: Sequence[Span], offsets: Sequence[tuple[int, int]], labels: Sequence[str]) -> list[int]:
    """Return the number of each token's tag; tokens are given by their characters, other labels are outside."""
    numbers = {name: number for number, name in enumerate(tag_names(labels))}
    tags = [0] * len(offsets)
    for span in spans:
        if span.label not in labels:
            continue
        place = "B"
        for position, (start, end) in enumerate(offsets):
            if start < span.end and end > span.start and tags[position] == 0 and end > start:
                tags[position] = numbers[f"{place}-{span.label}"]
                place = "I"
    return tags


def spans_of(tags: Sequence[int], offsets: Sequence[tuple[int, int]], labels: Sequence[str]) -> tuple[Span, ...]:
    """Return the spans that tags describe. An inside tag that nothing began begins a span; none has no label."""
    names = tag_names(labels)
    found: list[Span] = []
    open_label = ""
    for tag, (start, end) in zip(tags, offsets, strict=True):
        place, _, label = names[tag].partition("-")
        if place == OUTSIDE:
            open_label = ""
        elif place == "I" and label == open_label:
            found[-1] = Span(start=found[-1].start, end=end, label=label)
        else:
            found.append(Span(start=start, end=end, label=label))
            open_label = label
    return tuple(found)


def score(wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> dict[str, Any]:
    """Return precision, recall and F1 over all spans (micro), of each label, and the mean F1 of the labels."""
    asked: Counter[str] = Counter()
    given: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for want, got in zip(wanted, found, strict=True):
        asked.update(span.label for span in want)
        given.update(span.label for span in got)
        right.update(span.label for span in set(want) & set(got))
    labels = {name: _figures(right[name], given[name], asked[name]) for name in sorted(asked)}
    whole = _figures(right.total(), given.total(), asked.total())
    macro = sum(label["f1"] for label in labels.values()) / max(1, len(labels))
    return whole | {"macro_f1": round(macro, 6), "labels": labels}


def _figures(right: int, given: int, asked: int) -> dict[str, Any]:
    precision = right / given if given else 0.0
    recall = right / asked if asked else 0.0
    total = precision + recall
    return {
        "precision": round(precision, 6),
        "recall": round(recall, 6),
        "f1": round(2 * precision * recall / total, 6) if total else 0.0,
        "spans": asked,
    }
