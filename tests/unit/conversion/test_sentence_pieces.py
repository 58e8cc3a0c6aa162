"""Scores say what the list of pairs says, or the list is refused."""

from __future__ import annotations

import pytest

from appliance.conversion.sentence_pieces import scores_of
from appliance.kernel.errors import BadInput


def vocabulary(*pieces: str) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(pieces)}


def test_pieces_have_scores_in_the_order_in_which_they_are_made() -> None:
    pieces = vocabulary("<s>", "a", "b", "c", "abc", "bc", "ab")
    merges = [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]
    assert scores_of(pieces, merges) == (0.0, 0.0, 0.0, 0.0, -3.0, -1.0, -2.0)


def test_runs_of_one_character_share_a_score_where_their_pairs_are_interleaved() -> None:
    pieces = vocabulary("▁", "▁▁", "▁▁▁", "▁▁▁▁")
    merges = [("▁▁▁", "▁"), ("▁▁", "▁▁"), ("▁▁", "▁"), ("▁", "▁▁▁"), ("▁", "▁▁"), ("▁", "▁")]
    assert scores_of(pieces, merges) == (0.0, -2.0, -1.0, -1.0)


def test_a_pair_that_is_not_listed_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'▁' and 't' never merge although '▁t' is a piece"):
        scores_of(vocabulary("▁", "t", "▁t", "a", "▁a"), [("▁", "a")])


def test_a_control_token_that_text_could_be_merged_into_is_refused() -> None:
    pieces = vocabulary("<s>", "<", "s>", "s", ">")
    with pytest.raises(BadInput, match=r"'<' and 's>' never merge although '<s>' is a piece"):
        scores_of(pieces, [("s", ">")])


def test_interleaved_pairs_of_different_pieces_are_refused() -> None:
    pieces = vocabulary("a", "b", "c", "ab", "bc", "abc", "cb")
    merges = [("ab", "c"), ("c", "b"), ("a", "bc"), ("a", "b"), ("b", "c")]
    with pytest.raises(BadInput, match=r"pairs that make 'abc' and 'cb' are interleaved"):
        scores_of(pieces, merges)


def test_a_vocabulary_that_merges_nothing_has_no_scores() -> None:
    assert scores_of(vocabulary("a", "b"), []) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("pieces", "named"),
    [({"a": 0, "b": 1 << 31}, "ids up to 2147483648"), ({"a": 0, "b" * 2000: 1}, "has 2000 characters")],
)
def test_a_vocabulary_that_would_take_all_memory_or_time_is_refused(pieces: dict[str, int], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        scores_of(pieces, [])
