"""What every answer of a generating endpoint consists of, and the protocol of those who write it in their shape.

`chat_answers`, `text_answers` and `response_answers` write the same content; `generation` does not know which one it
has. Log-probabilities are natural logarithms, never below -9999 (JSON has no infinity; OpenAI uses that figure).
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from appliance.engine.frames import Candidate, Piece, TokenLogprob
from appliance.gateway.refusals import Refusal

LOGPROB_FLOOR: Final = -9999.0
DONE: Final = b"data: [DONE]\n\n"
NOT_COUNTED: Final = {True: None, False: msgspec.UNSET}
"""`usage` of all events but the last, by whether counts were asked for: null then, as OpenAI has it, else absent."""
_ALPHABET: Final = string.ascii_letters + string.digits


class PromptDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the answer was reasoning."""

    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


@dataclass(slots=True, kw_only=True)
class CallMade:
    """A function call while it grows."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Choice:
    """One choice while it grows."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[CallMade] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: str | None = None
    tokens: int = 0
    opened: bool = False
    """whether its first event went out"""
    echoed: int = 0
    """characters of the prompt before the answer, for `text_offset`"""

    def take(self, piece: Piece) -> None:
        """Note what a piece brought."""
        if piece.text:
            self.texts.append(piece.text)
        if piece.reasoning:
            self.reasoning.append(piece.reasoning)
        for part in piece.calls:
            if part.name:
                self.calls.append(CallMade(id=_call_id(), name=part.name))
            if part.arguments:
                self.calls[part.index].arguments.append(part.arguments)
        self.logprobs.extend(piece.logprobs)

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, in OpenAI's words."""
        return "tool_calls" if self.calls and self.reason == "stop" else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What every document of one answer repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Form(Protocol):
    """Writes the documents of one answer of one endpoint. A choice has taken a piece before it is written."""

    def opening(self, index: int) -> bytes:
        """Return the events that open a choice, or nothing."""

    def piece(self, index: int, choice: Choice, piece: Piece) -> bytes:
        """Return the events that carry what is new."""

    def closing(self, index: int, choice: Choice) -> bytes:
        """Return the events that end a choice."""

    def ending(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """Return the events that end a stream."""

    def failure(self, refusal: Refusal) -> bytes:
        """Return the event that ends a stream which cannot go on."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """Return the whole answer as one JSON document."""


def event(document: bytes) -> bytes:
    """Wrap a JSON document (which never contains a raw line break) as one server-sent event."""
    return b"data: %b\n\n" % document


def floor(candidate: Candidate) -> float:
    """A log-probability that JSON can hold."""
    return max(candidate.logprob, LOGPROB_FLOOR)


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """One token that could have been chosen."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class TokenEntry(TopLogprob, frozen=True, kw_only=True):
    """The token that was chosen, and the most likely ones."""

    top_logprobs: tuple[TopLogprob, ...]


def token_entries(logprobs: Sequence[TokenLogprob]) -> tuple[TokenEntry, ...]:
    """Log-probabilities as chat completions and responses have them."""
    return tuple(_entry(logprob) for logprob in logprobs)


def _entry(entry: TokenLogprob) -> TokenEntry:
    top = tuple(TopLogprob(token=one.text, logprob=floor(one), bytes=tuple(one.data)) for one in entry.top)
    chosen = entry.chosen
    return TokenEntry(token=chosen.text, logprob=floor(chosen), bytes=tuple(chosen.data), top_logprobs=top)


def _call_id() -> str:
    """Nine letters and digits: what the strictest chat template takes back."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))
