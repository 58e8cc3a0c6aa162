"""POST /tokenize and /detokenize: what an engine makes of a text, without generating. Shapes as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.engine.frames import Detokenise, Failed, FrameError, Message, Tokenise, Tokens
from appliance.gateway.engine_link import EngineLink
from appliance.gateway.fields import Name, Token, decode
from appliance.gateway.refusals import bad_request, engine_unavailable, from_engine
from appliance.kernel.errors import Unavailable


class TokenMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of plain text."""

    role: str
    content: str


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /tokenize: `prompt`, or `messages` as the chat template renders them."""

    model: Name
    prompt: str | None = None
    messages: Annotated[list[TokenMessage], Meta(min_length=1, max_length=4096)] | None = None
    add_special_tokens: bool = True
    """whether a prompt gets the begin token that the model wants"""
    parse_special: bool = True
    """whether control tokens written in a prompt count as such"""


class TokenizeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The token numbers, how many they are, and how many the model takes."""

    tokens: tuple[int, ...]
    count: int
    max_model_len: int


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /detokenize."""

    model: Name
    tokens: Annotated[list[Token], Meta(max_length=1 << 20)]


class DetokenizeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The text, control tokens spelled out."""

    prompt: str


_tokenize: Final = msgspec.json.Decoder(TokenizeRequest)
_detokenize: Final = msgspec.json.Decoder(DetokenizeRequest)


def parse_tokenize(body: bytes) -> tuple[str, Tokenise]:
    """The model and the question for its engine. Raises Refusal (400)."""
    request = decode(body, _tokenize)
    if (request.prompt is None) == (request.messages is None):
        raise bad_request("Either prompt or messages is needed.", param="prompt")
    messages = (
        None
        if request.messages is None
        else tuple(Message(role=message.role, content=message.content) for message in request.messages)
    )
    return request.model, Tokenise(
        id=0,
        messages=messages,
        prompt=request.prompt,
        begin=request.add_special_tokens,
        special=request.parse_special,
    )


def parse_detokenize(body: bytes) -> tuple[str, Detokenise]:
    """The model and the question for its engine. Raises Refusal (400)."""
    request = decode(body, _detokenize)
    return request.model, Detokenise(id=0, tokens=tuple(request.tokens))


async def ask_tokens(link: EngineLink, model: str, ask: Tokenise | Detokenise) -> bytes:
    """Ask the engine; returns the answer document. Raises Refusal."""
    exchange = link.hold()
    try:
        await link.submit(exchange, [ask])
        ((_, outcome),) = await exchange.take()
    except Unavailable as error:
        raise engine_unavailable(model) from error
    except FrameError as error:
        raise bad_request("The request is larger than an engine accepts.") from error
    finally:
        link.release(exchange)
    if isinstance(outcome, Failed):
        raise from_engine(outcome, model, {"prompt": "tokens"} if isinstance(ask, Detokenise) else {})
    assert isinstance(outcome, Tokens)
    if isinstance(ask, Detokenise):
        return msgspec.json.encode(DetokenizeAnswer(prompt=outcome.text))
    return msgspec.json.encode(
        TokenizeAnswer(tokens=outcome.tokens, count=len(outcome.tokens), max_model_len=outcome.context)
    )
