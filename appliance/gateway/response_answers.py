"""The documents of /v1/responses, whole and as numbered events. Source: OpenAI API reference, responses.

A response is a list of items: reasoning, a message, function calls. In a stream each is opened, grows and is closed
before the next one begins.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from appliance.engine.frames import Piece
from appliance.gateway.answers import CallMade, Choice, Identity, TokenEntry, Usage, token_entries
from appliance.gateway.plan import Plan
from appliance.gateway.refusals import Refusal


class OutputText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a message."""

    type: str = "output_text"
    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[TokenEntry, ...] = ()


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True):
    """What the model thought."""

    type: str = "reasoning_text"
    text: str


class MessageItem(msgspec.Struct, frozen=True, kw_only=True, tag="message"):
    """What the model says."""

    id: str
    status: str
    role: str = "assistant"
    content: tuple[OutputText, ...]


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning"):
    """What the model thought before."""

    id: str
    status: str
    summary: tuple[()] = ()
    content: tuple[ReasoningText, ...]


class CallItem(msgspec.Struct, frozen=True, kw_only=True, tag="function_call"):
    """A call that the client shall carry out."""

    id: str
    status: str
    call_id: str
    name: str
    arguments: str


Item = MessageItem | ReasoningItem | CallItem


class InputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the input came from the prefix cache."""

    cached_tokens: int


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the output was reasoning."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response is cut."""

    reason: str


class ResponseError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response failed."""

    code: str
    message: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. `store` is always false: nothing is kept."""

    id: str
    object: str = "response"
    created_at: int
    status: str
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    model: str
    output: tuple[Item, ...] = ()
    usage: ResponseUsage | None = None
    previous_response_id: None = None
    store: bool = False
    truncation: str = "disabled"
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    reasoning: Any = None
    temperature: float = 1.0
    text: Any = None
    tool_choice: Any = "auto"
    tools: Any = ()
    top_p: float = 1.0


class ResponseForm:
    """Writes them for one answer."""

    def __init__(self, identity: Identity, plan: Plan) -> None:
        self._of = identity
        self._repeated = plan.repeated
        self._events = _Events()
        self._output: list[Item] = []
        self._open: _OpenItem | None = None

    def opening(self, index: int) -> bytes:
        response = self._response("in_progress")
        return self._events("response.created", response=response) + self._events(
            "response.in_progress", response=response
        )

    def piece(self, index: int, choice: Choice, piece: Piece) -> bytes:
        parts: list[bytes] = []
        if piece.reasoning:
            self._turn_to("reasoning", parts).grow(piece.reasoning, parts)
        if piece.text:
            self._turn_to("message", parts).grow(piece.text, parts, token_entries(piece.logprobs))
        for part in piece.calls:
            item = self._turn_to("function_call", parts, choice.calls[part.index])
            if part.arguments:
                item.grow(part.arguments, parts)
        return b"".join(parts)

    def closing(self, index: int, choice: Choice) -> bytes:
        parts: list[bytes] = []
        if self._open is None and not self._output:
            self._turn_to("message", parts)
        self._close(parts, _status(choice))
        return b"".join(parts)

    def ending(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        response = self._response(_status(choices[0]), output=tuple(self._output), usage=usage)
        return self._events(f"response.{response.status}", response=response)

    def failure(self, refusal: Refusal) -> bytes:
        error = ResponseError(code=refusal.code, message=refusal.message)
        response = self._response("failed", output=tuple(self._output), error=error)
        return self._events("response.failed", response=response)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        (choice,) = choices
        status = _status(choice)
        output: list[Item] = []
        if choice.reasoning:
            thought = ReasoningText(text="".join(choice.reasoning))
            output.append(ReasoningItem(id=_new_id("rs"), status="completed", content=(thought,)))
        if choice.texts or not (choice.reasoning or choice.calls):
            text = OutputText(text="".join(choice.texts), logprobs=token_entries(choice.logprobs))
            output.append(MessageItem(id=_new_id("msg"), status="completed", content=(text,)))
        output += [_call_item(_new_id("fc"), call, "completed") for call in choice.calls]
        output[-1] = msgspec.structs.replace(output[-1], status=status)  # what is cut off is the last one
        return msgspec.json.encode(self._response(status, output=tuple(output), usage=usage))

    def _turn_to(self, kind: str, parts: list[bytes], call: CallMade | None = None) -> _OpenItem:
        """The item that grows now; another one is closed first."""
        if self._open is None or self._open.kind != kind or self._open.call is not call:
            self._close(parts)
            self._open = _OpenItem(kind, len(self._output), call, self._events)
            self._open.open(parts)
        return self._open

    def _close(self, parts: list[bytes], status: str = "completed") -> None:
        if self._open is not None:
            self._output.append(self._open.close(parts, status))
            self._open = None

    def _response(
        self,
        status: str,
        *,
        output: tuple[Item, ...] = (),
        usage: Usage | None = None,
        error: ResponseError | None = None,
    ) -> Response:
        return Response(
            id=self._of.id,
            created_at=self._of.created,
            status=status,
            error=error,
            incomplete_details=Incomplete(reason="max_output_tokens") if status == "incomplete" else None,
            model=self._of.model,
            output=output,
            usage=None if usage is None else _usage(usage),
            **self._repeated,
        )


class _Events:
    """Numbers the events of one stream."""

    def __init__(self) -> None:
        self._number = -1

    def __call__(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        document = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), document)


_TEXT_EVENT: Final = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
_PREFIX: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class _OpenItem:
    """The item of a stream that grows."""

    def __init__(self, kind: str, index: int, call: CallMade | None, events: _Events) -> None:
        self.kind = kind
        self.call = call
        self._id = _new_id(_PREFIX[kind])
        self._index = index
        self._events = events
        self._texts: list[str] = []
        self._logprobs: list[TokenEntry] = []

    def open(self, parts: list[bytes]) -> None:
        """Say that it begins."""
        empty = self._item("in_progress", with_content=False)
        parts.append(self._events("response.output_item.added", output_index=self._index, item=empty))
        if self.call is None:
            parts.append(self._part_event("response.content_part.added"))

    def grow(self, text: str, parts: list[bytes], logprobs: tuple[TokenEntry, ...] = ()) -> None:
        """Say what is new."""
        self._texts.append(text)
        self._logprobs += logprobs
        if self.call is not None:
            kind = "response.function_call_arguments.delta"
            parts.append(self._events(kind, item_id=self._id, output_index=self._index, delta=text))
            return
        more = {"logprobs": logprobs} if self.kind == "message" else {}
        parts.append(self._events(f"{_TEXT_EVENT[self.kind]}.delta", **self._place(), delta=text, **more))

    def close(self, parts: list[bytes], status: str) -> Item:
        """Say that it is complete, and return it."""
        text = "".join(self._texts)
        if self.call is not None:
            kind = "response.function_call_arguments.done"
            place = {"item_id": self._id, "output_index": self._index}
            parts.append(self._events(kind, **place, name=self.call.name, arguments=text))
        else:
            more = {"logprobs": self._logprobs} if self.kind == "message" else {}
            parts.append(self._events(f"{_TEXT_EVENT[self.kind]}.done", **self._place(), text=text, **more))
            parts.append(self._part_event("response.content_part.done"))
        item = self._item(status)
        parts.append(self._events("response.output_item.done", output_index=self._index, item=item))
        return item

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}

    def _part_event(self, kind: str) -> bytes:
        return self._events(kind, **self._place(), part=self._part())

    def _part(self) -> OutputText | ReasoningText:
        text = "".join(self._texts)
        if self.kind == "reasoning":
            return ReasoningText(text=text)
        return OutputText(text=text, logprobs=tuple(self._logprobs))

    def _item(self, status: str, *, with_content: bool = True) -> Item:
        if self.call is not None:
            return _call_item(self._id, self.call, status, "".join(self._texts))
        part = self._part()
        if isinstance(part, ReasoningText):
            return ReasoningItem(id=self._id, status=status, content=(part,) if with_content else ())
        return MessageItem(id=self._id, status=status, content=(part,) if with_content else ())


def _call_item(identifier: str, call: CallMade, status: str, arguments: str | None = None) -> CallItem:
    text = "".join(call.arguments) if arguments is None else arguments
    return CallItem(id=identifier, status=status, call_id=call.id, name=call.name, arguments=text)


def _status(choice: Choice) -> str:
    return "incomplete" if choice.reason == "length" else "completed"


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=usage.prompt_tokens_details.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=usage.completion_tokens_details.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
