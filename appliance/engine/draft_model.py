"""A small second model that guesses what the model will say next, with cells of its own.

Owns the draft model's context and what it holds of each running request. Knows no scheduling: `drafting` says for whom
and how much. Its cells are private to a request and follow what that request has had accepted; what it cannot take in
is simply not guessed for. Used by the engine thread alone. Invariant: what it holds of a request is a prefix of the
request's tokens and of the guesses that are being checked, never anything of another request.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from appliance.engine.drafting import Work
from appliance.engine.llama_context import LlamaContext, LlamaModel, NoRoom
from appliance.engine.scheduler import Chunk, Sequence
from appliance.engine.speculation import MOST_DRAFTED, Expectation
from appliance.engine.step_cost import StepCost
from appliance.engine.warm_up import measured_cost


@dataclass(slots=True)
class _Mirror:
    """A request in the draft model's cells: `own` as its context sees it; `agreed` of its tokens are the request's."""

    own: Sequence
    agreed: int = 0


class DraftModel:
    """Guesses greedily, for several requests at once. See `drafting.Drafter`."""

    def __init__(self, model: LlamaModel, context: LlamaContext, *, slots: int, vocabulary: int) -> None:
        """The context must have room for `slots` sequences; tokens from `vocabulary` on are not the main model's."""
        self.cost = StepCost()
        self.batch = context.batch
        self.expectation = Expectation()
        self.seconds = 0.0
        """computed in all"""
        self._context = context
        self._vocabulary = min(vocabulary, model.vocabulary)
        self._longest = min(context.cells, model.trained_context or context.cells)
        self._slots = slots
        self._unused = list(range(slots))
        self._mirrors: dict[Sequence, _Mirror] = {}

    @property
    def used(self) -> int:
        """Cells that are held."""
        return sum(mirror.own.computed for mirror in self._mirrors.values())

    def warm_up(self) -> None:
        """Touch every weight and measure what steps take."""
        self.cost = measured_cost(self._context, streams=self._slots)

    def lacking(self, sequence: Sequence) -> int | None:
        """See `drafting.Drafter`."""
        length = len(sequence.tokens)
        if length + MOST_DRAFTED > self._longest:
            return None
        mirror = self._mirrors.get(sequence)
        if mirror is None:
            fits = bool(self._unused) and self.used + length + MOST_DRAFTED <= self._context.cells
            return length if fits else None
        self._follow(mirror, sequence)
        return length - mirror.own.computed

    def advance(self, work: Ordered[Work]) -> list[list[int]]:
        """See `drafting.Drafter`. Takes as many steps as the longest guess has tokens, one for all requests each."""
        began = time.monotonic()
        guesses: list[list[int]] = [[] for _ in work]
        chunks = self._first_chunks(work)
        while chunks:
            computed = self._compute(list(chunks.values()))
            if computed is None:
                break
            asked = [at for at, chunk in chunks.items() if chunk.last]
            chunks = {}
            for at, token in zip(asked, computed, strict=True):
                if token >= self._vocabulary:
                    continue
                guesses[at].append(token)
                own = self._mirrors[work[at].sequence].own
                own.tokens.append(token)
                if len(guesses[at]) < work[at].guesses:
                    chunks[at] = Chunk(own, own.computed, 1, last=True)
        self.seconds += time.monotonic() - began
        return guesses

    def retain(self, running: Collection[Sequence]) -> None:
        """Forget all requests but these."""
        for sequence in self._mirrors.keys() - set(running):
            self.forget(sequence)

    def forget(self, sequence: Sequence) -> None:
        """Give up what is held of a request; safe to repeat."""
        mirror = self._mirrors.pop(sequence, None)
        if mirror is not None:
            self._context.cut(mirror.own.slot, 0)
            self._unused.append(mirror.own.slot)

    def _first_chunks(self, work: Ordered[Work]) -> dict[int, Chunk]:
        """What is computed at first: what is lacking. Whatever does not fit is left out."""
        chunks: dict[int, Chunk] = {}
        cells, batch = self._context.cells - self.used, self.batch
        for at, entry in enumerate(work):
            mirror = self._mirror(entry.sequence)
            if mirror is None or entry.count > batch or entry.count + entry.guesses > cells:
                continue
            batch -= entry.count
            cells -= entry.count + entry.guesses
            chunks[at] = Chunk(mirror.own, mirror.own.computed, entry.count, last=entry.guesses > 0)
        return chunks

    def _compute(self, chunks: list[Chunk]) -> list[int] | None:
        """One step: the likeliest next token of each chunk that asks for it; None when there is no room after all."""
        began = time.monotonic()
        try:
            outputs = self._context.decode(chunks)
        except NoRoom:
            self.retain(())
            return None
        rows = prompt_tokens = 0
        for chunk in chunks:
            chunk.sequence.computed += chunk.count
            if chunk.count > MOST_DRAFTED + 1:
                prompt_tokens += chunk.count
            else:
                rows += chunk.count
        found = []
        if outputs:
            logits = self._context.logits(len(outputs))[:, : self._vocabulary]
            found = [int(token) for token in logits.argmax(axis=1)]
        self.cost.observe(rows=rows, prompt_tokens=prompt_tokens, seconds=time.monotonic() - began)
        return found

    def _mirror(self, sequence: Sequence) -> _Mirror | None:
        mirror = self._mirrors.get(sequence)
        if mirror is None:
            if not self._unused:
                return None
            own = Sequence(tenant="", tokens=[], prompt=0, limit=0, slot=self._unused.pop())
            mirror = self._mirrors[sequence] = _Mirror(own)
        self._follow(mirror, sequence)
        return mirror

    def _follow(self, mirror: _Mirror, sequence: Sequence) -> None:
        """Give up the guesses that were wrong, and take over what was said instead."""
        own, tokens = mirror.own, sequence.tokens
        same = mirror.agreed
        while same < min(len(own.tokens), len(tokens)) and own.tokens[same] == tokens[same]:
            same += 1
        if own.computed > same:
            self._context.cut(own.slot, same)
            own.computed = same
        own.tokens[same:] = tokens[same:]
        mirror.agreed = len(tokens)
