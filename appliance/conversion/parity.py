"""The parity gate: a GGUF file may be registered only if llama.cpp gives what transformers gives.

Pure comparison and judgement; both engines are asked elsewhere. transformers decodes greedily and llama.cpp follows
the same tokens, so each step compares the next token after the very same text, and one slip does not hide the rest.
With every step equal this is the same as two free runs being equal.

A near tie (the two candidates closer than 0.0001 in transformers' own logits) is no statement about the conversion:
float32 sums differ by that much with their order. Ties are counted, reported, and limited to one step in a hundred.

A confident model hides a damaged weight behind the same token. In float32 the likelihoods must therefore agree, too:
measured differences are below 0.00001 nat, one weight of a flat model changed by 0.02 gives 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.kernel.errors import IntegrityFailure

TIE_GAP = 1e-4
_MAX_TIE_SHARE = 0.01
_EXACT_LOGPROB_GAP = 1e-3
_LOSSY_TOKEN_SHARE = 0.9
_LOSSY_PERPLEXITY_RATIO = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyRun:
    """What transformers decoded after one prompt. One entry per step in `tokens`, `logprobs` and `best`."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    best: tuple[tuple[tuple[int, float], ...], ...]
    """The few highest (token, logit) of each step, highest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedRun:
    """What llama.cpp would have chosen at each step of a `GreedyRun`, and how likely it found the chosen token."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenComparison:
    """Greedy steps: how many agree, how many of the others are near ties, and the first that is neither."""

    prompts: int
    equal: int
    ties: int
    total: int
    perplexity_ratio: float
    logprob_gap: float
    """Largest difference of a chosen token's log likelihood, in nats."""
    first_difference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StringComparison:
    """Tokenised strings: how many agree, and the first that does not."""

    equal: int
    total: int
    first_difference: str


def compare_tokens(reference: Sequence[GreedyRun], candidate: Sequence[FollowedRun]) -> TokenComparison:
    """Compare run by run, step by step."""
    equal = ties = total = 0
    surprise = widest = 0.0
    first = ""
    for number, (wanted, got) in enumerate(zip(reference, candidate, strict=True), start=1):
        steps = zip(wanted.tokens, got.tokens, wanted.best, strict=True)
        for step, (expected, found, best) in enumerate(steps, start=1):
            total += 1
            if expected == found:
                equal += 1
            elif _gap(best, found) < TIE_GAP:
                ties += 1
            else:
                first = first or (
                    f"prompt {number}, step {step}: transformers gives token {expected}, llama.cpp gives {found}"
                )
        gaps = [a - b for a, b in zip(wanted.logprobs, got.logprobs, strict=True)]
        surprise += sum(gaps)
        widest = max(widest, *map(abs, gaps))
    return TokenComparison(
        prompts=len(reference),
        equal=equal,
        ties=ties,
        total=total,
        perplexity_ratio=math.exp(min(surprise / total, 700.0)) if total else math.inf,
        logprob_gap=widest,
        first_difference=first,
    )


def compare_strings(
    reference: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]], names: Sequence[str]
) -> StringComparison:
    """Compare two tokenisations of the same strings; `names` says how to call each one in a message."""
    first = ""
    equal = 0
    for wanted, got, name in zip(reference, candidate, names, strict=True):
        if list(wanted) == list(got):
            equal += 1
        else:
            first = first or f"{name}: transformers gives {_some(wanted)}, llama.cpp gives {_some(got)}"
    return StringComparison(equal=equal, total=len(reference), first_difference=first)


def require_parity(dtype: str, tokens: TokenComparison, texts: StringComparison) -> None:
    """Raise IntegrityFailure ("conversion.parity") naming the first difference.

    float32: every step that is no near tie must agree, and the likelihoods within 0.001 nat. Other formats lose
    precision on purpose: 9 of 10 steps must agree and the perplexity on transformers' own answers may rise by 2 %.
    Strings must always agree, all of them.
    """
    if not tokens.total or not texts.total:
        raise _difference("there was nothing to compare")
    if texts.equal != texts.total:
        raise _difference(f"{texts.total - texts.equal} of {texts.total} strings differ; {texts.first_difference}")
    if tokens.ties > _MAX_TIE_SHARE * tokens.total:
        raise _difference(f"{tokens.ties} of {tokens.total} steps are near ties; the model prefers no token to another")
    if dtype == "f32":
        passed = tokens.equal + tokens.ties == tokens.total and tokens.logprob_gap <= _EXACT_LOGPROB_GAP
    else:
        share = (tokens.equal + tokens.ties) / tokens.total
        passed = share >= _LOSSY_TOKEN_SHARE and tokens.perplexity_ratio <= _LOSSY_PERPLEXITY_RATIO
    if not passed:
        raise _difference(
            f"{tokens.equal} of {tokens.total} greedy tokens agree, the perplexity ratio is "
            f"{tokens.perplexity_ratio:.4f}, log likelihoods differ by up to {tokens.logprob_gap:.5f}; "
            f"{tokens.first_difference or 'no greedy token differs'}"
        )


def _gap(best: Sequence[tuple[int, float]], found: int) -> float:
    logits = dict(best)
    return best[0][1] - logits[found] if found in logits else math.inf


def _some(tokens: Sequence[int]) -> str:
    return f"{list(tokens[:12])}{'…' if len(tokens) > 12 else ''}"


def _difference(what: str) -> IntegrityFailure:
    return IntegrityFailure(
        "conversion.parity",
        f"The converted file does not give the same tokens as the model: {what}.",
        hint="It was not registered. With a lossy number format, convert to f32 instead; otherwise report this.",
    )
