"""The importance matrix: how large what flows into each weight matrix is, measured on text of the model's own kind.

For each product `matrix x activations` that llama.cpp computes, the mean square of every input column is kept; its
quantiser then spends precision where the input is large. llama.cpp calls back for every node of its graph; which node
it is stands in `struct ggml_tensor`, whose layout belongs to the very version that is pinned and is checked here
before it is believed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from appliance.conversion.parity_llama import LlamaModel
from appliance.kernel.errors import InternalError
from appliance.weights.llama_loading import function

_operation: Final = function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
_name_of: Final = function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
_size_of: Final = function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
_copy: Final = function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)
_F32: Final = 0
_NAME: Final = 64
Numbers = np.ndarray[Any, np.dtype[np.float32]]


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor` (ggml.h of the pinned version)."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * _NAME),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class _Collector:
    """Sums of squares by matrix. Called from C: it keeps its first failure instead of raising it there."""

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = {}
        self.counts: dict[str, int] = {}
        self.failure: str = ""
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._node)

    def _node(self, pointer: int, ask: bool, _user: Any) -> bool:
        if self.failure:
            return not ask
        tensor = ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents
        if tensor.name != (_name_of(pointer) or b""):
            self.failure = "its tensors are laid out differently from what is known"
            return not ask
        wanted = self._is_product(tensor)
        if not ask and wanted:
            self._add(tensor)
        # Asked: whether we want this node. Told: whether to go on.
        return wanted if ask else True

    def _is_product(self, tensor: _Tensor) -> bool:
        if _operation(tensor.op) != b"MUL_MAT" or not tensor.src[0] or not tensor.src[1]:
            return False
        matrix, given = tensor.src[0].contents, tensor.src[1].contents
        return bool(matrix.name.endswith(b".weight") and given.type == _F32)

    def _add(self, tensor: _Tensor) -> None:
        matrix, given = tensor.src[0].contents, tensor.src[1].contents
        columns, rows = int(given.ne[0]), int(given.ne[1] * given.ne[2] * given.ne[3])
        size = _size_of(ctypes.addressof(given))
        if size != 4 * columns * rows or matrix.ne[0] != columns:
            self.failure = f"the input of {matrix.name.decode(errors='replace')} is no plain matrix"
            return
        values = np.empty((rows, columns), np.float32)
        _copy(ctypes.addressof(given), values.ctypes.data, 0, size)
        name = matrix.name.decode()
        squares = np.square(values.astype(np.float64)).sum(axis=0)
        self.sums[name] = self.sums.get(name, 0.0) + squares
        self.counts[name] = self.counts.get(name, 0) + rows


def collect(
    gguf: Path, pieces: Sequence[Sequence[int]], *, threads: int, context: int, on_piece: Callable[[int, int], None]
) -> dict[str, Numbers]:
    """Run the pieces through the model; return each matrix's mean squares by column. Raises InternalError."""
    collector = _Collector()
    with LlamaModel(gguf, context=context, threads=threads, on_node=collector.callback) as model:
        for done, piece in enumerate(pieces, start=1):
            model.surprise(piece)
            if collector.failure:
                raise InternalError(
                    "conversion.importance",
                    f"The importance of weights cannot be measured: {collector.failure}.",
                    hint="Quantise without --imatrix.",
                )
            on_piece(done, len(pieces))
    return {name: (sums / collector.counts[name]).astype(np.float32) for name, sums in sorted(collector.sums.items())}
