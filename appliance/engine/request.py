"""One request inside the worker: what the scheduler sees of it, its sampler, its text and its times."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.answer import Answer, Parts
from appliance.engine.frames import Finished, FinishReason, Piece, Submit
from appliance.engine.outbox import Connection
from appliance.engine.sampling import Likelihood, Sampler
from appliance.engine.scheduler import Sequence


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """Times are seconds of one monotonic clock; zero means not yet."""

    id: int
    connection: Connection
    sequence: Sequence
    sampler: Sampler
    answer: Answer
    submitted: float
    started: float = 0.0
    answered: float = 0.0
    latest: float = 0.0
    """when the latest token came"""
    reasoned: int = 0
    """tokens of the model's reasoning"""

    @property
    def generated(self) -> int:
        """Tokens chosen so far, the end token included."""
        return len(self.sequence.tokens) - self.sequence.prompt

    def take(
        self, token: int, *, ends: frozenset[int], pieces: list[bytes], likelihood: Likelihood | None
    ) -> tuple[Piece, FinishReason | None]:
        """Record the next token: what to show, and why the request ends if it does."""
        self.sequence.tokens.append(token)
        answer, constraint = self.answer, self.sampler.constraint
        reason: FinishReason | None = None
        self.reasoned += answer.thinking
        if token in ends:
            parts = Parts()
        else:
            entry = None if likelihood is None else likelihood.describe(token, pieces)
            parts = answer.feed(token, pieces[token], entry)
        if constraint is not None and constraint.broken:
            reason = "grammar"
        elif token in ends or answer.stopped or (constraint is not None and constraint.complete):
            reason = "stop"
        elif len(self.sequence.tokens) >= self.sequence.limit:
            reason = "length"
        if reason is not None:
            parts.add(answer.flush())
        piece = Piece(
            id=self.id,
            text=parts.text,
            tokens=1,
            logprobs=tuple(parts.logprobs),
            reasoning=parts.reasoning,
            calls=tuple(parts.calls),
        )
        return piece, reason

    def finished(self, reason: FinishReason, now: float) -> Finished:
        """The closing frame."""
        started = self.started or now
        answered = self.answered or now
        return Finished(
            id=self.id,
            reason=reason,
            prompt_tokens=self.sequence.prompt,
            completion_tokens=self.generated,
            cached_tokens=self.sequence.reused or 0,
            queue_seconds=started - self.submitted,
            prompt_seconds=answered - started,
            generation_seconds=now - answered,
            reasoning_tokens=self.reasoned,
        )


def space_of(submit: Submit) -> str:
    """Who may share the cells of a request, as one name: its share group or else its tenant, under one adapter."""
    who = f"share\0{submit.share}" if submit.share else f"tenant\0{submit.tenant}"
    return f"{submit.adapter}\0{who}"
