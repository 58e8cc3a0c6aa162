"""How llama.cpp is started and a GGUF file is loaded, wherever that is done.

The bundle's build has the kernels of each processor as a library of its own in `llama_cpp/backends/`, beside the
plug-ins for GPUs that a box may have; llama.cpp takes the ones that fit. A build for one processor has no such folder.

llama.cpp's AMX kernels set up their tiles from a buffer on the stack that the compiler may leave unwritten; the next
tile instruction then ends the process (ggml-org/llama.cpp issue 20824, pull request 26954). A build that has them keeps
quantised weights out of the layouts made for special kernels, which also costs the faster layouts of other kernels.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from pathlib import Path
from typing import Any, Final

import llama_cpp

_BACKENDS: Final = Path(llama_cpp.__file__).parent / "backends"
_CHOSEN: Final = re.compile(r"/libggml-cpu-(\w+)\.so$", re.MULTILINE)
_BROKEN: Final = b"AMX_INT8 = 1"
_NO_DEVICES: Final = (ctypes.c_void_p * 1)(None)
"""Without a list of devices llama.cpp computes long prompts on a GPU even for a model that has no layers there."""


def function(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of llama.cpp's or ggml's libraries that the binding lacks, with its types (ctypes)."""
    found = llama_cpp.llama_cpp._lib[name]  # an object of its own, so that nobody else's types are changed
    found.restype, found.argtypes = result, arguments
    return found


@functools.cache
def start_llama() -> None:
    """Initialise llama.cpp for this process; its log has been directed by then. Later calls do nothing."""
    if _BACKENDS.is_dir():
        function("ggml_backend_load_all_from_path", None, ctypes.c_char_p)(os.fsencode(_BACKENDS))
    llama_cpp.llama_backend_init()


def build() -> str:
    """Name the started build and its kernels: those of a family of processors, or `native`."""
    chosen = _CHOSEN.search(Path("/proc/self/maps").read_text())
    return f"llama-cpp-python {llama_cpp.__version__}, {chosen[1] if chosen else 'native'} kernels"


def loading_parameters() -> Any:
    """Return llama.cpp's model parameters, made safe for this build, for a model that stays on the processor."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.devices = ctypes.addressof(_NO_DEVICES)
    parameters.use_extra_bufts = _BROKEN not in llama_cpp.llama_print_system_info()
    return parameters
