"""llama-cpp-python: built once per machine from its hash-checked sdist, then taken from the cache.

A native build uses this processor's own instructions. A portable one has the kernels of every processor from a named
level up as libraries of their own, of which each machine loads the one that fits (docs/decisions/0024-cpu-variants.md).
The key of a cached wheel covers the sdist, the processor or the level, the compiler and our options. The sdist's
converter to GGUF is kept beside it, because the wheel does not carry it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tools.bootstrap.cache import entry
from tools.bootstrap.environment import Environment
from tools.bootstrap.narration import SetupFailure, step
from tools.bootstrap.source_archive import sha256_of, unpack

_OPTIONS = (
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)
_PORTABLE_OPTIONS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DCMAKE_INSTALL_LIBDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_BINDIR=llama_cpp/backends",
)
PORTABLE_LEVEL = "x86-64-v3"
"""What a bundle's build needs of a processor: AVX2, FMA, F16C, BMI2 (docs/decisions/0014-portable-engine.md)."""

_PORTABLE_EXCLUDED = (
    *("include", "llama_cpp/lib/cmake", "llama_cpp/lib/pkgconfig"),
    *("llama_cpp/lib/*.so.*.*", "llama_cpp/lib/libggml.so", "llama_cpp/lib/libggml-base.so"),
    *("llama_cpp/lib/libllama.so.*", "llama_cpp/backends/*.so.*"),
)
"""Links to a library become copies of it in a wheel: only the names that something loads stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of the sdist's recipes; set-up fails when the text is not there as often as it should be."""

    file: str
    pattern: str
    text: str = ""
    times: int = 1


_FORCED = Edit(
    file="CMakeLists.txt",
    pattern=r"set\(LLAMA_BUILD_COMMON ON CACHE",
    text="set(LLAMA_BUILD_COMMON OFF CACHE",
)
"""The sdist forces a library on that nothing binds: 60 objects, a minute of compiling."""

_VARIANTS_LEFT_OUT = Edit(
    file="vendor/llama.cpp/ggml/src/CMakeLists.txt",
    pattern=r"(?m)^ *ggml_add_cpu_backend_variant\((x64|sse42|sandybridge|ivybridge|piledriver|sapphirerapids)\b.*\)$",
    times=6,
)
"""Those below the level, and the one whose AMX kernels crash (see appliance/weights/llama_loading.py)."""

_NOT_COMPILED = (".git/", "vendor/llama.cpp/models/", "vendor/llama.cpp/docs/", "vendor/llama.cpp/media/")
_CONVERTER = (
    "vendor/llama.cpp/convert_hf_to_gguf.py",
    "vendor/llama.cpp/conversion/",
    "vendor/llama.cpp/gguf-py/",
    "vendor/llama.cpp/LICENSE",
    "PKG-INFO",
)
_PINNED = re.compile(r"^llama-cpp-python==(\S+)\s.*?--hash=sha256:([0-9a-f]{64})", re.MULTILINE | re.DOTALL)


class Variant(StrEnum):
    """For whom the wheel is built."""

    NATIVE = "native"
    PORTABLE = "portable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the sdist is compiled, and what of it the wheel leaves out."""

    options: tuple[str, ...]
    edits: tuple[Edit, ...]
    excluded: tuple[str, ...] = ()

    @property
    def decides(self) -> tuple[str, ...]:
        """Everything of it that decides the wheel's bytes."""
        return (*self.options, *(edit.text or edit.pattern for edit in self.edits), *self.excluded)


_RECIPES = {
    Variant.NATIVE: Recipe(options=_OPTIONS, edits=(_FORCED,)),
    Variant.PORTABLE: Recipe(
        options=(*_OPTIONS, *_PORTABLE_OPTIONS), edits=(_FORCED, _VARIANTS_LEFT_OUT), excluded=_PORTABLE_EXCLUDED
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The sdist that the lock names."""

    lock: Path
    version: str
    sha256: str

    @property
    def archive_name(self) -> str:
        return f"llama_cpp_python-{self.version}.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Everything that decides the bytes of a wheel. Its digest is the cache key."""

    sdist: str
    processor: str
    compiler: str
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """What set-up installs: the wheel, and a folder with the converter laid out as in the sdist."""

    wheel: Path
    converter: Path


def read_source(lock: Path) -> Source:
    """Read version and hash from the lock."""
    found = _PINNED.search(lock.read_text())
    if found is None:
        raise SetupFailure(f"{lock} does not pin llama-cpp-python by version and sha256.")
    return Source(lock=lock, version=found[1], sha256=found[2])


def provide(cache: Path, source: Source, build_lock: Path, variant: Variant = Variant.NATIVE) -> Provided:
    """Return wheel and converter from the cache, made first when they are not there."""
    portable = variant is Variant.PORTABLE
    recipe = _RECIPES[variant]
    build = describe_build(source, options=recipe.decides, processor=PORTABLE_LEVEL if portable else processor_flags())
    whom = f"every processor from {PORTABLE_LEVEL} up" if portable else "this processor"

    def make_wheel(folder: Path) -> None:
        with build_environment(build_lock) as tools:
            archive = archive_of(cache, source, tools)
            with step(f"compiling llama.cpp for {whom}, once per machine ({processors()} files at a time)"):
                _compile(archive, folder, tools, recipe)
        record = {**asdict(build), "sha256": sha256_of(_wheel_in(folder))}
        (folder / "build.json").write_text(json.dumps(record, indent=1) + "\n")

    def make_converter(folder: Path) -> None:
        with build_environment(build_lock) as tools:
            unpack(archive_of(cache, source, tools), folder, wanted=lambda name: name.startswith(_CONVERTER))

    folder = entry(cache, f"wheels/{source.version}-{build.key}", make_wheel)
    wheel = _wheel_in(folder)
    if sha256_of(wheel) != json.loads((folder / "build.json").read_text())["sha256"]:
        raise SetupFailure(f"{wheel} has changed since it was built.", hint=f"Delete {folder}; set-up builds it again.")
    return Provided(wheel=wheel, converter=entry(cache, f"converter/{source.sha256[:20]}", make_converter))


def describe_build(source: Source, *, options: tuple[str, ...], processor: str = "") -> Build:
    """Describe what this machine makes of the source with these options; `processor` says for which others."""
    compiler = version_of(os.environ.get("CXX", "c++")).splitlines()[0]
    return Build(sdist=source.sha256, processor=processor or processor_flags(), compiler=compiler, options=options)


@contextmanager
def build_environment(build_lock: Path) -> Iterator[Environment]:
    """Yield a throw-away environment with the hash-locked build tools: scikit-build-core, cmake, ninja."""
    with tempfile.TemporaryDirectory(prefix="intramuros-build-") as folder:
        tools = Environment(Path(folder) / "tools")
        tools.create()
        tools.install_locked([build_lock])
        yield tools


def archive_of(cache: Path, source: Source, tools: Environment) -> Path:
    """Return the sdist, downloaded when it is not in the cache, and checked each time."""

    def download(folder: Path) -> None:
        with step(f"downloading the source of llama-cpp-python {source.version}"):
            # pip asks the build backend for the sdist's metadata, hence the build tools.
            tools.pip(
                "download",
                "--require-hashes",
                "--no-deps",
                "--no-binary=llama-cpp-python",
                "--no-build-isolation",
                f"--dest={folder}",
                f"--requirement={source.lock}",
                failure=f"pip could not download {source.archive_name}",
            )

    archive = entry(cache, f"sdist/{source.sha256[:20]}", download) / source.archive_name
    if not archive.is_file() or sha256_of(archive) != source.sha256:
        raise SetupFailure(f"{archive} is not the source that the lock names.", hint=f"Delete {archive.parent}.")
    return archive


def processor_flags() -> str:
    """Return a digest of the instruction sets of this machine's first processor."""
    flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = " ".join(sorted(value.split()))
            break
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:16]


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _compile(archive: Path, folder: Path, tools: Environment, recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory(prefix="intramuros-llama-") as work:
        source = Path(work) / "source"
        unpack(archive, source, wanted=lambda name: not name.startswith(_NOT_COMPILED))
        for edit in recipe.edits:
            apply(edit, source)
        tools.pip(
            "wheel",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            *([f"--config-settings=wheel.exclude={';'.join(recipe.excluded)}"] if recipe.excluded else []),
            f"--wheel-dir={folder}",
            str(source),
            failure="llama.cpp could not be compiled",
            environment={
                "CMAKE_ARGS": " ".join(recipe.options),
                "CMAKE_BUILD_PARALLEL_LEVEL": str(processors()),
                # No name of a temporary folder in the binaries.
                "CFLAGS": f"-ffile-prefix-map={source}=llama-cpp-python",
                "CXXFLAGS": f"-ffile-prefix-map={source}=llama-cpp-python",
            },
        )
    _keep_log(tools, folder)


def apply(edit: Edit, source: Path) -> None:
    """Make a change in an unpacked sdist. Raises SetupFailure where the text is not as it was."""
    file = source / edit.file
    text, times = re.subn(edit.pattern, edit.text, file.read_text())
    if times != edit.times:
        raise SetupFailure(
            f"{edit.file} of llama-cpp-python has {times} times what is changed {edit.times} times: {edit.pattern}",
            hint="The recipe needs a new look.",
        )
    file.write_text(text)


def _keep_log(tools: Environment, folder: Path) -> None:
    (folder / "build.log").write_bytes(tools.log.read_bytes())


def _wheel_in(folder: Path) -> Path:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SetupFailure(f"{folder} holds {len(wheels)} wheels instead of one.", hint=f"Delete {folder}.")
    return wheels[0]


def version_of(program: str) -> str:
    """Return how a compiler presents itself. Raises SetupFailure when it does not start."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupFailure(f"The compiler {program} does not start: {error}.") from error
