"""What decides the bytes of llama.cpp's wheel: a portable one does not depend on the machine that builds it."""

from __future__ import annotations

from pathlib import Path

from tools.bootstrap import llama_cpp
from tools.bootstrap.llama_cpp import PORTABLE_LEVEL, Source, describe_build

SOURCE = Source(lock=Path("llama.lock"), version="1.0", sha256="0" * 64)


def test_portable_build_names_the_level_instead_of_this_processor() -> None:
    native = describe_build(SOURCE, options=("-DA=ON",))
    portable = describe_build(SOURCE, options=("-DA=ON",), processor=PORTABLE_LEVEL)
    assert native.processor == llama_cpp.processor_flags()
    assert portable.processor == "x86-64-v3"
    assert native.key != portable.key


def test_portable_options_leave_nothing_to_this_machine() -> None:
    assert "-DGGML_NATIVE=OFF" in llama_cpp._PORTABLE_OPTIONS
    assert not [option for option in llama_cpp._PORTABLE_OPTIONS if "AVX512" in option or "AMX" in option]
