"""The candidate side of the parity gate: one GGUF file in llama.cpp, through its low-level interface.

The key-value cache is float32 and flash attention is off: what is judged is the file, not a cache's precision.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp
import numpy as np

from appliance.conversion.parity import FollowedRun
from appliance.kernel.errors import IntegrityFailure, InternalError
from appliance.weights.llama_loading import loading_parameters, start_llama
from appliance.weights.normaliser import Normaliser

_FLASH_ATTENTION_OFF = 0
_GGML_TYPE_F32 = 0
_FILE_TYPES = {
    "0": "F32",
    "1": "F16",
    "2": "Q4_0",
    "7": "Q8_0",
    "15": "Q4_K_M",
    "17": "Q5_K_M",
    "18": "Q6_K",
    "32": "BF16",
}


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """llama.cpp writes every load to stderr unless it is told otherwise; this object must outlive all its calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What llama.cpp reads from the file, named as in a model's description. Lengths are in tokens, 0 where unsaid."""

    architecture: str
    parameters: int
    context_length: int
    vocabulary: int
    quantisation: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    key_width: int
    """numbers in one key and one value of a head together"""
    feed_forward: int
    chat_template: str


class LlamaModel:
    """A GGUF file in memory with one sequence of `context` tokens; a context manager that frees it."""

    def __init__(self, path: Path, *, context: int, threads: int, on_node: Any = None) -> None:
        """Load the file. `on_node` is llama.cpp's callback for every node of the graph (see `importance`)."""
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        start_llama()
        loading = loading_parameters()
        loading.n_gpu_layers = 0
        self._model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), loading)
        self._context: Any = None
        if not self._model:
            raise IntegrityFailure("conversion.gguf_unreadable", "llama.cpp cannot load the converted file.")
        self.context = context
        self._adapter: Any = None
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._normaliser = Normaliser(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        running = llama_cpp.llama_context_default_params()
        running.n_ctx = running.n_batch = running.n_ubatch = context
        running.n_threads = running.n_threads_batch = threads
        running.flash_attn_type = _FLASH_ATTENTION_OFF
        running.type_k = running.type_v = _GGML_TYPE_F32
        running.offload_kqv = False
        if on_node is not None:
            running.cb_eval = on_node
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
        """Free the context, the adapter and the weights."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._adapter:
            llama_cpp.llama_adapter_lora_free(self._adapter)
            self._adapter = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def apply_adapter(self, path: Path) -> None:
        """Add a LoRA adapter at run time, at its full strength. Raises IntegrityFailure."""
        self._adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
        if not self._adapter:
            raise IntegrityFailure("conversion.adapter_unreadable", "llama.cpp cannot load the converted adapter.")
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(self._adapter)
        if llama_cpp.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0)) != 0:
            raise IntegrityFailure("conversion.adapter_unreadable", "llama.cpp cannot apply the converted adapter.")

    def facts(self) -> GgufFacts:
        """Return what the file says of itself, as llama.cpp understood it."""
        template = llama_cpp.llama_model_chat_template(self._model, None)
        file_type, architecture = self._text("general.file_type"), self._text("general.architecture")
        attention = f"{architecture}.attention"
        return GgufFacts(
            architecture=architecture,
            parameters=int(llama_cpp.llama_model_n_params(self._model)),
            context_length=int(llama_cpp.llama_model_n_ctx_train(self._model)),
            vocabulary=self._size,
            quantisation=_FILE_TYPES.get(file_type, file_type),
            layers=int(llama_cpp.llama_model_n_layer(self._model)),
            hidden=int(llama_cpp.llama_model_n_embd(self._model)),
            heads=int(llama_cpp.llama_model_n_head(self._model)),
            kv_heads=int(llama_cpp.llama_model_n_head_kv(self._model)),
            key_width=self._number(f"{attention}.key_length") + self._number(f"{attention}.value_length"),
            feed_forward=self._number(f"{architecture}.feed_forward_length"),
            chat_template=template.decode() if template else "",
        )

    def is_end(self, token: int) -> bool:
        """Tell whether generation stops at a token."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenise a text."""
        data = self._normaliser.normalise(text, special=parse_special).encode()
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

    def greedy(self, prompt: Sequence[int], *, tokens: int) -> FollowedRun:
        """Return what the file chooses by itself after a prompt; end tokens do not stop it."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        chosen: list[int] = []
        logits = self._decode(prompt)
        while True:
            chosen.append(int(logits.argmax()))
            if len(chosen) == tokens:
                return FollowedRun(tokens=tuple(chosen), logprobs=())
            logits = self._decode(chosen[-1:])

    def surprise(self, tokens: Sequence[int], *, scored_from: int = 1) -> float:
        """Return the negative log likelihood (nats) of the tokens from `scored_from` on; all must fit the context."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        try:
            for place, token in enumerate(tokens):
                batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = scored_from <= place + 1 < len(tokens)
            batch.n_tokens = len(tokens)
            self._run(batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        total = 0.0
        for place in range(scored_from - 1, len(tokens) - 1):
            wanted, logits = tokens[place + 1], self._logits(place).astype(np.float64)
            top = float(logits.max())
            total += top + float(np.log(np.exp(logits - top).sum())) - float(logits[wanted])
        return total

    def speeds(self, prompt: Sequence[int], *, answer: int) -> tuple[float, float]:
        """Return tokens a second of reading a prompt, and of generating after it."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        began = time.perf_counter()
        self._decode(prompt)
        read = time.perf_counter() - began
        began = time.perf_counter()
        for place in range(answer):
            self._decode([prompt[place % len(prompt)]])
        return len(prompt) / read, answer / (time.perf_counter() - began)

    def _run(self, batch: Any) -> None:
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise InternalError("conversion.decode", f"llama.cpp could not decode: status {status}.")

    def _decode(self, tokens: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Append tokens to the sequence; return a view (valid until the next call) of the last one's logits."""
        buffer = (llama_cpp.llama_token * len(tokens))(*tokens)
        self._run(llama_cpp.llama_batch_get_one(buffer, len(tokens)))
        return self._logits(-1)

    def _logits(self, place: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        row = llama_cpp.llama_get_logits_ith(self._context, place)
        logits: np.ndarray[Any, np.dtype[np.float32]] = np.ctypeslib.as_array(row, shape=(self._size,))
        if not np.isfinite(logits).all():
            raise IntegrityFailure("conversion.not_finite", "The converted file's logits are not finite numbers.")
        return logits

    def _number(self, key: str) -> int:
        text = self._text(key)
        return int(text) if text.isdecimal() else 0

    def _text(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if length >= 0 else ""
