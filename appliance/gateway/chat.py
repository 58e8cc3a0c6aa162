"""POST /v1/chat/completions: the request document and the plan that is made of it.

Source: OpenAI API reference, chat completions; `top_k` and its like as llama-server and vLLM name them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from appliance.engine.frames import Asked, Call, Message, Tool
from appliance.gateway.fields import (
    Common,
    Count,
    TopLogprobs,
    content_text,
    decode,
    sampling,
    wants_usage,
    without_ends,
)
from appliance.gateway.json_schema import SchemaBudget
from appliance.gateway.plan import Plan, Query
from appliance.gateway.refusals import bad_request, unsupported
from appliance.gateway.tools import MAX_TOOLS, Function, FunctionName, check_kind, offered, subset

ANY_OBJECT: Final = '{"type":"object"}'


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message; only text is served."""

    type: str
    text: str | None = None


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """What an assistant called; `arguments` is JSON text."""

    name: FunctionName
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call in an assistant's turn."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn as the client wrote it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None


class ChatTool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool; only functions are served."""

    type: str
    function: Function | None = None


class NamedFunction(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a function."""

    name: str


class NamedTool(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tools, by its name."""

    type: str
    function: NamedFunction | None = None


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True):
    """Those of the tools that may be called, or of which one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MAX_TOOLS)]


class ToolChoice(NamedTool, frozen=True, kw_only=True):
    """The one tool that must be called, or with type `allowed_tools` those that may be."""

    allowed_tools: AllowedTools | None = None


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The schema of an answer. `strict` makes no difference: an answer always follows it."""

    name: FunctionName
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """`text`, `json_object`, or `json_schema` with its schema."""

    type: str = "text"
    json_schema: JsonSchema | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class ChatRequest(Common, frozen=True, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ChatTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    functions: Any = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None


_decoder: Final = msgspec.json.Decoder(ChatRequest)


def parse_chat(body: bytes) -> Plan:
    """Understand a chat request. Raises Refusal (400)."""
    request = decode(body, _decoder)
    _refuse_unserved(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true.", param="top_logprobs")
    limit = request.max_completion_tokens or request.max_tokens
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return Plan(
        model=request.model,
        queries=(Query(messages=tuple(_messages(request.messages))),),
        choices=request.n or 1,
        sampling=sampling(request, limit=limit, logprobs=logprobs),
        asked=_asked(request),
        stream=bool(request.stream),
        include_usage=wants_usage(request),
    )


def _refuse_unserved(request: ChatRequest) -> None:
    for field in ("functions", "audio", "prediction", "web_search_options"):
        if getattr(request, field):
            raise unsupported(field, f"the field {field}")
    if request.function_call not in (None, "none", "auto"):
        raise unsupported("function_call", "forcing a function by its older name")
    if request.modalities not in (None, [], ["text"]):
        raise unsupported("modalities", "any modality but text")


def _asked(request: ChatRequest) -> Asked:
    budget = SchemaBudget()
    schema = _schema(request, budget)
    tools, required, allowed = _tools(request, budget)
    if tools and request.ignore_eos:
        raise bad_request("ignore_eos and tools exclude each other.", param="ignore_eos")
    return Asked(
        schema=schema,
        tools=tools,
        required=required,
        allowed=allowed,
        parallel=request.parallel_tool_calls is not False,
        reasoning=wants_reasoning(request.reasoning_effort),
    )


def wants_reasoning(effort: Effort | None) -> bool | None:
    """Whether the model shall reason; how long it does is its own affair."""
    return None if effort is None else effort != "none"


def _schema(request: ChatRequest, budget: SchemaBudget) -> str | None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    without_ends(request, "response_format")
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.type != "json_schema":
        raise unsupported("response_format", f"the format {wanted.type!r}")
    where = "response_format.json_schema"
    if wanted.json_schema is None:
        raise bad_request(f"{where} is missing.", param=where)
    return budget.check(wanted.json_schema.schema or {}, f"{where}.schema")


def _tools(request: ChatRequest, budget: SchemaBudget) -> tuple[tuple[Tool, ...], bool, tuple[str, ...]]:
    """The functions that are offered, whether one must be called, and which alone may be."""
    functions = []
    for index, tool in enumerate(request.tools or ()):
        where = f"tools[{index}]"
        check_kind(tool.type, where)
        if tool.function is None:
            raise bad_request(f"{where}.function is missing.", param=f"{where}.function")
        functions.append((f"{where}.function", tool.function))
    tools = offered(functions, budget)
    choice = request.tool_choice
    if isinstance(choice, ToolChoice):
        where = "tool_choice"
        if choice.type != "allowed_tools":
            return tools, True, subset([_named(choice, where)], tools)
        where += ".allowed_tools"
        wanted = choice.allowed_tools
        if wanted is None:
            raise bad_request(f"{where} is missing.", param=where)
        names = [_named(tool, f"{where}.tools[{index}]") for index, tool in enumerate(wanted.tools)]
        return tools, wanted.mode == "required", subset(names, tools)
    if choice == "required" and not tools:
        raise bad_request("tool_choice needs tools.", param="tool_choice")
    return (() if choice == "none" else tools), choice == "required", ()


def _named(tool: NamedTool, where: str) -> tuple[str, str]:
    check_kind(tool.type, where)
    return f"{where}.function.name", tool.function.name if tool.function else ""


def _messages(messages: list[ChatMessage]) -> list[Message]:
    called: dict[str, str] = {}
    """function name of each call so far, for templates that repeat it with the result"""
    turns = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        for field in ("function_call", "audio"):
            if getattr(message, field):
                raise unsupported(f"{where}.{field}", f"the field {field}")
        calls = tuple(
            Call(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        )
        if calls and message.role != "assistant":
            raise bad_request(f"{where}.tool_calls belong to an assistant.", param=f"{where}.tool_calls")
        called.update((call.id, call.name) for call in calls)
        result = message.role == "tool"
        if result and (message.tool_call_id or "") not in called:
            path = f"{where}.tool_call_id"
            raise bad_request(f"{path}: no call before it has this id.", param=path)
        call = (message.tool_call_id or "") if result else ""
        turns.append(
            Message(
                role="system" if message.role == "developer" else message.role,  # OpenAI's newer name for the same
                content=_content(message, where, optional=bool(calls)),
                calls=calls,
                call=call,
                name=called.get(call, ""),
            )
        )
    return turns


def _content(message: ChatMessage, where: str, *, optional: bool) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None and optional:
        return ""
    if not content:
        raise bad_request(f"{where}.content is missing.", param=f"{where}.content")
    return content_text(content, ("text",), f"{where}.content")
