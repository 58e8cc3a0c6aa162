"""Writes a GGUF file in another number format, in a process of its own: llama.cpp aborts where it cannot.

    python -I -m appliance.conversion.quantise_program SOURCE TARGET FTYPE THREADS [IMPORTANCE]

IMPORTANCE is a safetensors file with one vector for each matrix. Exit status 0, or 7 when llama.cpp refuses.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Final

import llama_cpp
from safetensors.numpy import load_file

from appliance.kernel.process import die_with_parent
from appliance.weights.llama_loading import start_llama

_REFUSED: Final = 7


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """llama.cpp tells every tensor on stderr unless it is told otherwise."""


def main(argv: list[str]) -> int:
    """Quantise one file."""
    source, target, ftype, threads, *more = argv
    die_with_parent()  # a killed job leaves nothing that computes
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    start_llama()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = int(ftype), int(threads)
    importance = _importance(Path(more[0])) if more else None
    if importance is not None:
        parameters.imatrix = importance[0]
    status = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    return _REFUSED if status else 0


def _importance(file: Path) -> tuple[Any, list[Any]]:
    """Return llama.cpp's list of vectors, ended by one without a name, and what must live as long as it."""
    vectors = load_file(file)
    kept = [(name.encode(), (ctypes.c_float * vector.size)(*vector.tolist())) for name, vector in vectors.items()]
    entries = (llama_cpp.llama_model_imatrix_data * (len(kept) + 1))()
    for entry, (name, data) in zip(entries, kept, strict=False):
        entry.name, entry.data, entry.size = name, ctypes.cast(data, ctypes.POINTER(ctypes.c_float)), len(data)
    return entries, kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
