"""What clients get: the answer documents of OpenAI's API, whole and as server-sent events.

`ChatForm` and `TextForm` write the same content in the two shapes; `generation` does not know which one it has.
Log-probabilities are natural logarithms, never below -9999 (JSON has no infinity; OpenAI uses that figure).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from appliance.engine.frames import Candidate, TokenLogprob

LOGPROB_FLOOR: Final = -9999.0
DONE: Final = b"data: [DONE]\n\n"


class PromptDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


@dataclass(slots=True, kw_only=True)
class Choice:
    """One choice while it grows."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: str | None = None
    tokens: int = 0
    opened: bool = False
    """whether its first event went out"""
    sent: int = 0
    """characters of token text that went out before, for `text_offset`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What every document of one answer repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Form(Protocol):
    """Writes documents of one endpoint."""

    def opening(self, index: int) -> bytes:
        """Return the event that opens a choice, or nothing."""

    def piece(self, index: int, choice: Choice, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """Return the event that carries new text."""

    def closing(self, index: int, reason: str) -> bytes:
        """Return the event that ends a choice."""

    def usage(self, usage: Usage) -> bytes:
        """Return the event that counts the tokens."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """Return the whole answer as one JSON document."""


def event(document: bytes) -> bytes:
    """Wrap a JSON document (which never contains a raw line break) as one server-sent event."""
    return b"data: %b\n\n" % document


# chat/completions


class _Top(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class _ChatToken(_Top, frozen=True, kw_only=True):
    top_logprobs: tuple[_Top, ...]


class _ChatLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    content: tuple[_ChatToken, ...]
    refusal: None = None


class _Delta(msgspec.Struct, frozen=True, kw_only=True):
    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET


class _ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    delta: _Delta
    logprobs: _ChatLogprobs | None = None
    finish_reason: str | None = None


class _ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[_ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType = msgspec.UNSET


class _ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str = "assistant"
    content: str
    refusal: None = None


class _ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    message: _ChatMessage
    logprobs: _ChatLogprobs | None
    finish_reason: str | None


class _ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[_ChatChoice, ...]
    usage: Usage


class ChatForm:
    """Documents of /v1/chat/completions."""

    def __init__(self, identity: Identity) -> None:
        self._of = identity

    def opening(self, index: int) -> bytes:
        return self._chunk(_ChunkChoice(index=index, delta=_Delta(role="assistant", content="")))

    def piece(self, index: int, choice: Choice, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        return self._chunk(_ChunkChoice(index=index, delta=_Delta(content=text), logprobs=_chat_logprobs(logprobs)))

    def closing(self, index: int, reason: str) -> bytes:
        return self._chunk(_ChunkChoice(index=index, delta=_Delta(), finish_reason=reason))

    def usage(self, usage: Usage) -> bytes:
        return self._chunk(usage=usage)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        of = self._of
        return msgspec.json.encode(
            _ChatAnswer(
                id=of.id,
                created=of.created,
                model=of.model,
                system_fingerprint=of.system_fingerprint,
                choices=tuple(
                    _ChatChoice(
                        index=index,
                        message=_ChatMessage(content="".join(choice.texts)),
                        logprobs=_chat_logprobs(choice.logprobs),
                        finish_reason=choice.reason,
                    )
                    for index, choice in enumerate(choices)
                ),
                usage=usage,
            )
        )

    def _chunk(self, *choices: _ChunkChoice, usage: Usage | msgspec.UnsetType = msgspec.UNSET) -> bytes:
        of = self._of
        chunk = _ChatChunk(
            id=of.id,
            created=of.created,
            model=of.model,
            system_fingerprint=of.system_fingerprint,
            choices=choices,
            usage=usage,
        )
        return event(msgspec.json.encode(chunk))


def _chat_logprobs(logprobs: Sequence[TokenLogprob]) -> _ChatLogprobs | None:
    if not logprobs:
        return None
    return _ChatLogprobs(content=tuple(_chat_token(entry) for entry in logprobs))


def _chat_token(entry: TokenLogprob) -> _ChatToken:
    top = tuple(_Top(token=one.text, logprob=_floor(one), bytes=tuple(one.data)) for one in entry.top)
    chosen = entry.chosen
    return _ChatToken(token=chosen.text, logprob=_floor(chosen), bytes=tuple(chosen.data), top_logprobs=top)


def _floor(candidate: Candidate) -> float:
    return max(candidate.logprob, LOGPROB_FLOOR)


# completions


class _TextLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    tokens: tuple[str, ...]
    token_logprobs: tuple[float, ...]
    top_logprobs: tuple[dict[str, float], ...]
    text_offset: tuple[int, ...]


class _TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: _TextLogprobs | None = None
    finish_reason: str | None = None


class _TextAnswer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[_TextChoice, ...]
    usage: Usage | msgspec.UnsetType = msgspec.UNSET


class TextForm:
    """Documents of /v1/completions."""

    def __init__(self, identity: Identity) -> None:
        self._of = identity

    def opening(self, index: int) -> bytes:
        return b""

    def piece(self, index: int, choice: Choice, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        return event(self._answer(_TextChoice(index=index, text=text, logprobs=_text_logprobs(choice, logprobs))))

    def closing(self, index: int, reason: str) -> bytes:
        return event(self._answer(_TextChoice(index=index, text="", finish_reason=reason)))

    def usage(self, usage: Usage) -> bytes:
        return event(self._answer(usage=usage))

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        written = (
            _TextChoice(
                index=index,
                text="".join(choice.texts),
                logprobs=_text_logprobs(choice, choice.logprobs),
                finish_reason=choice.reason,
            )
            for index, choice in enumerate(choices)
        )
        return self._answer(*written, usage=usage)

    def _answer(self, *choices: _TextChoice, usage: Usage | msgspec.UnsetType = msgspec.UNSET) -> bytes:
        of = self._of
        answer = _TextAnswer(
            id=of.id,
            created=of.created,
            model=of.model,
            system_fingerprint=of.system_fingerprint,
            choices=choices,
            usage=usage,
        )
        return msgspec.json.encode(answer)


def _text_logprobs(choice: Choice, logprobs: Sequence[TokenLogprob]) -> _TextLogprobs | None:
    if not logprobs:
        return None
    offsets = []
    for entry in logprobs:
        offsets.append(choice.sent)
        choice.sent += len(entry.chosen.text)
    return _TextLogprobs(
        tokens=tuple(entry.chosen.text for entry in logprobs),
        token_logprobs=tuple(_floor(entry.chosen) for entry in logprobs),
        top_logprobs=tuple({one.text: _floor(one) for one in entry.top} for entry in logprobs),
        text_offset=tuple(offsets),
    )
