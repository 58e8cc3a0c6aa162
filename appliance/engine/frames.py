"""The frames between an engine worker and its clients (gateway, daemon): length-prefixed msgpack, both directions.

Owns the wire format and nothing else: it opens no socket and imports no model code. A frame is a big-endian u32
length and that many bytes of msgpack, a tagged array. Request ids are the client's and belong to one connection.
Invariant: a peer never makes this side hold more than `MAX_FRAME` bytes of one frame.

    client  Hello  Submit  Encode  Cancel  Ask  Tokenise  Detokenise                ->  worker
    client  <-  Info   Accepted  (Step* | Rows*)  (Finished | Failed)   State   Tokens   worker

Every `Submit` or `Encode` is answered by exactly one `Finished` or `Failed`, unless the connection ends first.
`Accepted` and the text in `Step`, or the numbers in `Rows`, come before it. `Tokenise` and `Detokenise` are answered by
`Tokens` or `Failed`. Whatever ends the connection cancels its requests. A worker that generates takes `Submit`, one
that encodes takes `Encode`; `Info.kind` says which it is.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from appliance.kernel.errors import BadInput

VERSION: Final = 5
MAX_FRAME: Final = 16 * 1024 * 1024

FinishReason = Literal["stop", "length", "cancelled", "grammar"]
"""`grammar`: the constrained answer could not go on within the grammar's bounds"""
Kind = Literal["generate", "embed", "rerank", "classify"]
"""What a worker makes of a text: more text, a vector, its relevance to a query, or the probability of each label."""

_LENGTH: Final = struct.Struct(">I")
_encoder: Final = msgspec.msgpack.Encoder()


class FrameError(BadInput):
    """The bytes are not a frame of this protocol; the connection cannot be used any further."""


class Priority(IntEnum):
    """Classes of requests, the most urgent first: each runs in the room that the classes before it leave.

    Somebody waits for every token of an interactive request, for the answer of a normal one, and for the end of a
    batch.
    """

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


class _Frame(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Fields travel by position: add new ones at the end, with a default."""


class Tool(_Frame, frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is its JSON schema as JSON text."""

    name: str
    description: str
    parameters: str


class Call(_Frame, frozen=True, kw_only=True):
    """A call that an earlier answer made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Message(_Frame, frozen=True, kw_only=True):
    """One turn of a conversation. Roles are what the chat template knows, usually system, user, assistant and tool.

    `calls` are an assistant's; `call` and `name` say which call a tool's message answers.
    """

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    call: str = ""
    name: str = ""


class Asked(_Frame, frozen=True, kw_only=True):
    """What shape the answer must have. The engine writes the grammar, for it knows how its model calls functions.

    `schema` is a JSON schema as JSON text: an answer that is no call is a document of it. With `required` there must be
    a call; `allowed` names the tools that may be called, all of them if it is empty; `parallel` allows more than one
    call. `reasoning` None leaves it to the model whether it reasons first.
    """

    schema: str | None = None
    tools: tuple[Tool, ...] = ()
    required: bool = False
    allowed: tuple[str, ...] = ()
    parallel: bool = True
    reasoning: bool | None = None


class Sampling(_Frame, frozen=True, kw_only=True):
    """How the next token is chosen. Defaults are neutral: plain sampling from the whole distribution.

    temperature 0 is greedy; `top_k` 0 keeps all tokens. `logprobs` is None for none, 0 for
    the chosen token's alone, k for the k most likely ones besides. Log-probabilities are those of the model before
    temperature and filters. `max_tokens` None means until the model stops or its context is full.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    ignore_eos: bool = False
    echo: bool = False


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """First frame of a client; answered by `Info`."""

    version: int = VERSION


class Submit(_Frame, frozen=True, kw_only=True, tag="submit"):
    """Start one request, of one of: `messages` (rendered by the chat template), `prompt` and `tokens` (as they are).

    `tenant` keys the prefix cache and the fair queue: no cached cell is ever used across two tenants, except among
    those that name the same `share` group. With `suffix` the model fills in between `prompt` and it. `adapter` is one
    of `Info.adapters`, or empty for the model as it is.
    """

    id: int
    tenant: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    params: Sampling = Sampling()
    tokens: tuple[int, ...] | None = None
    suffix: str | None = None
    asked: Asked = Asked()
    priority: Priority = Priority.INTERACTIVE
    share: str = ""
    adapter: str = ""


class Encode(_Frame, frozen=True, kw_only=True, tag="encode"):
    """Compute one row of numbers for each text.

    A text is a string, or token ids that are taken as they are. `query` is what a reranker compares the texts with,
    None for every other kind. A text longer than `Info.context` fails the whole request, unless `truncate` lets the
    worker cut it at its end.
    """

    id: int
    tenant: str
    texts: tuple[str | tuple[int, ...], ...]
    query: str | None = None
    truncate: bool = False
    priority: Priority = Priority.INTERACTIVE


class Cancel(_Frame, frozen=True, kw_only=True, tag="cancel"):
    """Stop a request; it ends with `Finished(reason="cancelled")`. Unknown ids are ignored: it may have ended."""

    id: int


class Ask(_Frame, frozen=True, kw_only=True, tag="ask"):
    """Ask for one `State`."""


class Tokenise(_Frame, frozen=True, kw_only=True, tag="tokenise"):
    """Ask for the token ids of rendered messages or of a text.

    In a text, `special` parses control tokens and `begin` adds what the model wants at the start.
    """

    id: int
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    begin: bool = True
    special: bool = True


class Detokenise(_Frame, frozen=True, kw_only=True, tag="detokenise"):
    """Ask for the text of token ids, control tokens spelled out."""

    id: int
    tokens: tuple[int, ...]


class Info(_Frame, frozen=True, kw_only=True, tag="info"):
    """What this worker serves. `context` is the longest sequence, `cells` the room of all together (tokens).

    Of a worker that encodes: `width` numbers in a row, and of a classifier the `labels` they belong to. `draft` is the
    digest of the model that guesses for this one, if there is one. `gpu_layers` of the model's layers are on the device
    `gpu`, the output counted as one, and took `gpu_bytes` of its memory; without them `gpu` is empty.
    """

    version: int
    name: str
    digest: str
    context: int
    cells: int
    slots: int
    vocabulary: int
    chat: bool
    parameters: int
    model: str
    build: str
    pid: int
    kind: Kind = "generate"
    width: int = 0
    labels: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    draft: str = ""
    gpu: str = ""
    gpu_layers: int = 0
    gpu_bytes: int = 0


class Accepted(_Frame, frozen=True, kw_only=True, tag="accepted"):
    """The prompt was tokenised and queued. `cached_tokens` is known only later: see `Finished`."""

    id: int
    prompt_tokens: int


class Tokens(_Frame, frozen=True, kw_only=True, tag="tokens"):
    """Token ids and their text. `context` is the longest sequence of the model."""

    id: int
    tokens: tuple[int, ...]
    text: str
    context: int


class Candidate(_Frame, frozen=True, kw_only=True):
    """One token with its natural-log probability; `data` are its exact bytes, `text` their readable form."""

    token: int
    text: str
    data: bytes
    logprob: float


class TokenLogprob(_Frame, frozen=True, kw_only=True):
    """The chosen token and the most likely ones, most likely first.

    `offset` is the character of the answer's text at which the token begins, or which it goes on with.
    """

    chosen: Candidate
    top: tuple[Candidate, ...] = ()
    offset: int = 0


class CallPiece(_Frame, frozen=True, kw_only=True):
    """New text of a function call; `name` comes whole with a call's first piece, `arguments` piece by piece."""

    index: int
    name: str
    arguments: str


class Piece(_Frame, frozen=True, kw_only=True):
    """New text of one request. `text` may be empty while a character or a possible stop string is held back.

    `tokens` counts those generated since the last piece. What the model thinks before it answers is `reasoning`, what
    it calls is `calls`; neither is in `text`. `logprobs`, if asked for, has one entry for each token that any of the
    text comes from, with the first of its characters.
    """

    id: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    calls: tuple[CallPiece, ...] = ()


class Step(_Frame, frozen=True, kw_only=True, tag="step"):
    """What one engine step produced for all requests of this connection."""

    items: tuple[Piece, ...]


class Rows(_Frame, frozen=True, kw_only=True, tag="rows"):
    """The rows of the texts from number `first` on, each `Info.width` little-endian 32-bit floats.

    A vector has length 1; a relevance lies between 0 and 1; label probabilities are in the order of `Info.labels`.
    """

    id: int
    first: int
    rows: tuple[bytes, ...]


class Finished(_Frame, frozen=True, kw_only=True, tag="finished"):
    """The request ended. `text` went out in the steps before; the seconds are queue, prompt and generation time."""

    id: int
    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_seconds: float
    prompt_seconds: float
    generation_seconds: float
    reasoning_tokens: int = 0


class Failed(_Frame, frozen=True, kw_only=True, tag="failed"):
    """The request cannot be served. `code` is dotted and stable; `retryable`: the same request may succeed later.

    `retry_after` estimates when, in seconds; 0 knows nothing.
    """

    id: int
    code: str
    message: str
    retryable: bool = False
    retry_after: float = 0.0


class Distribution(_Frame, frozen=True, kw_only=True):
    """A histogram since the start: `counts[i]` values up to `bounds[i]` and above the bound before, the last beyond."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Times(_Frame, frozen=True, kw_only=True):
    """Where time went, in seconds. Time to first token counts from the submit, as a client sees it.

    `inter_token` has one value per generated token but the first, `per_output_token` their mean per request; `request`
    is the whole of one. An encoder generates no tokens.
    """

    step: Distribution
    queue: Distribution
    first_token: Distribution | None = None
    inter_token: Distribution | None = None
    per_output_token: Distribution | None = None
    request: Distribution | None = None


class State(_Frame, frozen=True, kw_only=True, tag="state"):
    """Load now (requests, cells) and totals since the start (tokens, steps, seconds).

    `batch_tokens` over `steps` and the size of a batch is how full batches were. `evicted_cells` were given up by idle
    sequences, `restored_cells` came back from the second tier, which holds `stored_bytes` in memory and
    `stored_on_disk` on disk. A `stall` is a wait for a next token of more than twice the target. Of all tokens that
    were guessed (`drafted_tokens`) and right (`accepted_tokens`), the draft model's are named again; the rest are
    prompt lookup's.
    """

    active: int
    waiting: int
    draining: bool
    cells: int
    free_cells: int
    cached_cells: int
    connections: int
    steps: int
    step_seconds: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finished: int
    failed: int
    cancelled: int
    preempted: int
    batch: int = 0
    batch_tokens: int = 0
    evicted_cells: int = 0
    restored_cells: int = 0
    stored_bytes: int = 0
    stored_on_disk: int = 0
    lost_blocks: int = 0
    stalls: int = 0
    aborted_steps: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    refused: int = 0
    waiting_batch: int = 0
    times: Times | None = None
    draft_model_drafted: int = 0
    draft_model_accepted: int = 0
    draft_model_seconds: float = 0.0
    step_streams: int = 0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    longest: int = 0

    @property
    def streams_per_step(self) -> float:
        """How many requests a step computes, on average."""
        return self.step_streams / max(self.steps, 1)

    @property
    def computed_prompt_tokens(self) -> int:
        """Prompt tokens that were not found in the cache."""
        return self.prompt_tokens - self.cached_tokens


ToWorker = Hello | Submit | Encode | Cancel | Ask | Tokenise | Detokenise
FromWorker = Info | Accepted | Step | Rows | Finished | Failed | State | Tokens

T = TypeVar("T")


def encode(frame: ToWorker | FromWorker) -> bytes:
    """One frame with its length prefix; FrameError if it exceeds `MAX_FRAME`."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise _too_large(len(body))
    return _LENGTH.pack(len(body)) + body


class FrameStream(Generic[T]):
    """Turns the bytes of one connection, in chunks of any size, into frames of one direction.

    stream = worker_stream()           # or client_stream() on the worker's side
    for frame in stream.feed(data): …
    """

    __slots__ = ("_buffer", "_decoder")

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """The frames completed by `data`, in order; FrameError when the peer does not speak this protocol."""
        buffer = self._buffer
        buffer += data
        frames: list[T] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME:
                raise _too_large(length)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(self._decode(bytes(buffer[start + _LENGTH.size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames

    @property
    def partial(self) -> bool:
        """Whether the stream stands inside a frame; at end of file that means a broken peer."""
        return bool(self._buffer)

    def _decode(self, body: bytes) -> T:
        try:
            frame: T = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise FrameError(
                "engine.frame", f"A frame of {len(body)} bytes is not of this protocol: {error}."
            ) from error
        return frame


def client_stream() -> FrameStream[ToWorker]:
    """For the worker: reads what a client sends."""
    return FrameStream(_from_client)


def worker_stream() -> FrameStream[FromWorker]:
    """For a client: reads what a worker sends."""
    return FrameStream(_from_worker)


def _too_large(length: int) -> FrameError:
    return FrameError("engine.frame_too_large", f"A frame of {length} bytes exceeds the limit of {MAX_FRAME}.")


_from_client: Final = msgspec.msgpack.Decoder(ToWorker)
_from_worker: Final = msgspec.msgpack.Decoder(FromWorker)
