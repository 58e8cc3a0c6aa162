"""One GPU backend of llama.cpp as a wheel of its own: a single library beside the kernels of the portable wheel.

Built from the very sdist that set-up builds from, with the options that make a backend loadable, so that the
portable wheel's `libggml-base.so.0` is what it finds (docs/decisions/0036-gpu-plug-ins.md). The wheel requires exactly
that version of llama-cpp-python: nothing promises that another one has the same interface inside.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from tools.bootstrap import llama_cpp
from tools.bootstrap.cache import entry
from tools.bootstrap.commands import run
from tools.bootstrap.debian_packages import install, may_install
from tools.bootstrap.environment import Environment
from tools.bootstrap.narration import SetupFailure, step
from tools.bootstrap.source_archive import unpack

_SOURCE: Final = "vendor/llama.cpp/"
_LEFT_OUT: Final = tuple(_SOURCE + name for name in ("models/", "docs/", "media/"))
_OPTIONS: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_CPU=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN/../lib",
)
_TIME: Final = (2020, 1, 1, 0, 0, 0)
"""Of every file in the wheel: the same library makes the same wheel."""


_VULKAN: Final = "vendor/llama.cpp/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
_VALIDATION_LEFT_OUT: Final = (
    llama_cpp.Edit(
        file=_VULKAN, pattern=r"(?s)\n    VkBool32 enable_best_practice.*?layer_setting_info\(settings\);", text=""
    ),
    llama_cpp.Edit(file=_VULKAN, pattern=r"extensions, &layer_setting_info\);", text="extensions);"),
)
"""Settings of a layer for debugging that our build never loads, in words that the headers of Debian 12 lack."""


class Backend(StrEnum):
    """What the library talks to."""

    VULKAN = "vulkan"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one backend is compiled: CMake's options, the compiler of its kernels, and where to get that."""

    options: tuple[str, ...]
    compiler: str
    packages: Mapping[str, str]
    """Debian package -> a file of it by which to see that it is there"""
    hint: str
    summary: str
    edits: tuple[llama_cpp.Edit, ...] = ()

    def missing(self) -> list[str]:
        """Name the Debian packages that are not there."""
        return [package for package, file in self.packages.items() if not Path(file).exists()]


RECIPES: Final = {
    Backend.VULKAN: Recipe(
        options=("-DGGML_VULKAN=ON",),
        compiler="glslc",
        packages={
            "glslc": "/usr/bin/glslc",
            "libvulkan-dev": "/usr/include/vulkan/vulkan.hpp",
            "spirv-headers": "/usr/include/spirv/unified1/spirv.hpp",
        },
        hint="On Debian: apt-get install glslc libvulkan-dev spirv-headers.",
        summary="llama.cpp's kernels for GPUs with a Vulkan driver",
        edits=_VALIDATION_LEFT_OUT,
    ),
    Backend.CUDA: Recipe(
        options=("-DGGML_CUDA=ON", "-DGGML_CUDA_NCCL=OFF"),
        compiler="nvcc",
        packages={},
        hint="Install NVIDIA's CUDA toolkit and put its bin folder into PATH; no card is needed to build.",
        summary="llama.cpp's kernels for NVIDIA's GPUs",
    ),
}


def provide(cache: Path, source: llama_cpp.Source, build_lock: Path, backend: Backend) -> Path:
    """Return the wheel of a backend from the cache, made first when it is not there. Raises SetupFailure."""
    recipe = RECIPES[backend]
    log = cache / f"{backend}-backend.log"
    _require(recipe, log)
    options = (*_OPTIONS, *recipe.options)
    decides = llama_cpp.Recipe(options=options, edits=recipe.edits).decides
    build = llama_cpp.describe_build(source, options=decides, processor="x86-64")
    kernels = " ".join(llama_cpp.version_of(recipe.compiler).split())
    build = replace(build, compiler=f"{build.compiler}; {kernels}")

    def make(folder: Path) -> None:
        with llama_cpp.build_environment(build_lock) as tools, tempfile.TemporaryDirectory() as name:
            work = Path(name)
            archive = llama_cpp.archive_of(cache, source, tools)
            unpack(archive, work, wanted=lambda path: path.startswith(_SOURCE) and not path.startswith(_LEFT_OUT))
            for edit in recipe.edits:
                llama_cpp.apply(edit, work)
            with step(f"compiling the {backend} backend ({llama_cpp.processors()} files at a time)"):
                library = _compile(work, tools, backend, options, log=log)
            pack(
                folder,
                backend,
                version=source.version,
                library=library.read_bytes(),
                licence=(work / _SOURCE / "LICENSE").read_bytes(),
            )

    folder = entry(cache, f"wheels/{backend}-{source.version}-{build.key}", make)
    return next(folder.glob("*.whl"))


def pack(folder: Path, backend: Backend, *, version: str, library: bytes, licence: bytes) -> Path:
    """Write the wheel (packaging.python.org, "Binary distribution format")."""
    name = f"intramuros_llama_{backend}"
    information = f"{name}-{version}.dist-info"
    files = {
        f"llama_cpp/backends/libggml-{backend}.so": library,
        f"{information}/METADATA": (
            f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            f"Summary: {RECIPES[backend].summary}\nLicense-Expression: MIT\nLicense-File: LICENSE\n"
            f"Requires-Dist: llama-cpp-python=={version}\n"
        ).encode(),
        f"{information}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: intramuros\nRoot-Is-Purelib: false\nTag: py3-none-linux_x86_64\n"
        ),
        f"{information}/licenses/LICENSE": licence,
    }
    record = f"{information}/RECORD"
    lines = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    wheel = folder / f"{name}-{version}-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry_of = zipfile.ZipInfo(path, _TIME)
            entry_of.external_attr = (0o755 if path.endswith(".so") else 0o644) << 16
            entry_of.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry_of, content)
    return wheel


def _compile(work: Path, tools: Environment, backend: Backend, options: tuple[str, ...], *, log: Path) -> Path:
    build, tool = work / "build", tools.folder / "bin"
    failure = f"the {backend} backend could not be built"
    # The shaders' generator is a project of its own, which looks for Ninja in PATH. No temporary name in the library.
    environment = {
        "PATH": f"{tool}:{os.environ['PATH']}",
        "CXXFLAGS": f"-ffile-prefix-map={work}=llama-cpp-python",
    }
    configure: list[str | Path] = [tool / "cmake", "-S", work / _SOURCE, "-B", build, "-G", "Ninja"]
    run([*configure, *options], log=log, failure=failure, environment=environment)
    compile_: list[str | Path] = [tool / "cmake", "--build", build, "--parallel", str(llama_cpp.processors())]
    run([*compile_, "--target", f"ggml-{backend}"], log=log, failure=failure, environment=environment)
    library = build / "bin" / f"libggml-{backend}.so"
    run(["strip", "--strip-unneeded", library.resolve()], log=log, failure="strip failed")
    return library


def _require(recipe: Recipe, log: Path) -> None:
    missing = recipe.missing()
    if missing and may_install():
        install(missing, log)
        missing = recipe.missing()
    if missing or shutil.which(recipe.compiler) is None:
        lacking = ", ".join(missing) or recipe.compiler
        raise SetupFailure(f"Missing from the system: {lacking}.", hint=recipe.hint)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
