"""The documents of /v1/chat/completions, whole and as events. Source: OpenAI API reference; `reasoning_content` as
DeepSeek's API and vLLM have it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.engine.frames import Piece, TokenLogprob
from appliance.gateway.answers import DONE, NOT_COUNTED, Choice, Identity, TokenEntry, Usage, event, token_entries
from appliance.gateway.refusals import Refusal


class ChatLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """One entry per token of the content."""

    content: tuple[TokenEntry, ...]
    refusal: None = None


class FunctionDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is new of a call; the name comes once, `arguments` is JSON text in parts."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class CallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a call."""

    index: int
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: str | msgspec.UnsetType = msgspec.UNSET
    function: FunctionDelta


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a message."""

    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[CallDelta, ...] | msgspec.UnsetType = msgspec.UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of one choice."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """What is called, `arguments` as JSON text."""

    name: str
    arguments: str


class MadeCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the client shall carry out."""

    id: str
    type: str = "function"
    function: CalledFunction


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant's turn."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[MadeCall, ...] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: Usage


class ChatForm:
    """Writes them for one answer."""

    def __init__(self, identity: Identity, *, counted: bool = False, measured: bool = False) -> None:
        """`counted`: a stream shall end with the counts of tokens. `measured`: log-probabilities were asked for."""
        self._of = identity
        self._counted = counted
        self._measured = measured

    def opening(self, index: int) -> bytes:
        return self._chunk(ChunkChoice(index=index, delta=Delta(role="assistant", content="")))

    def piece(self, index: int, choice: Choice, piece: Piece) -> bytes:
        delta = Delta(
            content=piece.text or msgspec.UNSET,
            reasoning_content=piece.reasoning or msgspec.UNSET,
            tool_calls=_call_deltas(choice, piece) if piece.calls else msgspec.UNSET,
        )
        return self._chunk(
            ChunkChoice(index=index, delta=delta, logprobs=_logprobs(piece.logprobs) if piece.logprobs else None)
        )

    def closing(self, index: int, choice: Choice) -> bytes:
        return self._chunk(ChunkChoice(index=index, delta=Delta(), finish_reason=choice.finish_reason))

    def ending(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return self._chunk(usage=usage) + DONE if self._counted else DONE

    def failure(self, refusal: Refusal) -> bytes:
        return event(refusal.document())

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        of = self._of
        return msgspec.json.encode(
            ChatAnswer(
                id=of.id,
                created=of.created,
                model=of.model,
                system_fingerprint=of.system_fingerprint,
                choices=tuple(
                    ChatChoice(
                        index=index,
                        message=_message(choice),
                        logprobs=_logprobs(choice.logprobs) if self._measured else None,
                        finish_reason=choice.finish_reason,
                    )
                    for index, choice in enumerate(choices)
                ),
                usage=usage,
            )
        )

    def _chunk(self, *choices: ChunkChoice, usage: Usage | None = None) -> bytes:
        of = self._of
        chunk = ChatChunk(
            id=of.id,
            created=of.created,
            model=of.model,
            system_fingerprint=of.system_fingerprint,
            choices=choices,
            usage=usage or NOT_COUNTED[self._counted],
        )
        return event(msgspec.json.encode(chunk))


def _call_deltas(choice: Choice, piece: Piece) -> tuple[CallDelta, ...]:
    return tuple(
        CallDelta(
            index=part.index,
            id=choice.calls[part.index].id if part.name else msgspec.UNSET,
            type="function" if part.name else msgspec.UNSET,
            function=FunctionDelta(name=part.name or msgspec.UNSET, arguments=part.arguments),
        )
        for part in piece.calls
    )


def _message(choice: Choice) -> AnswerMessage:
    calls = tuple(
        MadeCall(id=call.id, function=CalledFunction(name=call.name, arguments="".join(call.arguments)))
        for call in choice.calls
    )
    text = "".join(choice.texts)
    return AnswerMessage(
        content=text if text or not calls else None,
        reasoning_content="".join(choice.reasoning) or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )


def _logprobs(logprobs: Sequence[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs(content=token_entries(logprobs))
