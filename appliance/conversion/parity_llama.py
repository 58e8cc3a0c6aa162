"""The candidate side of the parity gate: one GGUF file in llama.cpp, through its low-level interface.

The key-value cache is float32 and flash attention is off: what is judged is the file, not a cache's precision.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp
import numpy as np

from appliance.conversion.parity import FollowedRun
from appliance.kernel.errors import IntegrityFailure, InternalError
from appliance.weights.llama_loading import loading_parameters

_FLASH_ATTENTION_OFF = 0
_GGML_TYPE_F32 = 0
_FILE_TYPES = {"0": "F32", "1": "F16", "7": "Q8_0", "32": "BF16"}


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """llama.cpp writes every load to stderr unless it is told otherwise; this object must outlive all its calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What llama.cpp reads from the file. Lengths are in tokens."""

    architecture: str
    parameters: int
    context_length: int
    vocabulary: int
    quantisation: str
    chat_template: str


class LlamaModel:
    """A GGUF file in memory with one sequence of `context` tokens; a context manager that frees it."""

    def __init__(self, path: Path, *, context: int, threads: int) -> None:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        loading = loading_parameters()
        loading.n_gpu_layers = 0
        self._model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), loading)
        self._context: Any = None
        if not self._model:
            raise IntegrityFailure("conversion.gguf_unreadable", "llama.cpp cannot load the converted file.")
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        running = llama_cpp.llama_context_default_params()
        running.n_ctx = running.n_batch = running.n_ubatch = context
        running.n_threads = running.n_threads_batch = threads
        running.flash_attn_type = _FLASH_ATTENTION_OFF
        running.type_k = running.type_v = _GGML_TYPE_F32
        running.offload_kqv = False
        self._context = llama_cpp.llama_init_from_model(self._model, running)
        if not self._context:
            self.close()
            raise IntegrityFailure("conversion.gguf_unreadable", "llama.cpp cannot run the converted file.")

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the context and the weights."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def facts(self) -> GgufFacts:
        """Return what the file says of itself, as llama.cpp understood it."""
        template = llama_cpp.llama_model_chat_template(self._model, None)
        file_type = self._text("general.file_type")
        return GgufFacts(
            architecture=self._text("general.architecture"),
            parameters=int(llama_cpp.llama_model_n_params(self._model)),
            context_length=int(llama_cpp.llama_model_n_ctx_train(self._model)),
            vocabulary=self._size,
            quantisation=_FILE_TYPES.get(file_type, file_type),
            chat_template=template.decode() if template else "",
        )

    def is_end(self, token: int) -> bool:
        """Tell whether generation stops at a token."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenise a text."""
        data = text.encode()
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), buffer, room, add_special, parse_special)
        if count < 0:
            raise InternalError("conversion.tokenize", f"llama.cpp wants {-count} tokens for {len(data)} bytes.")
        return list(buffer[:count])

    def follow(self, prompt: Sequence[int], tokens: Sequence[int]) -> FollowedRun:
        """Feed `prompt` and then each of `tokens`; return what would have been chosen in the place of each."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        chosen: list[int] = []
        logprobs: list[float] = []
        logits = self._decode(prompt)
        for position, token in enumerate(tokens):
            chosen.append(int(logits.argmax()))
            shifted = logits.astype(np.float64) - float(logits.max())
            logprobs.append(float(shifted[token] - np.log(np.exp(shifted).sum())))
            if position + 1 < len(tokens):
                logits = self._decode([token])
        return FollowedRun(tokens=tuple(chosen), logprobs=tuple(logprobs))

    def _decode(self, tokens: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Append tokens to the sequence; return a view (valid until the next call) of the last one's logits."""
        buffer = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(buffer, len(tokens)))
        if status != 0:
            raise InternalError("conversion.decode", f"llama.cpp could not decode: status {status}.")
        row = llama_cpp.llama_get_logits_ith(self._context, -1)
        logits: np.ndarray[Any, np.dtype[np.float32]] = np.ctypeslib.as_array(row, shape=(self._size,))
        if not np.isfinite(logits).all():
            raise IntegrityFailure("conversion.not_finite", "The converted file's logits are not finite numbers.")
        return logits

    def _text(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if length >= 0 else ""
