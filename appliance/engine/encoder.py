"""What a worker that encodes is made of, whichever library computes: tokens in, one row of numbers out.

Owns the framing of texts: what the tokenizer puts before, between and after them, and the lengths. Knows neither
torch nor llama.cpp. Invariant: control tokens come from the framing alone, never from a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from appliance.engine.frames import Encode, Kind
from appliance.kernel.errors import BadInput

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Passage:
    """One sequence to compute. `second` is where the second text begins (its length where there is one text)."""

    tokens: tuple[int, ...]
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Control tokens around one text, or around a pair."""

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


class Encoder(Protocol):
    """A loaded model. `tokenise` may be used by one other thread, `compute` by one thread alone.

    `context` is the longest sequence and `batch` the most tokens of one call, `sequences` the most sequences of one
    call. Where `padded`, a call costs its longest sequence times their number. `single` frames one text, `pair` a
    query and a text.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def width(self) -> int: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def context(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def sequences(self) -> int: ...

    @property
    def padded(self) -> bool: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def longest_piece(self) -> int: ...

    @property
    def parameters(self) -> int: ...

    @property
    def description(self) -> str: ...

    @property
    def build(self) -> str: ...

    @property
    def single(self) -> Framing: ...

    @property
    def pair(self) -> Framing: ...

    def tokenise(self, text: str) -> list[int]: ...

    def compute(self, passages: Sequence[Passage]) -> Matrix: ...


def passages(encoder: Encoder, frame: Encode) -> list[Passage]:
    """Turn a request into sequences. BadInput says what cannot be computed; nothing was changed then."""
    if not frame.tenant:
        raise BadInput("engine.tenant", "A request needs a tenant.")
    if not frame.texts:
        raise BadInput("engine.input", "There is no text to compute.")
    if (frame.query is not None) != (encoder.kind == "rerank"):
        why = "needs a query" if encoder.kind == "rerank" else "takes no query"
        raise BadInput("engine.input", f"A model of kind {encoder.kind} {why}.")
    query = None if frame.query is None else tuple(_tokens(encoder, frame.query, what="The query", cut=False))
    return [
        _passage(encoder, text, query, what=f"Text {number}", cut=frame.truncate)
        for number, text in enumerate(frame.texts)
    ]


def _passage(
    encoder: Encoder, text: str | tuple[int, ...], query: tuple[int, ...] | None, *, what: str, cut: bool
) -> Passage:
    framing = encoder.single if query is None else encoder.pair
    head = framing.before if query is None else (*framing.before, *query, *framing.between)
    room = encoder.context - len(head) - len(framing.after)
    if room < 1:
        raise _too_long("The query", len(query or ()), encoder.context)
    own = _tokens(encoder, text, what=what, cut=cut)
    if not own and not head and not framing.after:
        raise BadInput("engine.input", f"{what} is empty.")
    if len(own) > room:
        if not cut:
            raise _too_long(what, len(head) + len(own) + len(framing.after), encoder.context)
        own = own[:room]
    tokens = (*head, *own, *framing.after)
    return Passage(tokens, len(tokens) if query is None else len(head))


def _tokens(encoder: Encoder, text: str | tuple[int, ...], *, what: str, cut: bool) -> Sequence[int]:
    if isinstance(text, tuple):
        if not all(0 <= token < encoder.vocabulary for token in text):
            raise BadInput("engine.input", f"{what} has a token outside the vocabulary of {encoder.vocabulary}.")
        return text
    most = encoder.context * encoder.longest_piece
    if len(text) > most:  # before the work of tokenising: it cannot fit whatever its tokens are
        if not cut:
            raise BadInput(
                "engine.context_length",
                f"{what} has {len(text)} characters; this model's context of {encoder.context} tokens holds at most "
                f"{most}.",
            )
        text = text[:most]
    return encoder.tokenise(text)


def _too_long(what: str, tokens: int, context: int) -> BadInput:
    return BadInput(
        "engine.context_length",
        f"{what} has {tokens} tokens with its control tokens; this model takes {context}. Shorten it, or ask for "
        "truncation.",
    )


def framing_of(single: Sequence[int], bare: Sequence[int]) -> Framing:
    """Read what a tokenizer puts around a text off one example, with and without it."""
    for start in range(len(single) - len(bare) + 1):
        if list(single[start : start + len(bare)]) == list(bare):
            return Framing(before=tuple(single[:start]), after=tuple(single[start + len(bare) :]))
    raise BadInput("engine.tokenizer", "The tokenizer changes a text when it adds its control tokens.")


def unit(rows: Matrix) -> Matrix:
    """Scale each row to length 1; a row of zeros stays."""
    norms: Any = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Matrix = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return scaled


def softmax(rows: Matrix) -> Matrix:
    """Probabilities over each row."""
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    shares: Matrix = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def sigmoid(rows: Matrix) -> Matrix:
    """The logistic function, without overflow."""
    values: Matrix = (0.5 * (1.0 + np.tanh(0.5 * rows))).astype(np.float32)
    return values
