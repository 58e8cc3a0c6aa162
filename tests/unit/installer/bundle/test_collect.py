"""Collecting without a network: apt and pip find everything in folders, and the source tree is a small one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, NotFound, Unavailable
from installer.bundle import apt, layout
from installer.bundle.collect import Request, collect, is_current
from installer.bundle.inputs import Inputs, read_inputs, tree_of
from installer.bundle.manifest import Kind
from installer.bundle.python_wheels import lock_of
from installer.bundle.verify import verify_bundle
from tests.factories.bundle import BUILT, Machine, Publisher, make_inputs, make_package, make_wheel

_LLAMA = """
import json, pathlib, shutil, sys
tree = pathlib.Path(sys.argv[1])
(tree / "converter").mkdir()
(tree / "converter" / "LICENSE").write_text("MIT")
(tree / "converter" / "VERSION").write_text("1.0")
shutil.copy("llama_cpp_python-1.0-py3-none-any.whl", tree / "wheels")
print(json.dumps({"level": "x86-64-v3"}))
"""


@pytest.fixture
def request_(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    checkout = tmp_path / "checkout"
    for name in ("appliance", "installer", "tui", "installer/bootstrap", "playbooks/roles/base/tasks", "tools"):
        (checkout / name).mkdir(parents=True)
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "intramuros-appliance"\nversion = "9.8.7"\nlicense = "Apache-2.0"\n'
        '[tool.setuptools.packages.find]\ninclude = ["appliance*"]\n'
    )
    (checkout / "appliance" / "__init__.py").write_text('"""Small."""\n')
    for name in ("README.md", "LICENSE", "installer/bootstrap/install.sh", "tools/install_converter.py"):
        (checkout / name).write_text("text\n")
    (checkout / "playbooks" / "site.yml").write_text("- hosts: box\n")
    (checkout / "playbooks" / ".hidden").write_text("x")
    (checkout / "playbooks" / "roles" / "base" / "tasks" / "main.yml").write_text("[]\n")
    (checkout / "tools" / "build_portable_llama.py").write_text(_LLAMA)
    make_wheel(checkout, "llama_cpp_python")
    wheels = tmp_path / "index"
    (checkout / "requirements").mkdir()
    for name in ("base", "installer"):
        wheel = make_wheel(wheels, f"{name}_wheel", licence="BSD-3-Clause")
        (checkout / "requirements" / f"{name}.lock").write_text(lock_of(wheel))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return Request(
        checkout=checkout,
        apt_sources=apt.flat_source(pristine / layout.APT, pristine / layout.PUBLISHER).replace("file:", "copy:"),
        given_packages=(make_package(tmp_path / "given", "referee"),),
        wanted=("wanted",),
        referees=(),
        now=BUILT,
    )


def test_collects_builds_and_verifies(
    request_: Request, publisher: Publisher, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF....")
    (tmp_path / "model.json").write_text('{"licence": "MIT"}')
    request = replace(request_, models={"seed": model})
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    inputs = collect(Path("inputs"), request, say=said.append)
    assert len(said) == 4
    assert (inputs.version, inputs.processor, inputs.packages) == ("9.8.7", "x86-64-v3", ("wanted",))
    assert inputs == read_inputs(tmp_path / "inputs")
    assert sorted(inputs.files) == [
        "LICENSES/intramuros.txt",
        "LICENSES/llama.cpp.txt",
        "apt/needed_1.0-1_all.deb",
        "apt/referee_1.0-1_all.deb",
        "apt/wanted_1.0-1_all.deb",
        "bootstrap/install.sh",
        "converter/LICENSE",
        "converter/VERSION",
        "models/seed.gguf",
        "models/seed.json",
        "playbooks/roles/base/tasks/main.yml",
        "playbooks/site.yml",
        "requirements/base.lock",
        "requirements/installer.lock",
        "requirements/intramuros-appliance.lock",
        "requirements/llama-cpp-python.lock",
        "wheels/base_wheel-1.0-py3-none-any.whl",
        "wheels/installer_wheel-1.0-py3-none-any.whl",
        "wheels/intramuros_appliance-9.8.7-py3-none-any.whl",
        "wheels/llama_cpp_python-1.0-py3-none-any.whl",
    ]
    described = inputs.files["wheels/base_wheel-1.0-py3-none-any.whl"]
    assert (described.kind, described.origin.pypi, described.licence) == (
        Kind.WHEEL,
        "base-wheel==1.0",
        "BSD-3-Clause",
    )
    assert inputs.files["models/seed.gguf"].licence == "MIT"
    assert is_current(tmp_path / "inputs", request)
    medium = publisher.build(tmp_path / "inputs", tmp_path / "medium")
    assert verify_bundle(medium, machine.policy(fingerprint=publisher.root_fingerprint)).version == "9.8.7"
    before = _contents(tmp_path / "inputs", inputs)
    collect(tmp_path / "inputs", request, say=_nobody)
    assert _contents(tmp_path / "inputs", inputs) == before  # our own wheel too is the same to the byte
    (request.checkout / "playbooks" / "site.yml").write_text("- hosts: all\n")
    assert not is_current(tmp_path / "inputs", request)


def test_gpu_backends_come_with_a_lock_of_their_own(request_: Request, tmp_path: Path) -> None:
    make_wheel(request_.checkout / "built", "intramuros_llama_cuda")
    (request_.checkout / "tools" / "build_gpu_backend.py").write_text(
        'import sys\nprint(f"built/intramuros_llama_{sys.argv[1]}-1.0-py3-none-any.whl")\n'
    )
    request = replace(request_, gpus=("cuda",))
    inputs = collect(tmp_path / "inputs", request, say=_nobody)
    wheel = "wheels/intramuros_llama_cuda-1.0-py3-none-any.whl"
    assert (inputs.files[wheel].kind, inputs.files[wheel].origin.given) == (Kind.WHEEL, "llama.cpp")
    lock = (tree_of(tmp_path / "inputs") / "requirements" / "gpu.lock").read_text()
    assert lock == lock_of(tree_of(tmp_path / "inputs") / wheel)
    assert is_current(tmp_path / "inputs", request)
    assert not is_current(tmp_path / "inputs", request_)


def test_gpu_backend_that_cannot_be_built_says_why(request_: Request, tmp_path: Path) -> None:
    (request_.checkout / "tools" / "build_gpu_backend.py").write_text(
        'import sys\nsys.exit("FAILED: Missing: nvcc.")\n'
    )
    with pytest.raises(Unavailable, match=r"The cuda backend could not be built: FAILED: Missing: nvcc\.") as refused:
        collect(tmp_path / "inputs", replace(request_, gpus=("cuda",)), say=_nobody)
    assert refused.value.code == "bundle.gpu"


def test_wheel_with_another_hash_leaves_no_collection(request_: Request, tmp_path: Path) -> None:
    folder = make_inputs(tmp_path / "inputs")  # there was a whole one before
    lock = request_.checkout / "requirements" / "base.lock"
    lock.write_text(lock.read_text().partition("sha256:")[0] + "sha256:" + "0" * 64 + "\n")
    with pytest.raises(Unavailable) as refused:
        collect(folder, request_, say=_nobody)
    assert refused.value.code == "bundle.pip"
    with pytest.raises(NotFound):
        read_inputs(folder)
    assert not is_current(folder, request_)


def test_model_that_is_none(request_: Request, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"#!/bin/sh")
    with pytest.raises(BadInput) as refused:
        collect(tmp_path / "inputs", replace(request_, models={"seed": model}), say=_nobody)
    assert refused.value.code == "bundle.model"


def test_package_that_apt_does_not_know(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        collect(tmp_path / "inputs", replace(request_, wanted=("nowhere",)), say=_nobody)
    assert refused.value.code == "bundle.apt"


def _contents(folder: Path, inputs: Inputs) -> dict[str, bytes]:
    return {path: (tree_of(folder) / path).read_bytes() for path in inputs.files}


def _nobody(what: str) -> None:
    del what
