"""The wheel of a GPU backend: one library where llama.cpp looks for it, tied to one version."""

from __future__ import annotations

import base64
import csv
import hashlib
import zipfile
from pathlib import Path

import pytest

from tools import build_gpu_backend
from tools.bootstrap.gpu_backend import RECIPES, Backend, Recipe, pack

LIBRARY = b"\x7fELF a library"


def packed(folder: Path, backend: Backend = Backend.VULKAN) -> Path:
    folder.mkdir()
    return pack(folder, backend, version="1.2.3", library=LIBRARY, licence=b"MIT")


def test_the_library_lies_where_the_engine_loads_it(tmp_path: Path) -> None:
    wheel = packed(tmp_path / "a")
    assert wheel.name == "intramuros_llama_vulkan-1.2.3-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("llama_cpp/backends/libggml-vulkan.so") == LIBRARY
        metadata = archive.read("intramuros_llama_vulkan-1.2.3.dist-info/METADATA").decode()
        library = archive.getinfo("llama_cpp/backends/libggml-vulkan.so")
    assert "Name: intramuros-llama-vulkan\n" in metadata
    assert "Requires-Dist: llama-cpp-python==1.2.3\n" in metadata
    assert library.external_attr >> 16 == 0o755


def test_the_record_names_every_file_with_its_hash(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "a", Backend.CUDA)) as archive:
        rows = list(csv.reader(archive.read("intramuros_llama_cuda-1.2.3.dist-info/RECORD").decode().splitlines()))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if not name.endswith("RECORD"):
                content = archive.read(name)
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
                assert (digest, size) == (f"sha256={expected}", str(len(content)))


def test_the_same_library_makes_the_same_wheel(tmp_path: Path) -> None:
    assert packed(tmp_path / "a").read_bytes() == packed(tmp_path / "b").read_bytes()


def test_missing_packages_are_seen_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    packages = {"one": str(tmp_path / "there"), "two": str(tmp_path / "not")}
    recipe = Recipe(options=(), compiler="cc", packages=packages, hint="", summary="")
    assert recipe.missing() == ["two"]


def test_every_backend_has_a_recipe_that_can_be_loaded_and_no_other_word_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(RECIPES) == set(Backend)
    assert build_gpu_backend.main(["metal"]) == 2
    assert "vulkan|cuda" in capsys.readouterr().err
