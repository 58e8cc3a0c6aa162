from __future__ import annotations

import random

import pytest

from appliance.datasets.near import NearIndex, _jaccard, _pieces_of
from appliance.kernel.errors import BadInput

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]


def sentence(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def test_the_first_of_similar_texts_stands_for_all() -> None:
    index = NearIndex(threshold=0.8)
    assert index.place(0, "How do I track my new card, please?") is None
    assert index.place(1, "something else entirely") is None
    likeness = index.place(2, "how do I  track my new card, please")
    assert likeness is not None
    assert likeness.number == 0
    assert 0.8 <= likeness.similarity < 1
    assert index.find("HOW DO I TRACK MY NEW CARD, PLEASE?") is not None
    assert index.find("nothing of the kind") is None


def test_almost_every_pair_above_the_threshold_is_found_and_none_below() -> None:
    index = NearIndex(threshold=0.85)
    found = above = 0
    for number in range(200):
        text = sentence(number)
        assert index.place(number, text) is None
        changed = text.split()
        changed[number % 40] = "qqq" * (1 + number % 3)
        other = " ".join(changed)
        near = _jaccard(_pieces_of(text), _pieces_of(other)) >= 0.85
        above += near
        likeness = index.find(other)
        found += near and likeness is not None
        assert near or likeness is None
    assert above > 150
    assert found >= 0.98 * above


def test_equal_texts_in_equal_order_give_equal_answers() -> None:
    texts = [sentence(number % 30, 8) for number in range(90)]

    def answers() -> list[object]:
        index = NearIndex(threshold=0.9)
        return [index.place(number, text) for number, text in enumerate(texts)]

    assert answers() == answers()
    assert answers()[30:60] == answers()[60:]


@pytest.mark.parametrize("text", ["", "a", " ", "x" * 100_000])
def test_texts_of_every_length_have_pieces(text: str) -> None:
    index = NearIndex(threshold=1.0)
    assert index.place(0, text) is None
    assert index.place(1, text) is not None


@pytest.mark.parametrize("threshold", [0.4, 1.1, -1])
def test_thresholds_have_bounds(threshold: float) -> None:
    with pytest.raises(BadInput) as raised:
        NearIndex(threshold=threshold)
    assert raised.value.code == "dataset.near"
