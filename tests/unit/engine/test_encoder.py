"""Framing and limits of texts, against a real tokenizer-less encoder: only lengths and ids matter here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from appliance.engine.encoder import Framing, Matrix, Passage, framing_of, passages, sigmoid, softmax, unit
from appliance.engine.frames import Encode, Kind
from appliance.kernel.errors import BadInput


class Letters:
    """One token for each letter; control tokens are 1 and 2."""

    width, labels, batch, sequences, padded = 1, (), 8, 4, False
    vocabulary, longest_piece, parameters, description, build = 200, 1, 0, "letters", "none"
    single = Framing(before=(1,), after=(2,))
    pair = Framing(before=(1,), between=(2,), after=(2,))

    def __init__(self, kind: Kind = "embed", context: int = 8) -> None:
        self.kind: Kind = kind
        self.context = context

    def tokenise(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def compute(self, passages: Sequence[Passage]) -> Matrix:
        return np.zeros((len(passages), 1), np.float32)


def ask(
    *texts: str | tuple[int, ...], encoder: Letters | None = None, query: str | None = None, truncate: bool = False
) -> list[Passage]:
    frame = Encode(id=1, tenant="t", texts=texts, query=query, truncate=truncate)
    return passages(encoder or Letters(), frame)


def refused(
    *texts: str | tuple[int, ...], encoder: Letters | None = None, query: str | None = None, truncate: bool = False
) -> str:
    with pytest.raises(BadInput) as refused:
        ask(*texts, encoder=encoder, query=query, truncate=truncate)
    return f"{refused.value.code} {refused.value.message}"


def test_a_text_is_framed_and_token_ids_are_taken_as_they_are() -> None:
    assert ask("ab", (7, 8)) == [Passage((1, 97, 98, 2), 4), Passage((1, 7, 8, 2), 4)]


def test_a_pair_says_where_its_second_text_begins() -> None:
    assert ask("b", encoder=Letters("rerank"), query="a") == [Passage((1, 97, 2, 98, 2), 3)]


def test_a_long_text_is_refused_by_number_unless_it_may_be_cut() -> None:
    assert refused("ok", "abcdefg").startswith("engine.context_length Text 1 has 9 tokens")
    assert ask("abcdefg", truncate=True)[0].tokens == (1, *b"abcdef", 2)
    assert "2000 characters" in refused("x" * 2000)
    assert len(ask("x" * 2000, truncate=True)[0].tokens) == 8


def test_only_the_document_of_a_pair_is_cut() -> None:
    reranker = Letters("rerank")
    assert ask("bbbbbbbb", encoder=reranker, query="aa", truncate=True)[0].tokens == (1, *b"aa", 2, *b"bbb", 2)
    assert "The query" in refused("b", encoder=reranker, query="aaaaaa", truncate=True)


def test_what_does_not_belong_to_the_kind_is_refused() -> None:
    assert "takes no query" in refused("a", query="b")
    assert "needs a query" in refused("a", encoder=Letters("rerank"))
    assert "no text" in refused()
    assert "outside the vocabulary of 200" in refused((200,))
    assert "outside the vocabulary" in refused((-1,))


def test_framing_is_read_off_an_example() -> None:
    assert framing_of([1, 5, 6, 2], [5, 6]) == Framing(before=(1,), after=(2,))
    with pytest.raises(BadInput):
        framing_of([1, 5, 2], [5, 6])


def test_numbers() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    assert unit(rows).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    huge = np.array([[1000.0, 0.0, -1000.0]], np.float32)
    assert softmax(huge).tolist() == [[1.0, 0.0, 0.0]]
    assert sigmoid(huge).tolist() == [[1.0, 0.5, 0.0]]
