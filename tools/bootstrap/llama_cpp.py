"""llama-cpp-python: built once per machine from its hash-checked sdist, then taken from the cache.

A native build uses this processor's own instructions, a portable one those of a named level that other machines have
too. The key of a cached wheel covers the sdist, the processor or the level, the compiler and our options. The sdist's
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
    "-DGGML_AVX=ON",
    "-DGGML_AVX2=ON",
    "-DGGML_FMA=ON",
    "-DGGML_F16C=ON",
    "-DGGML_BMI2=ON",
)
PORTABLE_LEVEL = "x86-64-v3"
"""What a bundle's build needs of a processor: AVX2, FMA, F16C, BMI2 (docs/decisions/0014-portable-engine.md)."""

_FORCED = ("set(LLAMA_BUILD_COMMON ON CACHE", "set(LLAMA_BUILD_COMMON OFF CACHE")
"""The sdist forces a library on that nothing binds: 60 objects, a minute of compiling. First -> second."""

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
    options = (*_OPTIONS, *_PORTABLE_OPTIONS) if portable else _OPTIONS
    build = describe_build(
        source, options=(*options, _FORCED[1]), processor=PORTABLE_LEVEL if portable else processor_flags()
    )
    whom = f"every {PORTABLE_LEVEL} processor" if portable else "this processor"

    def make_wheel(folder: Path) -> None:
        with build_environment(build_lock) as tools:
            archive = archive_of(cache, source, tools)
            with step(f"compiling llama.cpp for {whom}, once per machine ({processors()} files at a time)"):
                _compile(archive, folder, tools, options)
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
    return Build(sdist=source.sha256, processor=processor or processor_flags(), compiler=_compiler(), options=options)


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


def _compile(archive: Path, folder: Path, tools: Environment, options: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="intramuros-llama-") as work:
        source = Path(work) / "source"
        unpack(archive, source, wanted=lambda name: not name.startswith(_NOT_COMPILED))
        recipe = source / "CMakeLists.txt"
        text = recipe.read_text()
        if _FORCED[0] not in text:
            raise SetupFailure(f"{archive.name} does not contain `{_FORCED[0]}`.", hint="The recipe needs a new look.")
        recipe.write_text(text.replace(*_FORCED))
        tools.pip(
            "wheel",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            f"--wheel-dir={folder}",
            str(source),
            failure="llama.cpp could not be compiled",
            environment={
                "CMAKE_ARGS": " ".join(options),
                "CMAKE_BUILD_PARALLEL_LEVEL": str(processors()),
                # No name of a temporary folder in the binaries.
                "CFLAGS": f"-ffile-prefix-map={source}=llama-cpp-python",
                "CXXFLAGS": f"-ffile-prefix-map={source}=llama-cpp-python",
            },
        )
    _keep_log(tools, folder)


def _keep_log(tools: Environment, folder: Path) -> None:
    (folder / "build.log").write_bytes(tools.log.read_bytes())


def _wheel_in(folder: Path) -> Path:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SetupFailure(f"{folder} holds {len(wheels)} wheels instead of one.", hint=f"Delete {folder}.")
    return wheels[0]


def _compiler() -> str:
    """Return the first line with which the C++ compiler presents itself."""
    name = os.environ.get("CXX", "c++")
    try:
        outcome = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupFailure(f"The compiler {name} does not start: {error}.") from error
    return outcome.stdout.splitlines()[0]
