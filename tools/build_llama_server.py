"""Build llama-server, the peer of the serving benchmark, from the very sdist that set-up builds from.

The result lies in the cache beside the wheel and is built once (12 to 25 minutes). Engine and peer can then run one
libllama: point LLAMA_CPP_LIB_PATH of the engine at the printed directory.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tools.bootstrap import llama_cpp
from tools.bootstrap.cache import cache_directory, entry
from tools.bootstrap.commands import run
from tools.bootstrap.narration import SetupFailure, say, step
from tools.bootstrap.source_archive import unpack

_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)
_CUDA = ("-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native")
_TARGETS = ("llama-server", "llama-bench", "llama-batched-bench")
_PREFIX = "vendor/llama.cpp/"
_LEFT_OUT = tuple(_PREFIX + name for name in ("models/", "docs/", "media/"))


def peer_directory(*, cuda: bool = False) -> Path:
    """Return the directory with llama-server and its libraries, built when it is not in the cache.

    With `cuda` the libraries compute on NVIDIA's cards of this machine, whose toolkit (nvcc) must be there.
    """
    options = (*_OPTIONS, *(_CUDA if cuda else ()))
    source = llama_cpp.read_source(_REQUIREMENTS / "llama-cpp-python.lock")
    build_lock = _REQUIREMENTS / "build.lock"
    build = llama_cpp.describe_build(source, options=(*options, *_TARGETS))
    cache = cache_directory()

    def make(folder: Path) -> None:
        with llama_cpp.build_environment(build_lock) as tools, tempfile.TemporaryDirectory() as name:
            work = Path(name)
            archive = llama_cpp.archive_of(cache, source, tools)
            unpack(archive, work, wanted=lambda path: path.startswith(_PREFIX) and not path.startswith(_LEFT_OUT))
            build_folder = work / "build"
            tool = tools.folder / "bin"
            failure = "llama-server could not be built"
            with step(f"building llama-server ({llama_cpp.processors()} files at a time)"):
                configure: list[str | Path] = [tool / "cmake", "-S", work / _PREFIX, "-B", build_folder, "-G", "Ninja"]
                configure += [f"-DCMAKE_MAKE_PROGRAM={tool / 'ninja'}", *options]
                run(configure, log=folder / "build.log", failure=failure)
                compile_: list[str | Path] = [
                    tool / "cmake",
                    "--build",
                    build_folder,
                    "--parallel",
                    str(llama_cpp.processors()),
                ]
                run([*compile_, "--target", *_TARGETS], log=folder / "build.log", failure=failure)
            for path in (build_folder / "bin").iterdir():
                shutil.copy2(path, folder / path.name, follow_symlinks=False)

    return entry(cache, f"peer/{source.version}-{build.key}", make)


def main() -> int:
    """Print where the peer lies."""
    try:
        print(peer_directory())
    except SetupFailure as failure:
        say(f"FAILED: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
