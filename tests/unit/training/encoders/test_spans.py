"""Spans to tags and back, and how they are counted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.training.encoders.labelled import Span
from appliance.training.encoders.spans import score, spans_of, tag_names, token_tags

LABELS = ("NAME", "PLACE")
WORDS = tuple((start, start + 3) for start in range(0, 40, 4))
"""Ten tokens of three characters with a space between."""


def name(start: int, end: int, label: str = "NAME") -> Span:
    return Span(start=start, end=end, label=label)


def test_names_of_the_outputs() -> None:
    assert tag_names(LABELS) == ("O", "B-NAME", "I-NAME", "B-PLACE", "I-PLACE")


def test_neighbours_of_one_label_stay_two_spans() -> None:
    spans = (name(0, 7), name(8, 11))
    assert token_tags(spans, WORDS, LABELS)[:4] == [1, 2, 1, 0]
    assert spans_of(token_tags(spans, WORDS, LABELS), WORDS, LABELS) == spans


def test_a_span_inside_a_token_takes_the_token_and_another_label_is_outside() -> None:
    assert token_tags((name(1, 2),), WORDS, LABELS)[:2] == [1, 0]
    assert token_tags((name(0, 3, "OTHER"),), WORDS, LABELS) == [0] * len(WORDS)


def test_the_frame_has_no_characters_and_no_tag() -> None:
    assert token_tags((name(0, 3),), ((0, 0), (0, 3), (0, 0)), LABELS) == [0, 1, 0]


def test_an_inside_that_nothing_began_begins_a_span() -> None:
    assert spans_of([2, 2, 0, 4], WORDS[:4], LABELS) == (name(0, 7), name(12, 15, "PLACE"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.sampled_from(LABELS)), max_size=5))
def test_spans_of_whole_tokens_come_back(pieces: list[tuple[int, bool, str]]) -> None:
    spans, at = [], 0
    for width, gap, label in pieces:
        at += gap
        if at + width > len(WORDS):
            break
        spans.append(name(WORDS[at][0], WORDS[at + width - 1][1], label))
        at += width
    assert spans_of(token_tags(spans, WORDS, LABELS), WORDS, LABELS) == tuple(spans)


def test_only_exact_spans_count() -> None:
    wanted = [(name(0, 7), name(8, 11, "PLACE")), ()]
    found = [(name(0, 3), name(8, 11, "PLACE")), (name(0, 3),)]
    figures = score(wanted, found)
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.333333, 0.5, 0.4)
    assert figures["labels"]["NAME"]["f1"] == 0.0
    assert figures["labels"]["PLACE"]["f1"] == 1.0
    assert figures["macro_f1"] == 0.5


def test_nothing_found_is_no_division_by_nothing() -> None:
    assert score([()], [()])["f1"] == 0.0
