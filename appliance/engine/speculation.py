"""Whether guessed tokens are worth checking, and how many: speculative decoding as a matter of measured times.

Pure. A step checks all guessed tokens at once (Leviathan et al. 2023; Chen et al. 2023), so they cost what a step of
more rows costs; those of a draft model cost its own steps besides. The answer is the same with and without: a guess
counts only where the request's sampler chooses the very token that was guessed.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.engine.step_cost import StepCost

MOST_DRAFTED: Final = 7
LEAST_RATE: Final = 0.1
"""A stream for which a draft model is right less often gets none of its guesses; nobody computes whether they pay."""

_SMOOTHING: Final = 0.1
_AT_FIRST: Final = 0.7
_HOPE: Final = 0.02
"""How far each new request moves what is expected of it back to what is expected of an unknown one."""
_LIKELY: Final = 0.25
"""The part of an answer's limit that it is expected to reach."""


class Source(StrEnum):
    """Who guessed."""

    LOOKUP = "lookup"
    DRAFT = "draft"


@dataclass(slots=True)
class Acceptance:
    """How often the guesses for one request were right: the probability for a token if those before it were."""

    rate: float = _AT_FIRST

    def learn(self, *, drafted: int, accepted: int) -> None:
        """Take note of a checked guess: `accepted` right ones, and one wrong one unless all were right."""
        for _ in range(accepted):
            self.rate += _SMOOTHING * (1.0 - self.rate)
        if accepted < drafted:
            self.rate *= 1.0 - _SMOOTHING


@dataclass(slots=True)
class Expectation(Acceptance):
    """What the requests so far let expect of the next one, so that a poor draft model is not tried on each anew.

    Every new request hopes a little more than the last: what has changed for the better is found out in the end.
    """

    def begin(self) -> Acceptance:
        """What a new request starts with."""
        self.rate += _HOPE * (_AT_FIRST - self.rate)
        return Acceptance(self.rate)


@dataclass(frozen=True, slots=True)
class Offer:
    """A guess that should pay: `count` tokens for each of the first `streams`, which saves so many seconds a token."""

    streams: int = 0
    count: int = 0
    saved: float = 0.0


def worthwhile(cost: StepCost, *, rows: int, acceptance: float, most: int) -> int:
    """How many tokens of one more guess to check in a step of `rows` streams: the number with the best speed, or 0.

    A guess of k tokens brings a + a^2 + ... + a^k more tokens to the one stream's own, and makes the step as slow as
    one of rows + k.
    """
    base = cost.rows(rows)
    best, fastest = 0, rows / base if base > 0 else 0.0
    gained = 0.0
    for count in range(1, most + 1):
        gained += acceptance**count
        seconds = cost.rows(rows + count)
        if seconds > 0 and (rows + gained) / seconds > fastest:
            best, fastest = count, (rows + gained) / seconds
    return best


def best_offer(
    cost: StepCost, draft: StepCost, *, rows: int, tokens: float, acceptances: Ordered[float], room: int
) -> Offer:
    """How many streams should get guesses of the draft model, and how long ones; none unless that is faster.

    Without them the step has `rows` and is expected to bring `tokens`. `acceptances` are those of the streams that
    could get some, the best first; `room` is how many rows more the step may have. k tokens take k steps of the draft
    model, which computes all streams together.
    """
    base = cost.rows(rows)
    if base <= 0 or not acceptances:
        return Offer()
    slowest = base / tokens
    best = Offer()
    for streams in _sizes(len(acceptances)):
        gained, powers = tokens, [1.0] * streams
        for count in range(1, min(MOST_DRAFTED, room // streams) + 1):
            powers = [power * rate for power, rate in zip(powers, acceptances, strict=False)]
            gained += sum(powers)
            seconds = cost.rows(rows + streams * count) + count * draft.rows(streams)
            if (saved := slowest - seconds / gained) > best.saved:
                best = Offer(streams, count, saved)
    return best


def repays(draft: StepCost, *, lacking: int, coming: int, saved: float) -> bool:
    """Whether so much is expected to be saved on the answer that computing a prompt's `lacking` tokens again pays."""
    return lacking * draft.token < saved * coming * _LIKELY


def _sizes(streams: int) -> list[int]:
    """Some numbers of streams up to all: trying each would cost more time than the best one saves."""
    return [*(1 << power for power in range((streams - 1).bit_length())), streams]
