"""Comparison and judgement without engines."""

from __future__ import annotations

import math

import pytest

from appliance.conversion.parity import (
    FollowedRun,
    GreedyRun,
    StringComparison,
    TokenComparison,
    compare_strings,
    compare_tokens,
    require_parity,
)
from appliance.kernel.errors import IntegrityFailure

SAME_STRINGS = StringComparison(equal=600, total=600, first_difference="")


def greedy(*tokens: int, gap: float = 1.0) -> GreedyRun:
    """A run whose second-best token is always 99, `gap` below the chosen one."""
    return GreedyRun(
        prompt=(1, 2),
        tokens=tokens,
        logprobs=(-0.5,) * len(tokens),
        best=tuple(((token, 3.0), (99, 3.0 - gap)) for token in tokens),
    )


def followed(*tokens: int, logprob: float = -0.5) -> FollowedRun:
    return FollowedRun(tokens=tokens, logprobs=(logprob,) * len(tokens))


def comparison(
    *, equal: int, ties: int = 0, total: int = 200, ratio: float = 1.0, gap: float = 1e-5
) -> TokenComparison:
    return TokenComparison(
        prompts=4,
        equal=equal,
        ties=ties,
        total=total,
        perplexity_ratio=ratio,
        logprob_gap=gap,
        first_difference="" if equal + ties == total else "prompt 1, step 2: …",
    )


def test_equal_runs_are_counted_step_by_step() -> None:
    found = compare_tokens([greedy(5, 6), greedy(7)], [followed(5, 6), followed(7)])
    assert (found.prompts, found.equal, found.ties, found.total) == (2, 3, 0, 3)
    assert found.perplexity_ratio == pytest.approx(1.0)
    assert found.first_difference == ""


def test_the_first_difference_is_named_and_later_steps_still_count() -> None:
    found = compare_tokens([greedy(5, 6), greedy(7, 8, 9)], [followed(5, 6), followed(7, 42, 9)])
    assert (found.equal, found.total) == (4, 5)
    assert found.first_difference == "prompt 2, step 2: transformers gives token 8, llama.cpp gives 42"


@pytest.mark.parametrize(("gap", "ties"), [(5e-5, 1), (2e-4, 0)])
def test_only_a_near_tie_between_the_two_candidates_is_a_tie(gap: float, ties: int) -> None:
    assert compare_tokens([greedy(5, gap=gap)], [followed(99)]).ties == ties


def test_a_token_that_is_not_among_the_best_is_never_a_tie() -> None:
    assert compare_tokens([greedy(5, gap=0.0)], [followed(42)]).ties == 0


def test_the_perplexity_ratio_grows_with_what_llama_finds_less_likely() -> None:
    found = compare_tokens([greedy(5, 6)], [followed(5, 6, logprob=-0.6)])
    assert found.perplexity_ratio == pytest.approx(math.exp(0.1))


def test_the_widest_gap_counts_in_both_directions() -> None:
    wanted = [greedy(5, 6), greedy(7)]
    assert compare_tokens(wanted, [followed(5, 6), followed(7, logprob=-0.2)]).logprob_gap == pytest.approx(0.3)
    assert compare_tokens(wanted, [followed(5, 6, logprob=-0.9), followed(7)]).logprob_gap == pytest.approx(0.4)


def test_runs_that_do_not_belong_together_are_a_defect() -> None:
    with pytest.raises(ValueError):
        compare_tokens([greedy(5, 6)], [followed(5)])


def test_strings_are_compared_and_the_first_difference_is_named() -> None:
    found = compare_strings([[1, 2], [3]], [[1, 2], [4]], ["string 'a'", "string 'b'"])
    assert (found.equal, found.total) == (1, 2)
    assert found.first_difference == "string 'b': transformers gives [3], llama.cpp gives [4]"


@pytest.mark.parametrize(
    ("dtype", "tokens"),
    [
        ("f32", comparison(equal=200)),
        ("f32", comparison(equal=198, ties=2)),
        ("q8_0", comparison(equal=190, ratio=1.01, gap=0.3)),
    ],
)
def test_what_passes(dtype: str, tokens: TokenComparison) -> None:
    require_parity(dtype, tokens, SAME_STRINGS)


@pytest.mark.parametrize(
    ("dtype", "tokens", "texts", "named"),
    [
        ("f32", comparison(equal=199), SAME_STRINGS, "199 of 200 greedy tokens agree"),
        ("f32", comparison(equal=197, ties=3), SAME_STRINGS, "near ties"),
        ("f32", comparison(equal=200, gap=0.002), SAME_STRINGS, "0.00200; no greedy token differs"),
        ("f32", comparison(equal=200, gap=math.nan), SAME_STRINGS, "nan"),
        ("q8_0", comparison(equal=179), SAME_STRINGS, "prompt 1, step 2"),
        ("q8_0", comparison(equal=199, ratio=1.03), SAME_STRINGS, "1.0300"),
        ("f16", comparison(equal=199, ratio=math.nan), SAME_STRINGS, "nan"),
        ("q8_0", comparison(equal=200), StringComparison(equal=599, total=600, first_difference="X"), "X"),
        ("f32", comparison(equal=0, total=0), SAME_STRINGS, "nothing to compare"),
        ("f32", comparison(equal=200), StringComparison(equal=0, total=0, first_difference=""), "nothing to compare"),
    ],
)
def test_what_is_refused(dtype: str, tokens: TokenComparison, texts: StringComparison, named: str) -> None:
    with pytest.raises(IntegrityFailure, match=r"conversion\.parity") as refusal:
        require_parity(dtype, tokens, texts)
    assert named in refusal.value.message
