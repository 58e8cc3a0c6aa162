"""A model and a context of llama.cpp behind a few calls on numpy arrays.

Owns the C handles, the one batch that is reused for every step, and the view of the logits. Knows no requests. The
vocabulary may be used by one other thread after loading, the context by one thread alone: llama.cpp answers misuse
with abort().
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.block_store import Block
from appliance.engine.lanes import BASE
from appliance.engine.long_runs import cut_runs
from appliance.engine.scheduler import Chunk
from appliance.kernel.errors import IntegrityFailure, InternalError
from appliance.weights.llama_devices import device_list, require_gpu
from appliance.weights.llama_loading import loading_parameters, start_llama
from appliance.weights.normaliser import Normaliser

_COMPLAINTS: Final = (3, 4)  # GGML_LOG_LEVEL_WARN, GGML_LOG_LEVEL_ERROR
_INT32: Final = ctypes.POINTER(ctypes.c_int32)
# The address as a number: ctypes would make an object of the pointer and another of what it points to, every step.
_logits_at: Final = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", llama_cpp.llama_cpp._lib))
_log_tail: deque[str] = deque(maxlen=20)

# llama.cpp asks after every node of the graph whether to stop. C's own strlen over one byte answers without Python's
# lock, which a callback in Python would have to take some hundred times a step.
_is_set: Final = llama_cpp.ggml_abort_callback(("strlen", ctypes.CDLL(None)))


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _remember(level: int, text: bytes, _data: object) -> None:
    if level in _COMPLAINTS and text:
        _log_tail.append(text.decode(errors="replace").strip())


def start_backend() -> None:
    """Silence llama.cpp's log (kept for the reason of a refusal) and initialise it. Call it once, first of all."""
    os.environ["GGML_NO_BACKTRACE"] = "1"  # otherwise abort() starts a debugger, which prints arguments
    llama_cpp.llama_log_set(_remember, ctypes.c_void_p(0))
    start_llama()


class NoRoom(Exception):
    """The batch does not fit into the free cells."""


class Interrupted(Exception):
    """The batch was given up because of `interrupt`."""


class LlamaModel:
    """The weights and the vocabulary of one GGUF file."""

    def __init__(self, path: Path, *, gpu_layers: int = 0, gpu: str = "") -> None:
        """Load the file, its last `gpu_layers` layers on a GPU (the output counts as one, and as the last).

        IntegrityFailure `engine.model_refused` if llama.cpp does not take it, Unavailable `engine.no_gpu`.
        """
        _log_tail.clear()
        parameters = loading_parameters()
        self.gpu = ""
        if gpu_layers:
            self.gpu = require_gpu(gpu).name
            parameters.n_gpu_layers = gpu_layers
            parameters.devices = ctypes.addressof(device_list(self.gpu))
        self.handle: Any = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.handle:
            reason = next((line for line in _log_tail if line), "no reason given")
            raise IntegrityFailure("engine.model_refused", f"llama.cpp refuses this model: {_one_line(reason)}.")
        self.vocab: Any = llama_cpp.llama_model_get_vocab(self.handle)
        self.vocabulary: int = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(self.handle)
        self.parameters: int = llama_cpp.llama_model_n_params(self.handle)
        self.gpu_layers: int = min(gpu_layers, llama_cpp.llama_model_n_layer(self.handle) + 1)
        self.shares_prefixes: bool = not (
            llama_cpp.llama_model_is_recurrent(self.handle) or llama_cpp.llama_model_is_hybrid(self.handle)
        )
        self.adapters: dict[str, Any] = {}
        self._buffer = ctypes.create_string_buffer(4096)
        self._normaliser = Normaliser(self.handle)
        self.pieces: list[bytes] = [self._piece(token, special=False) for token in range(self.vocabulary)]
        self.longest_piece = max(map(len, self.pieces), default=1)
        self.ends: frozenset[int] = frozenset(
            token for token in range(self.vocabulary) if llama_cpp.llama_vocab_is_eog(self.vocab, token)
        )
        self.bos: int = llama_cpp.llama_vocab_bos(self.vocab)
        self.eos: int = llama_cpp.llama_vocab_eos(self.vocab)
        self.adds_bos: bool = bool(llama_cpp.llama_vocab_get_add_bos(self.vocab)) and self.bos >= 0

    def load_adapter(self, name: str, path: Path) -> None:
        """Keep a LoRA adapter (GGUF) under a name. IntegrityFailure `engine.adapter_refused` if it does not fit.

        Load adapters before a context is made: it reserves room for the graph with them.
        """
        _log_tail.clear()
        handle: Any = llama_cpp.llama_adapter_lora_init(self.handle, os.fsencode(path))
        reason = "" if handle else next((line for line in _log_tail if line), "no reason given")
        if handle and llama_cpp.llama_adapter_get_alora_n_invocation_tokens(handle):
            reason = "it works only behind certain tokens (aLoRA), which is not served"
        if reason:
            raise IntegrityFailure(
                "engine.adapter_refused", f"llama.cpp refuses the adapter {name}: {_one_line(reason)}."
            )
        self.adapters[name] = handle

    @property
    def description(self) -> str:
        """Architecture, size and format in llama.cpp's words."""
        length = llama_cpp.llama_model_desc(self.handle, self._buffer, len(self._buffer))
        return self._buffer.raw[: max(0, length)].decode(errors="replace")

    @property
    def chat_template(self) -> str | None:
        """The Jinja source stored in the file."""
        source: bytes | None = llama_cpp.llama_model_chat_template(self.handle, None)
        return None if source is None else source.decode(errors="replace")

    @cached_property
    def control_texts(self) -> list[str]:
        """What stands for a control token when special tokens are parsed: what a user must not be able to write."""
        texts = {
            self._piece(token, special=True).decode(errors="replace")
            for token in range(self.vocabulary)
            if llama_cpp.llama_vocab_get_attr(self.vocab, token)
            & (llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN)
        }
        return sorted(texts - {""})

    def text_of(self, token: int) -> str:
        """The token's text with special tokens spelled out; empty for none."""
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def tokenise(self, text: str, *, special: bool, begin: bool, start: bool = True) -> list[int]:
        """Token ids of `text`; `special` parses control tokens, `begin` adds what the model wants around a text.

        `start` is false for what goes on where another text ended.
        """
        text = self._normaliser.normalise(text, special=special, start=start)
        if llama_cpp.llama_vocab_type(self.vocab) != llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            return self._tokenise(text, special=special, begin=begin)
        first, *others = cut_runs(text, self.control_texts if special else ())
        if not others:
            return self._tokenise(first, special=special, begin=begin)
        around = self._tokenise("", special=special, begin=begin)
        starts = around[:1] if self.adds_bos else []
        tokens = [token for part in (first, *others) for token in self._tokenise(part, special=special, begin=False)]
        return [*starts, *tokens, *around[len(starts) :]]

    def _tokenise(self, text: str, *, special: bool, begin: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, room, begin, special)
        if count < 0:
            raise InternalError("engine.tokenise", f"The tokenizer asked for {-count} tokens for {len(data)} bytes.")
        return tokens[:count]

    def _piece(self, token: int, *, special: bool) -> bytes:
        length = llama_cpp.llama_token_to_piece(self.vocab, token, self._buffer, len(self._buffer), 0, special)
        return self._buffer.raw[:length] if length > 0 else b""


class LlamaContext:
    """One unified KV cache and the batch that feeds it."""

    def __init__(self, model: LlamaModel, *, cells: int, batch: int, ubatch: int, sequences: int, threads: int) -> None:
        """Allocate. llama.cpp rounds `cells` up and may lower `batch`; read them back. One logits row per sequence."""
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = batch
        parameters.n_ubatch = ubatch
        parameters.n_seq_max = sequences + 1
        parameters.n_outputs_max = sequences + 1  # logits rows; the default of `batch` would cost batch x vocabulary
        parameters.n_outputs_max_per_seq = 1  # of a sequence whose tokens are drawn with the model
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        parameters.swa_full = True  # otherwise old cells of a window vanish and prefixes cannot be shared
        parameters.no_perf = True
        # Else batches of some size take the processor's layers to the GPU too, weights and all, and llama.cpp, which
        # judges by such a batch, then does without flash attention: scores of every cell for every head in memory.
        parameters.op_offload = False
        self.handle: Any = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self.handle:
            reason = next((line for line in reversed(_log_tail) if line), "not enough memory")
            raise IntegrityFailure(
                "engine.context_refused",
                f"llama.cpp cannot make a context of {cells} tokens for this model: {_one_line(reason)}.",
                hint="Give it a smaller context.",
            )
        self.cells: int = llama_cpp.llama_n_ctx(self.handle)
        self.batch: int = llama_cpp.llama_n_batch(self.handle)  # not more than the cells
        self._memory: Any = llama_cpp.llama_get_memory(self.handle)
        self._scratch = sequences  # one more id, through which cells are saved and loaded, and for padding
        self._padding_token = max(model.bos, 0)
        self._interrupt = ctypes.create_string_buffer(b"", 2)
        llama_cpp.llama_set_abort_callback(self.handle, _is_set, ctypes.addressof(self._interrupt))
        self._vocabulary = model.vocabulary
        self._adapters = model.adapters
        self._adapter = BASE
        self._token = np.zeros(batch, np.int32)
        self._position = np.zeros(batch, np.int32)
        self._sequence = np.zeros(batch, np.int32)
        self._sequences = np.ones(batch, np.int32)
        self._wants_logits = np.zeros(batch, np.int8)
        self._pointers = self._sequence.ctypes.data + 4 * np.arange(batch, dtype=np.uintp)
        self._ramp = np.arange(batch, dtype=np.int32)
        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(_INT32),
            embd=None,
            pos=self._position.ctypes.data_as(_INT32),
            n_seq_id=self._sequences.ctypes.data_as(_INT32),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(_INT32)),
            logits=self._wants_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        self._view: tuple[int, int, npt.NDArray[np.float32]] | None = None

    def share(self, source: int, target: int, length: int) -> None:
        """See `prefix_cache.Cells`."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def cut(self, sequence: int, length: int) -> None:
        """See `prefix_cache.Cells`."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def save(self, sequence: int, start: int, end: int) -> memoryview:
        """See `prefix_cache.Cells`."""
        llama_cpp.llama_memory_seq_cp(self._memory, sequence, self._scratch, start, end)
        state = np.empty(llama_cpp.llama_state_seq_get_size(self.handle, self._scratch), np.uint8)
        length = llama_cpp.llama_state_seq_get_data(self.handle, _bytes_of(state), state.size, self._scratch)
        self.cut(self._scratch, 0)
        return state[:length].data

    def load(self, sequence: int, start: int, end: int, state: Block) -> bool:
        """See `prefix_cache.Cells`. The state must be one that this very context saved."""
        data = np.frombuffer(state, np.uint8)
        taken = llama_cpp.llama_state_seq_set_data(self.handle, _bytes_of(data), data.size, self._scratch)
        if taken:
            llama_cpp.llama_memory_seq_cp(self._memory, self._scratch, sequence, start, end)
        self.cut(self._scratch, 0)
        return bool(taken)

    def interrupt(self) -> None:
        """Let the `decode` that runs now, or else the next one, end as soon as it can; from any thread."""
        self._interrupt[0] = b"\1"

    def allow(self) -> None:
        """Forget an interruption that was asked for."""
        self._interrupt[0] = b"\0"

    def decode(self, chunks: list[Chunk], *, padding: int = 0) -> list[int]:
        """Compute one batch of one lane. Returns the batch index of each row of logits that was asked for, in order.

        `padding` rows without meaning are computed with it and forgotten.
        NoRoom and Interrupted leave everything as it was. InternalError `engine.decode` when the context is beyond
        repair: the process must end.
        """
        at, outputs = 0, list[int]()
        for chunk in chunks:
            sequence, end = chunk.sequence, at + chunk.count
            if chunk.count == 1:  # most are: single values are set at a fraction of a slice's cost
                self._token[at] = sequence.tokens[chunk.start]
                self._position[at] = chunk.start
                self._sequence[at] = sequence.slot
                self._wants_logits[at] = chunk.last
                if chunk.last:
                    outputs.append(at)
                at = end
                continue
            self._token[at:end] = chunk.tokens()
            self._position[at:end] = self._ramp[: chunk.count] + chunk.start
            self._sequence[at:end] = sequence.slot
            self._wants_logits[at:end] = 0
            if chunk.last:
                self._wants_logits[end - chunk.outputs : end] = 1
                outputs += range(end - chunk.outputs, end)
            at = end
        if padding:
            end = at + padding
            self._token[at:end] = self._padding_token
            self._position[at:end] = self._ramp[:padding]
            self._sequence[at:end] = self._scratch
            self._wants_logits[at:end] = 0
        self._adapt(chunks[0].sequence.adapter)
        self._batch.n_tokens = at + padding
        status = llama_cpp.llama_decode(self.handle, self._batch)
        llama_cpp.llama_synchronize(self.handle)  # else a graphics card still computes while the step is timed
        if padding:
            self.cut(self._scratch, 0)
        if status == 1:
            raise NoRoom
        if status == 2:  # micro-batches before the interruption stay in the cells
            for chunk in chunks:
                self.cut(chunk.sequence.slot, chunk.start)
            raise Interrupted
        if status:
            raise InternalError("engine.decode", f"llama.cpp failed to compute a batch of {at} tokens ({status}).")
        return outputs

    def _adapt(self, adapter: str) -> None:
        """Apply an adapter at scale 1 (its alpha / rank stands in its file), or none."""
        if adapter == self._adapter:
            return
        wanted = [self._adapters[adapter]] if adapter else []
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * len(wanted))(*wanted)
        scales = (ctypes.c_float * len(wanted))(*(1.0 for _ in wanted))
        if llama_cpp.llama_set_adapters_lora(self.handle, handles, len(wanted), scales):
            raise InternalError("engine.adapter", f"llama.cpp did not take up the adapter {adapter!r}.")
        self._adapter = adapter

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """The last batch's logits, [rows, vocabulary], in the order of `decode`'s answer; valid until the next."""
        address = _logits_at(self.handle)
        if self._view is None or self._view[0] != address or self._view[1] < rows:
            pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
            self._view = (address, rows, np.ctypeslib.as_array(pointer, (rows, self._vocabulary)))
        return self._view[2][:rows]

    def clear(self) -> None:
        """Forget every cell."""
        llama_cpp.llama_memory_clear(self._memory, False)


def _bytes_of(array: npt.NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")
