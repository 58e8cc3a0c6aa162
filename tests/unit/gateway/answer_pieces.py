"""What tests of answer documents are made of."""

from __future__ import annotations

import math
from typing import Any

from appliance.engine.frames import CallPiece, Candidate, Piece, TokenLogprob
from appliance.gateway.answers import Choice, CompletionDetails, Form, Identity, PromptDetails, Usage

IDENTITY = Identity(id="x-1", created=5, model="m", system_fingerprint="r1-ab")
USAGE = Usage(
    prompt_tokens=1,
    completion_tokens=2,
    total_tokens=3,
    prompt_tokens_details=PromptDetails(cached_tokens=0),
    completion_tokens_details=CompletionDetails(reasoning_tokens=1),
)
THINK = Piece(id=1, text="", tokens=1, reasoning="hm")
CALLS = (
    Piece(id=1, text="", tokens=1, calls=(CallPiece(index=0, name="weather", arguments=""),)),
    Piece(id=1, text="", tokens=1, calls=(CallPiece(index=0, name="", arguments='{"city": '),)),
    Piece(
        id=1,
        text="",
        tokens=1,
        calls=(CallPiece(index=0, name="", arguments='"Rome"}'), CallPiece(index=1, name="clock", arguments="{}")),
    ),
)


def token(text: str, logprob: float, *, offset: int = 0) -> TokenLogprob:
    return half(text.encode(), logprob, offset=offset)


def half(data: bytes, logprob: float, *, offset: int = 0) -> TokenLogprob:
    """A token that may end in the middle of a character."""
    candidate = Candidate(token=1, text=data.decode(errors="replace"), data=data, logprob=logprob)
    other = Candidate(token=2, text="?", data=b"?", logprob=-math.inf)
    return TokenLogprob(chosen=candidate, top=(candidate, other), offset=offset)


def said(text: str, *logprobs: TokenLogprob) -> Piece:
    return Piece(id=1, text=text, tokens=1, logprobs=logprobs)


def grown(*pieces: Piece, reason: str = "stop") -> Choice:
    """A choice that took these pieces and ended."""
    choice = Choice()
    for piece in pieces:
        choice.take(piece)
    choice.reason = reason
    return choice


def streamed(form: Form, *pieces: Piece, reason: str = "stop") -> bytes:
    """The whole stream of one choice, as `generation` writes it."""
    choice = Choice()
    events = form.opening(0)
    for piece in pieces:
        choice.take(piece)
        events += form.piece(0, choice, piece)
    choice.reason = reason
    return events + form.closing(0, choice) + form.ending([choice], USAGE)


def names(documents: list[dict[str, Any]]) -> list[str]:
    return [document["type"] for document in documents]
