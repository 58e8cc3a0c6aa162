"""Encoders in GGUF: vectors, relevance scores and labels by llama.cpp, in a context of their own.

One sequence id for each text, pooled by the model's own rule; nothing is kept from one batch to the next. A text must
fit into one physical batch because most encoders look both ways.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np

from appliance.engine.encoder import Framing, Matrix, Passage, framing_of, sigmoid, softmax, unit
from appliance.engine.frames import Kind
from appliance.engine.llama_context import LlamaModel
from appliance.kernel.errors import BadInput, IntegrityFailure, InternalError
from appliance.weights.llama_loading import build

MOST_SEQUENCES: Final = 64
LEAST_BATCH: Final = 512
_INT32: Final = ctypes.POINTER(ctypes.c_int32)
_EXAMPLE: Final = "word"


class LlamaEncoder:
    """A GGUF model that encodes. The parts of the `Encoder` protocol are said there."""

    padded = False

    def __init__(self, model: LlamaModel, *, kind: Kind, context: int, threads: int) -> None:
        """Make the context. `context` is the longest sequence wanted, in tokens.

        BadInput `engine.kind` when the model has no head for this kind, IntegrityFailure `engine.context_refused`.
        """
        self.kind: Kind = kind
        self.vocabulary = model.vocabulary
        self.longest_piece = model.longest_piece
        self.parameters = model.parameters
        self.description = model.description
        self.build = build()
        self.context = min(context, model.trained_context or context)
        self.batch = max(self.context, LEAST_BATCH)
        self.sequences = min(MOST_SEQUENCES, int(llama_cpp.llama_max_parallel_sequences()))
        self._model = model
        ranks = kind != "embed"
        self._handle = self._open(threads, llama_cpp.LLAMA_POOLING_TYPE_RANK if ranks else _AS_IN_THE_FILE)
        if not ranks and llama_cpp.llama_pooling_type(self._handle) == llama_cpp.LLAMA_POOLING_TYPE_NONE:
            llama_cpp.llama_free(self._handle)
            self._handle = self._open(threads, llama_cpp.LLAMA_POOLING_TYPE_MEAN)
        self._memory: Any = llama_cpp.llama_get_memory(self._handle)
        if not ranks and llama_cpp.llama_pooling_type(self._handle) == llama_cpp.LLAMA_POOLING_TYPE_RANK:
            raise BadInput("engine.kind", "This model scores texts against a query; it gives no vectors.")
        outputs = int(llama_cpp.llama_model_n_cls_out(model.handle))
        self._outputs = outputs if ranks else int(llama_cpp.llama_model_n_embd_out(model.handle))
        self.width = 1 if kind == "rerank" else self._outputs
        self.labels = self._labels() if kind == "classify" else ()
        self.single = framing_of(
            model.tokenise(_EXAMPLE, special=False, begin=True), model.tokenise(_EXAMPLE, special=False, begin=False)
        )
        self.pair = self._pair()
        self._fill_batch()

    def tokenise(self, text: str) -> list[int]:
        """Token ids of a text, without control tokens."""
        return self._model.tokenise(text, special=False, begin=False)

    def compute(self, passages: Sequence[Passage]) -> Matrix:
        """One row for each sequence. InternalError when llama.cpp fails: the process must end."""
        at = 0
        for number, passage in enumerate(passages):
            end = at + len(passage.tokens)
            self._token[at:end] = passage.tokens
            self._position[at:end] = np.arange(len(passage.tokens), dtype=np.int32)
            self._sequence[at:end] = number
            at = end
        self._batch.n_tokens = at
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        status = llama_cpp.llama_decode(self._handle, self._batch)
        if status:
            raise InternalError("engine.decode", f"llama.cpp failed to encode a batch of {at} tokens ({status}).")
        rows = np.stack([self._row(number) for number in range(len(passages))])
        if self.kind == "embed":
            return unit(rows)
        if self.kind == "classify":
            return softmax(rows)
        return sigmoid(rows) if self._outputs == 1 else rows[:, :1]  # more outputs: llama.cpp gave probabilities

    def _row(self, number: int) -> Matrix:
        pointer = llama_cpp.llama_get_embeddings_seq(self._handle, number)
        if not pointer:
            raise InternalError("engine.rows", "llama.cpp gave no numbers for a sequence.")
        return np.ctypeslib.as_array(pointer, (self._outputs,)).copy()

    def _open(self, threads: int, pooling: int) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.batch
        parameters.n_seq_max = self.sequences
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = True
        parameters.pooling_type = pooling
        parameters.kv_unified = True
        parameters.no_perf = True
        handle = llama_cpp.llama_init_from_model(self._model.handle, parameters)
        if not handle:
            raise IntegrityFailure(
                "engine.context_refused",
                f"llama.cpp cannot make a context of {self.batch} tokens that encodes with this model.",
                hint="Give it a smaller context.",
            )
        return handle

    def _labels(self) -> tuple[str, ...]:
        names = []
        for number in range(self._outputs):
            name = llama_cpp.llama_model_cls_label(self._model.handle, number)
            names.append(name.decode(errors="replace") if name else f"LABEL_{number}")
        return tuple(names)

    def _pair(self) -> Framing:
        """Around query and text: the model's own template, else what its vocabulary says goes between two texts."""
        template = llama_cpp.llama_model_chat_template(self._model.handle, b"rerank")
        if template:
            return self._templated(template.decode(errors="replace"))
        vocab = self._model.vocab
        begin = (self._model.bos,) if self._model.adds_bos else ()
        separator = llama_cpp.llama_vocab_sep(vocab)
        ends = (self._model.eos,) if llama_cpp.llama_vocab_get_add_eos(vocab) and self._model.eos >= 0 else ()
        parts = (separator,) if llama_cpp.llama_vocab_get_add_sep(vocab) and separator >= 0 else ()
        return Framing(before=begin, between=(*ends, *parts), after=ends or parts)

    def _templated(self, template: str) -> Framing:
        before, query, rest = template.partition("{query}")
        between, document, after = rest.partition("{document}")
        if not (query and document):
            raise IntegrityFailure("engine.model_refused", "The model's template for reranking names no text to rank.")

        def tokens(text: str, *, begin: bool = False) -> tuple[int, ...]:
            return tuple(self._model.tokenise(text, special=True, begin=begin)) if text else ()

        return Framing(before=tokens(before, begin=True), between=tokens(between), after=tokens(after))

    def _fill_batch(self) -> None:
        """Make the one batch that is used again and again; every token asks for output, as pooling needs."""
        self._token = np.zeros(self.batch, np.int32)
        self._position = np.zeros(self.batch, np.int32)
        self._sequence = np.zeros(self.batch, np.int32)
        self._sequences = np.ones(self.batch, np.int32)
        self._wanted = np.ones(self.batch, np.int8)
        self._pointers = self._sequence.ctypes.data + 4 * np.arange(self.batch, dtype=np.uintp)
        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(_INT32),
            embd=None,
            pos=self._position.ctypes.data_as(_INT32),
            n_seq_id=self._sequences.ctypes.data_as(_INT32),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(_INT32)),
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )


_AS_IN_THE_FILE: Final = llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED
