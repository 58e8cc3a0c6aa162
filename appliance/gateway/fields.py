"""What the request documents of the generating endpoints have in common: kinds of fields, decoding, sampling.

A field is either served, ignored because ignoring it changes no answer (`user`, `store`, …), or refused by name because
ignoring it would. Fields nobody knows are ignored, as OpenAI does. The same documents make /openapi.json.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from appliance.engine.frames import Sampling
from appliance.gateway.plan import SEED_SPAN
from appliance.gateway.refusals import bad_request

MAX_CHOICES: Final = 8
MAX_STOPS: Final = 4

Temperature = Annotated[float, Meta(ge=0, le=2)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
Seed = Annotated[int, Meta(ge=-SEED_SPAN, le=SEED_SPAN - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Token = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
Biases = Annotated[
    dict[Token, Bias], Meta(max_length=1024, extra_json_schema={"propertyNames": {"pattern": "^[0-9]{1,9}$"}})
]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Meta(max_length=MAX_STOPS)]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`include_usage` asks for one more chunk that counts the tokens."""

    include_usage: bool | None = None


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and text completions have in common."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    stop: Stop | Stops | None = None
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
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=2)] | None = None
    ignore_eos: bool | None = None


RequestType = TypeVar("RequestType", bound=msgspec.Struct)


def decode(body: bytes, decoder: msgspec.json.Decoder[RequestType]) -> RequestType:
    """Read a request document. Raises Refusal (400) that names the field at fault."""
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `")
        param = where.rpartition("$")[2].rstrip("`").lstrip(".") or None  # "$.a[0].b", "key` in `$.a"
        if match := re.search(r"missing required field `(\w+)`", text):
            param = f"{param}.{match[1]}" if param else match[1]
        raise bad_request(f"{param}: {text}." if param else f"{text}.", param=param) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from error
    return request


def wants_usage(request: Common) -> bool:
    """Whether a stream ends with the counts. Raises Refusal (400) for options of a stream that is none."""
    options = request.stream_options
    if options is not None and not request.stream:
        raise bad_request("stream_options is only allowed with stream.", param="stream_options")
    return options is not None and bool(options.include_usage)


def sampling(request: Common, *, limit: int | None, logprobs: int | None, echo: bool = False) -> Sampling:
    """How the engine shall draw."""
    return Sampling(
        max_tokens=limit,
        temperature=given(request.temperature, 1.0),
        top_p=given(request.top_p, 1.0),
        top_k=request.top_k or 0,
        min_p=given(request.min_p, 0.0),
        seed=request.seed,
        stop=stops(request.stop),
        presence_penalty=given(request.presence_penalty, 0.0),
        frequency_penalty=given(request.frequency_penalty, 0.0),
        repeat_penalty=given(request.repeat_penalty, 1.0),
        logit_bias=request.logit_bias or {},
        logprobs=logprobs,
        ignore_eos=bool(request.ignore_eos),
        echo=echo,
    )


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """One or several stop strings as several."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def given(value: float | None, default: float) -> float:
    """A field's value, or what it means when it is left out."""
    return default if value is None else value


def without_ends(request: Common, field: str) -> None:
    """Refuse (400) what could cut an answer that has a shape, or make it go on."""
    if request.stop:
        raise bad_request(f"stop and {field} exclude each other: the answer could be cut.", param="stop")
    if request.ignore_eos:
        raise bad_request(f"ignore_eos and {field} exclude each other.", param="ignore_eos")


def content_text(parts: list[Any], kinds: tuple[str, ...], where: str) -> str:
    """Join the text parts of a message. Raises Refusal (400) for any other kind of part."""
    texts = []
    for number, part in enumerate(parts):
        if part.type not in kinds:
            raise bad_request(
                f"{where}[{number}].type: content of type {part.type!r} is not supported by this appliance.",
                param=f"{where}[{number}].type",
                code="unsupported",
            )
        if part.text is None:
            raise bad_request(f"{where}[{number}].text is missing.", param=f"{where}[{number}].text")
        texts.append(part.text)
    return "".join(texts)
