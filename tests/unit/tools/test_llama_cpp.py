"""What decides the bytes of llama.cpp's wheel: a portable one does not depend on the machine that builds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.bootstrap import llama_cpp
from tools.bootstrap.llama_cpp import PORTABLE_LEVEL, Edit, Recipe, Source, Variant, describe_build
from tools.bootstrap.narration import SetupFailure

SOURCE = Source(lock=Path("llama.lock"), version="1.0", sha256="0" * 64)


def test_portable_build_names_the_level_instead_of_this_processor() -> None:
    native = describe_build(SOURCE, options=("-DA=ON",))
    portable = describe_build(SOURCE, options=("-DA=ON",), processor=PORTABLE_LEVEL)
    assert native.processor == llama_cpp.processor_flags()
    assert portable.processor == "x86-64-v3"
    assert native.key != portable.key


def test_portable_recipe_leaves_nothing_to_this_machine_and_brings_every_kernel() -> None:
    options = llama_cpp._RECIPES[Variant.PORTABLE].options
    assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON"} <= set(options)
    assert not [option for option in options if "AVX" in option or "AMX" in option]


def test_everything_of_a_recipe_decides_the_build() -> None:
    plain = Recipe(options=("-DA=ON",), edits=())
    edited = Recipe(options=("-DA=ON",), edits=(Edit(file="a", pattern="x"),))
    smaller = Recipe(options=("-DA=ON",), edits=(), excluded=("include",))
    assert len({describe_build(SOURCE, options=each.decides).key for each in (plain, edited, smaller)}) == 3


def test_edit_of_a_source_that_has_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("set(A ON CACHE\n  add(one)\n  add(two TWO)\n  add(three)\n")
    llama_cpp.apply(Edit(file="CMakeLists.txt", pattern=r"(?m)^ *add\((one|two)\b.*\)$", times=2), tmp_path)
    assert (tmp_path / "CMakeLists.txt").read_text() == "set(A ON CACHE\n\n\n  add(three)\n"
    with pytest.raises(SetupFailure, match="has 0 times what is changed 1 times"):
        llama_cpp.apply(Edit(file="CMakeLists.txt", pattern=r"set\(B"), tmp_path)
