"""Which streams a draft model guesses for in this step, and how many tokens: the scheduler's counterpart for it.

Pure: knows streams, measured times and a `Drafter`, no model. Prompt lookup goes first, the draft model guesses for the
rest. What it does not know of a text yet it computes in parts, between the tokens of those who wait. Invariant: it is
asked for nothing that is not expected to make the streams faster.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from typing import Final, Protocol

from appliance.engine.lanes import BASE
from appliance.engine.scheduler import Chunk, Sequence
from appliance.engine.speculation import LEAST_RATE, MOST_DRAFTED, Offer, Source, best_offer, repays
from appliance.engine.step_cost import StepCost

LEVEL: Final = MOST_DRAFTED + 1
"""A stream that lacks no more than one step brings is level: its guesses cost nothing beyond themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Compute `count` tokens that are lacking of a sequence; then guess so many, for which nothing may be lacking."""

    sequence: Sequence
    count: int
    guesses: int


class Drafter(Protocol):
    """A draft model with its own cells."""

    @property
    def cost(self) -> StepCost:
        """What its steps take."""

    @property
    def batch(self) -> int:
        """Tokens it computes at once."""

    def lacking(self, sequence: Sequence) -> int | None:
        """How many tokens of a sequence it has not computed, at least one; None when it cannot take it in."""

    def advance(self, work: Ordered[Work]) -> list[list[int]]:
        """Do the work. Returns the guesses for each entry: as many as were asked for, fewer where there is no room."""


def add_guesses(
    chunks: list[Chunk], drafter: Drafter, *, cost: StepCost, room: int, seconds: float, least: int
) -> list[Chunk]:
    """Return the planned step with guesses of the draft model, or as it is.

    `room` is how many rows more the step may have, `seconds` how long it may take beyond its own time for what the
    draft model lacks, of which it computes at least `least` tokens.
    """
    if room <= 0 or not chunks or chunks[0].sequence.adapter != BASE:
        return chunks
    lacking = {at: drafter.lacking(chunk.sequence) for at, chunk in enumerate(chunks) if _open(chunk)}
    able = [at for at, count in lacking.items() if count is not None and _promises(chunks[at].sequence)]
    able.sort(key=lambda at: -chunks[at].sequence.drafting.rate)
    offer = _offer(chunks, able, drafter, cost, room)
    chosen = able[: offer.streams]
    fits = max(1, drafter.batch - LEVEL * len(chosen))
    budget = min(max(drafter.cost.chunk(seconds, rows=0), least), fits)
    ready, work = list[int](), dict[int, Work]()
    for at in chosen:
        sequence, count = chunks[at].sequence, lacking[at] or 0
        if count > LEVEL:
            coming = sequence.limit - len(sequence.tokens)
            if not repays(drafter.cost, lacking=count, coming=coming, saved=offer.saved) or budget <= 0:
                continue
            count = min(count, budget)
            budget -= count
            work[at] = Work(sequence=sequence, count=count, guesses=0)
        if count == lacking[at]:
            ready.append(at)
    if len(ready) < len(chosen):
        offer = _offer(chunks, ready, drafter, cost, room)
    for at in ready[: offer.streams]:
        sequence = chunks[at].sequence
        guesses = min(offer.count, _most(sequence))
        work[at] = Work(sequence=sequence, count=lacking[at] or 0, guesses=guesses)
    if not work:
        return chunks
    found = dict(zip(work, drafter.advance(list(work.values())), strict=True))
    return [_guessing(chunk, found.get(at, [])) for at, chunk in enumerate(chunks)]


def _offer(chunks: list[Chunk], able: list[int], drafter: Drafter, cost: StepCost, room: int) -> Offer:
    return best_offer(
        cost,
        drafter.cost,
        rows=sum(chunk.count for chunk in chunks),
        tokens=sum(map(_expected, chunks)),
        acceptances=[chunks[at].sequence.drafting.rate for at in able],
        room=room,
    )


def _open(chunk: Chunk) -> bool:
    """Whether it is one token of a stream for which nobody has guessed."""
    return chunk.last and chunk.count == 1 and _most(chunk.sequence) > 0


def _promises(sequence: Sequence) -> bool:
    return sequence.drafting.rate >= LEAST_RATE


def _most(sequence: Sequence) -> int:
    """Guesses beyond the next token that its answer still has room for."""
    return sequence.limit - len(sequence.tokens) - 1


def _expected(chunk: Chunk) -> float:
    """Tokens that a chunk is expected to bring."""
    rate = chunk.sequence.lookup.acceptance.rate
    return 1.0 + sum(rate ** (at + 1) for at in range(len(chunk.draft)))


def _guessing(chunk: Chunk, guesses: list[int]) -> Chunk:
    if not guesses:
        return chunk
    return replace(chunk, count=1 + len(guesses), draft=tuple(guesses), source=Source.DRAFT)
