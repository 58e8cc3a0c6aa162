"""POST /v1/responses: the request document and the plan that is made of it.

Nothing is kept between two requests: `previous_response_id` and its like are refused, and clients send the items again.
Source: OpenAI API reference, responses.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from appliance.engine.frames import Asked, Call, Message, Sampling, Tool
from appliance.gateway.chat import ANY_OBJECT, Effort, wants_reasoning
from appliance.gateway.fields import Count, Fraction, Name, Temperature, TopLogprobs, content_text, decode, given
from appliance.gateway.json_schema import SchemaBudget
from appliance.gateway.plan import Plan, Query
from appliance.gateway.refusals import bad_request, unsupported
from appliance.gateway.tools import MAX_TOOLS, Function, FunctionName, check_kind, offered, subset

_LOGPROBS: Final = "message.output_text.logprobs"
_PATHS: Final = {"response_format": "text.format", "reasoning_effort": "reasoning.effort"}
_TEXT_KINDS: Final = ("input_text", "output_text")
_KEPT_NOTHING: Final = ("previous_response_id", "conversation", "background", "prompt")


class InputPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message's content; only text is served."""

    type: str
    text: str | None = None


class InputItem(msgspec.Struct, frozen=True, kw_only=True):
    """A message, a function call, its output, or a reasoning item (which is passed over)."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None


class TextFormat(msgspec.Struct, frozen=True, kw_only=True):
    """`text`, `json_object`, or `json_schema` with its schema."""

    type: str = "text"
    name: FunctionName | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of the text."""

    format: TextFormat | None = None


class ResponseTool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool; only functions are served."""

    type: str
    name: FunctionName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedResponseTool(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tools, by its name."""

    type: str
    name: str = ""


class ResponseToolChoice(NamedResponseTool, frozen=True, kw_only=True, omit_defaults=True):
    """The one tool that must be called, or with type `allowed_tools` those that may be."""

    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[NamedResponseTool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model shall reason."""

    effort: Effort | None = None
    summary: str | None = None


Metadata = Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/responses."""

    model: Name
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    text: TextOptions | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: TopLogprobs | None = None
    metadata: Metadata | None = None
    truncation: str | None = None
    previous_response_id: Any = None
    conversation: Any = None
    background: Any = None
    prompt: Any = None


_decoder: Final = msgspec.json.Decoder(ResponsesRequest)


def parse_response(body: bytes) -> Plan:
    """Understand a request for a response. Raises Refusal (400)."""
    request = decode(body, _decoder)
    for field in _KEPT_NOTHING:
        if getattr(request, field):
            raise unsupported(field, f"the field {field}, for no response is kept here (send the items again),")
    if request.truncation not in (None, "disabled"):
        raise unsupported("truncation", "shortening the input")
    asked = _asked(request)
    wants_logprobs = _LOGPROBS in (request.include or ()) or bool(request.top_logprobs)
    return Plan(
        model=request.model,
        queries=(Query(messages=tuple(_messages(request))),),
        sampling=Sampling(
            max_tokens=request.max_output_tokens,
            temperature=given(request.temperature, 1.0),
            top_p=given(request.top_p, 1.0),
            logprobs=(request.top_logprobs or 0) if wants_logprobs else None,
        ),
        asked=asked,
        stream=bool(request.stream),
        repeated={
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "parallel_tool_calls": asked.parallel,
            "reasoning": request.reasoning or Reasoning(),
            "temperature": given(request.temperature, 1.0),
            "text": request.text if request.text and request.text.format else TextOptions(format=TextFormat()),
            "tool_choice": request.tool_choice or "auto",
            "tools": request.tools or [],
            "top_p": given(request.top_p, 1.0),
        },
        paths=_PATHS,
    )


def _asked(request: ResponsesRequest) -> Asked:
    budget = SchemaBudget()
    functions = []
    for index, tool in enumerate(request.tools or ()):
        where = f"tools[{index}]"
        check_kind(tool.type, where)
        if tool.name is None:
            raise bad_request(f"{where}.name is missing.", param=f"{where}.name")
        functions.append((where, Function(name=tool.name, description=tool.description, parameters=tool.parameters)))
    tools = offered(functions, budget)
    schema = _schema(request.text.format if request.text else None, budget)
    tools, required, allowed = _chosen(request.tool_choice, tools)
    return Asked(
        schema=schema,
        tools=tools,
        required=required,
        allowed=allowed,
        parallel=request.parallel_tool_calls is not False,
        reasoning=wants_reasoning(request.reasoning.effort if request.reasoning else None),
    )


def _chosen(
    choice: str | ResponseToolChoice | None, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], bool, tuple[str, ...]]:
    """The functions that are offered, whether one must be called, and which alone may be."""
    where = "tool_choice"
    if isinstance(choice, ResponseToolChoice):
        if choice.type != "allowed_tools":
            return tools, True, subset([_named(choice, where)], tools)
        if choice.mode is None or choice.tools is None:
            missing = f"{where}.{'mode' if choice.mode is None else 'tools'}"
            raise bad_request(f"{missing} is missing.", param=missing)
        names = [_named(tool, f"{where}.tools[{index}]") for index, tool in enumerate(choice.tools)]
        return tools, choice.mode == "required", subset(names, tools)
    if choice == "required" and not tools:
        raise bad_request("tool_choice needs tools.", param=where)
    return (() if choice == "none" else tools), choice == "required", ()


def _named(tool: NamedResponseTool, where: str) -> tuple[str, str]:
    check_kind(tool.type, where)
    return f"{where}.name", tool.name


def _schema(wanted: TextFormat | None, budget: SchemaBudget) -> str | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.type != "json_schema":
        raise unsupported("text.format", f"the format {wanted.type!r}")
    return budget.check(wanted.schema or {}, "text.format.schema")


def _messages(request: ResponsesRequest) -> list[Message]:
    turns = [] if request.instructions is None else [Message(role="system", content=request.instructions)]
    if isinstance(request.input, str):
        return [*turns, Message(role="user", content=request.input)]
    called: dict[str, str] = {}
    for index, item in enumerate(request.input):
        where = f"input[{index}]"
        if item.type == "function_call":
            call = _call(item, where)
            called[call.id] = call.name
            if turns and turns[-1].role == "assistant":  # one turn, as chat templates know it
                turns[-1] = msgspec.structs.replace(turns[-1], calls=(*turns[-1].calls, call))
            else:
                turns.append(Message(role="assistant", content="", calls=(call,)))
        elif item.type == "function_call_output":
            if (item.call_id or "") not in called:
                raise bad_request(f"{where}.call_id: no call before it has this id.", param=f"{where}.call_id")
            text = _text(item.output, f"{where}.output")
            turns.append(Message(role="tool", content=text, call=item.call_id or "", name=called[item.call_id or ""]))
        elif item.type == "message":
            if item.role is None:
                raise bad_request(f"{where}.role is missing.", param=f"{where}.role")
            role = "system" if item.role == "developer" else item.role
            turns.append(Message(role=role, content=_text(item.content, f"{where}.content")))
    if not turns:
        raise bad_request("input has nothing to answer.", param="input")
    return turns


def _call(item: InputItem, where: str) -> Call:
    for field in ("call_id", "name", "arguments"):
        if getattr(item, field) is None:
            raise bad_request(f"{where}.{field} is missing.", param=f"{where}.{field}")
    return Call(id=item.call_id or "", name=item.name or "", arguments=item.arguments or "")


def _text(content: str | list[InputPart] | None, where: str) -> str:
    if isinstance(content, str):
        return content
    if not content:
        raise bad_request(f"{where} is missing.", param=where)
    return content_text(content, _TEXT_KINDS, where)
