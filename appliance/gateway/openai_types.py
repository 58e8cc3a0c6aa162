"""What clients send: the request documents of OpenAI's API, checked where the bytes come in.

A field is either served, ignored because ignoring it changes no answer (`user`, `store`, …), or refused by name
because ignoring it would (`tools`, images, JSON schemas). Fields nobody knows are ignored, as OpenAI does.
Source: OpenAI API reference, chat/completions and completions.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from appliance.engine.frames import Message, Sampling
from appliance.gateway.refusals import bad_request, unsupported

MAX_CHOICES: Final = 8
MAX_STOPS: Final = 4
_SEED_SPAN: Final = 1 << 63

Temperature = Annotated[float, Meta(ge=0, le=2)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
Seed = Annotated[int, Meta(ge=-_SEED_SPAN, le=_SEED_SPAN - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Biases = Annotated[dict[int, Bias], Meta(max_length=1024)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`include_usage` asks for one more chunk that counts the tokens."""

    include_usage: bool = False


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """Only plain text is served."""

    type: str = "text"


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message; only text is served."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn as the client wrote it."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What both endpoints have in common."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    max_tokens: Count | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    # beyond OpenAI's, under the names that llama-server and vLLM use
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Fraction | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    ignore_eos: bool | None = None


class ChatRequest(Common, frozen=True, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None


class CompletionRequest(Common, frozen=True, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt for the engine: `messages` or `text`."""

    messages: tuple[Message, ...] | None = None
    text: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was understood. Choice i answers `queries[i // choices]`."""

    model: str
    queries: tuple[Query, ...]
    choices: int
    sampling: Sampling
    stream: bool
    include_usage: bool

    def submits(self) -> list[tuple[Query, Sampling]]:
        """Return what goes to the engine, one entry per choice; each choice of a seeded request has its own seed."""
        entries = []
        for query in self.queries:
            for number in range(self.choices):
                sampling = self.sampling
                if number and sampling.seed is not None:
                    seed = (sampling.seed + number) % _SEED_SPAN
                    sampling = msgspec.structs.replace(sampling, seed=seed)
                entries.append((query, sampling))
        return entries


def parse_chat(body: bytes) -> Plan:
    """Understand a chat request. Raises Refusal (400)."""
    request = decode_body(body, _chat_decoder)
    _refuse_unserved_chat(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true.", param="top_logprobs")
    messages = tuple(_message(message, index) for index, message in enumerate(request.messages))
    limit = request.max_completion_tokens or request.max_tokens
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return _plan(request, (Query(messages=messages),), _sampling(request, limit=limit, logprobs=logprobs))


def parse_completion(body: bytes) -> Plan:
    """Understand a text completion request. Raises Refusal (400)."""
    request = decode_body(body, _completion_decoder)
    if request.suffix:
        raise unsupported("suffix", "filling in the middle")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise unsupported("best_of", "a best_of other than n")
    sampling = _sampling(request, limit=request.max_tokens, logprobs=request.logprobs, echo=bool(request.echo))
    return _plan(request, _prompts(request.prompt), sampling)


RequestType = TypeVar("RequestType")
_chat_decoder: Final = msgspec.json.Decoder(ChatRequest)
_completion_decoder: Final = msgspec.json.Decoder(CompletionRequest)


def decode_body(body: bytes, decoder: msgspec.json.Decoder[RequestType]) -> RequestType:
    """Decode a request's JSON. Raises Refusal (400) that names the field at fault."""
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        if match := re.search(r"missing required field `(\w+)`", text):
            param = f"{param}.{match[1]}" if param else match[1]
        raise bad_request(f"{param}: {text}." if param else f"{text}.", param=param) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from error
    return request


def _refuse_unserved_chat(request: ChatRequest) -> None:
    for field in ("tools", "functions", "audio", "prediction", "web_search_options"):
        if getattr(request, field):
            raise unsupported(field, f"the field {field}")
    if request.tool_choice not in (None, "none", "auto"):
        raise unsupported("tool_choice", "forcing a tool")
    if request.function_call not in (None, "none", "auto"):
        raise unsupported("function_call", "forcing a function")
    if request.response_format is not None and request.response_format.type != "text":
        raise unsupported("response_format", f"the format {request.response_format.type!r}")
    if request.modalities not in (None, [], ["text"]):
        raise unsupported("modalities", "any modality but text")


def _message(message: ChatMessage, index: int) -> Message:
    where = f"messages[{index}]"
    for field in ("tool_calls", "function_call", "audio"):
        if getattr(message, field):
            raise unsupported(f"{where}.{field}", f"the field {field}")
    role = "system" if message.role == "developer" else message.role  # OpenAI's newer name for the same thing
    if role in ("tool", "function"):
        raise unsupported(f"{where}.role", f"the role {role!r}")
    if role not in ("system", "user", "assistant"):
        raise bad_request(f"{where}.role: {message.role!r} is not a role.", param=f"{where}.role")
    return Message(role=role, content=_content(message.content, where))


def _content(content: str | list[ContentPart] | None, where: str) -> str:
    if isinstance(content, str):
        return content
    if not content:
        raise bad_request(f"{where}.content is missing.", param=f"{where}.content")
    texts = []
    for number, part in enumerate(content):
        if part.type != "text":
            raise unsupported(f"{where}.content[{number}].type", f"content of type {part.type!r}")
        if part.text is None:
            raise bad_request(f"{where}.content[{number}].text is missing.", param=f"{where}.content[{number}].text")
        texts.append(part.text)
    return "".join(texts)


def _prompts(prompt: str | list[Any]) -> tuple[Query, ...]:
    if isinstance(prompt, str):
        return (Query(text=prompt),)
    if not prompt:
        raise bad_request("prompt is empty.", param="prompt")
    if not all(isinstance(text, str) for text in prompt):
        raise unsupported("prompt", "a prompt given as token numbers")
    return tuple(Query(text=text) for text in prompt)


def _plan(request: Common, queries: tuple[Query, ...], sampling: Sampling) -> Plan:
    choices = request.n or 1
    if len(queries) * choices > MAX_CHOICES:
        raise bad_request(f"prompts times n is more than {MAX_CHOICES}.", param="n")
    options = request.stream_options
    if options is not None and not request.stream:
        raise bad_request("stream_options is only allowed with stream.", param="stream_options")
    return Plan(
        model=request.model,
        queries=queries,
        choices=choices,
        sampling=sampling,
        stream=bool(request.stream),
        include_usage=options is not None and options.include_usage,
    )


def _sampling(request: Common, *, limit: int | None, logprobs: int | None, echo: bool = False) -> Sampling:
    return Sampling(
        max_tokens=limit,
        temperature=_given(request.temperature, 1.0),
        top_p=_given(request.top_p, 1.0),
        top_k=request.top_k or 0,
        min_p=_given(request.min_p, 0.0),
        seed=request.seed,
        stop=_stops(request.stop),
        presence_penalty=_given(request.presence_penalty, 0.0),
        frequency_penalty=_given(request.frequency_penalty, 0.0),
        repeat_penalty=_given(request.repeat_penalty, 1.0),
        logit_bias=request.logit_bias or {},
        logprobs=logprobs,
        ignore_eos=bool(request.ignore_eos),
        echo=echo,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise bad_request(f"stop has more than {MAX_STOPS} entries.", param="stop")
    if not all(stops):
        raise bad_request("stop has an empty entry.", param="stop")
    return stops


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
