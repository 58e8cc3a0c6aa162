"""How a GGUF file is loaded wherever llama.cpp is: its defaults, less what is known to crash.

llama.cpp's AMX kernels set up their tiles from a buffer on the stack that the compiler may leave unwritten; the next
tile instruction then ends the process (ggml-org/llama.cpp issue 20824, pull request 26954). A build that has them keeps
quantised weights out of the layouts made for special kernels, which also costs the faster layouts of other kernels.
"""

from __future__ import annotations

from typing import Any, Final

import llama_cpp

_BROKEN: Final = b"AMX_INT8 = 1"


def loading_parameters() -> Any:
    """Return llama.cpp's model parameters, made safe for this build."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.use_extra_bufts = _BROKEN not in llama_cpp.llama_print_system_info()
    return parameters
