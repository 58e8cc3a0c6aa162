"""Build the wheel of one GPU backend, and print where it lies.

    python -m tools.build_gpu_backend vulkan|cuda

It is installed beside the portable wheel of llama-cpp-python. Built once, then taken from the cache. Vulkan needs
glslc and the headers, which root on Debian gets installed; CUDA needs NVIDIA's toolkit (nvcc), but no card.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.bootstrap import llama_cpp
from tools.bootstrap.cache import cache_directory
from tools.bootstrap.gpu_backend import Backend, provide
from tools.bootstrap.narration import SetupFailure, say

_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def main(argv: list[str]) -> int:
    """Provide the wheel; exit status 1 when it could not be built."""
    if len(argv) != 1 or argv[0] not in list(Backend):
        sys.stderr.write(f"usage: build_gpu_backend {'|'.join(Backend)}\n")
        return 2
    try:
        source = llama_cpp.read_source(_REQUIREMENTS / "llama-cpp-python.lock")
        wheel = provide(cache_directory(), source, _REQUIREMENTS / "build.lock", Backend(argv[0]))
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
