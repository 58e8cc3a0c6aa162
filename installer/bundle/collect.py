"""Collecting, the one phase with a network: Debian packages, wheels, playbooks, converter, models, into one folder.

Needs the product's source tree (locks, playbooks, tools). What is fetched is checked by the tool that knows its origin:
apt by Debian's signatures, pip by the hashes of the locks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.kernel.errors import BadInput, NotFound, Unavailable
from appliance.kernel.process import run
from installer.bundle import apt, debian_archive, debian_licences, layout, python_wheels
from installer.bundle.inputs import SCHEMA, Described, Inputs, forget_inputs, read_inputs, tree_of, write_inputs
from installer.bundle.manifest import Kind, Origin, instant_text
from installer.bundle.package_list import Referee, read_referees, read_wanted

_LOCKS = ("base", "installer")
_LLAMA = "llama-cpp-python"
_OWN = "intramuros-appliance"
_PLUG_INS = "gpu"
GPU_DRIVERS: Mapping[str, tuple[str, ...]] = {"vulkan": ("libvulkan1", "mesa-vulkan-drivers"), "cuda": ()}
"""GPU backend -> Debian packages that it runs on; NVIDIA's driver and CUDA's libraries are given packages."""
_JUNK = ("__pycache__", "*.pyc", ".*", "*.retry")
_GGUF = b"GGUF"
_BUILD_SECONDS = 3600.0
_GPU_SECONDS = 4 * _BUILD_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to collect, and from where."""

    checkout: Path
    apt_sources: str
    models: Mapping[str, Path] = field(default_factory=dict)
    given_packages: tuple[Path, ...] = ()
    gpus: tuple[str, ...] = ()
    """GPU backends of llama.cpp to bring along"""
    wanted: tuple[str, ...] = field(default_factory=read_wanted)
    referees: tuple[Referee, ...] = field(default_factory=read_referees)
    now: datetime


def collect(folder: Path, request: Request, *, say: Callable[[str], None]) -> Inputs:
    """Fill `folder` anew and describe it. What was downloaded before is used again."""
    for name, file in request.models.items():
        _check_model(name, file)
    folder = folder.absolute()  # a tool of the source tree writes into it from there
    tree = tree_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    forget_inputs(folder)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    files: dict[str, Described] = {}
    say("Debian packages and everything they need")
    packages = _packages(folder, tree, request, files)
    say("wheels that the locks name")
    _wheels(folder, tree, request, files)
    say("llama.cpp for every processor of the level")
    level = _llama(tree, request, files)
    _plug_ins(tree, request, files)
    say("playbooks, converter, models, licences")
    _sources(tree, request, files)
    _models(tree, request, files)
    inputs = Inputs(
        schema=SCHEMA,
        version=_version(request.checkout),
        processor=level,
        collected=instant_text(request.now),
        made_from=decided_by(request),
        packages=packages,
        files=dict(sorted(files.items())),
    )
    write_inputs(folder, inputs)
    return inputs


def is_current(folder: Path, request: Request) -> bool:
    """Tell whether the folder holds what this source tree and these models would collect."""
    try:
        return read_inputs(folder).made_from == decided_by(request)
    except (BadInput, NotFound):
        return False


def decided_by(request: Request) -> str:
    """Return a digest of the source tree's part of a collection, the package lists and the models."""
    found = hashlib.sha256()
    root = request.checkout
    names = ("appliance", "installer", "tui", layout.PLAYBOOKS, layout.REQUIREMENTS)
    files = [path for name in names for path in sorted((root / name).rglob("*")) if path.is_file()]
    single = [root / "pyproject.toml", root / "tools" / "install_converter.py", *request.models.values()]
    for path in (*files, *single, *request.given_packages):
        if "__pycache__" not in path.parts:
            found.update(f"{path}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    found.update(json.dumps([request.apt_sources, sorted(request.models), *sorted(request.gpus)]).encode())
    return found.hexdigest()


def _packages(folder: Path, tree: Path, request: Request, files: dict[str, Described]) -> tuple[str, ...]:
    wanted = (*request.wanted, *(name for gpu in request.gpus for name in GPU_DRIVERS[gpu]))
    cache = folder / "cache"
    stable = apt.PrivateApt(cache / "stable", request.apt_sources)
    stable.update()
    found = stable.fetch_closure(wanted)
    given = [debian_archive.read_package(file).name for file in request.given_packages]
    referees = [referee for referee in request.referees if referee.name not in given]
    for suite in sorted({referee.suite for referee in referees}):
        newer = apt.PrivateApt(cache / suite, apt.sources_of_suite(request.apt_sources, suite))
        newer.update()
        found += newer.fetch_exactly(f"{one.name}={one.version}" for one in referees if one.suite == suite)
    found += [apt.Found(file=file, suite="") for file in request.given_packages]
    target = tree / layout.APT
    target.mkdir()
    for one in found:
        package = debian_archive.read_package(one.file)
        name = debian_archive.file_name(package.name, package.version, package.architecture)
        shutil.copyfile(one.file, target / name)
        origin = Origin(apt=one.suite, package=package.name, version=package.version, given="" if one.suite else name)
        files[f"{layout.APT}/{name}"] = Described(
            kind=Kind.PACKAGE, origin=origin, licence=debian_licences.licences_of(one.file, package.name)
        )
    return (*wanted, *(referee.name for referee in request.referees))


def _wheels(folder: Path, tree: Path, request: Request, files: dict[str, Described]) -> None:
    del folder
    target = tree / layout.WHEELS
    locks = [request.checkout / layout.REQUIREMENTS / f"{name}.lock" for name in _LOCKS]
    python_wheels.fetch_locked(locks, target)
    python_wheels.build_own(request.checkout, target, date=request.now)
    (tree / layout.REQUIREMENTS).mkdir()
    for lock in locks:
        _take(lock, tree, f"{layout.REQUIREMENTS}/{lock.name}", Kind.LOCK, files)
    for wheel in sorted(target.glob("*.whl")):
        _describe_wheel(wheel, files)
    (own,) = target.glob("intramuros_appliance-*.whl")
    _write_lock(tree, _OWN, own, files)


def _llama(tree: Path, request: Request, files: dict[str, Described]) -> str:
    outcome = run(
        [sys.executable, "-m", "tools.build_portable_llama", str(tree)],
        timeout=_BUILD_SECONDS,
        directory=request.checkout,
    )
    if outcome.status != 0:
        raise Unavailable("bundle.llama", f"llama.cpp could not be provided: {outcome.stderr.strip()[-300:]}")
    level = str(json.loads(outcome.stdout)["level"])
    (wheel,) = (tree / layout.WHEELS).glob("llama_cpp_python-*.whl")
    _describe_wheel(wheel, files)
    _write_lock(tree, _LLAMA, wheel, files)
    for file in sorted((tree / layout.CONVERTER).rglob("*")):
        if file.is_file():
            files[str(file.relative_to(tree))] = Described(
                kind=Kind.CONVERTER, origin=Origin(given="llama.cpp"), licence="MIT"
            )
    return level


def _plug_ins(tree: Path, request: Request, files: dict[str, Described]) -> None:
    """Build each GPU backend's wheel and lock all of them in one file, which the box looks for."""
    locks = []
    for gpu in request.gpus:
        outcome = run(
            [sys.executable, "-m", "tools.build_gpu_backend", gpu], timeout=_GPU_SECONDS, directory=request.checkout
        )
        if outcome.status != 0:
            raise Unavailable("bundle.gpu", f"The {gpu} backend could not be built: {outcome.stderr.strip()[-300:]}")
        wheel = tree / layout.WHEELS / Path(outcome.stdout.strip()).name
        shutil.copyfile(request.checkout / outcome.stdout.strip(), wheel)
        _describe_wheel(wheel, files, origin=Origin(given="llama.cpp"))
        locks.append(python_wheels.lock_of(wheel))
    if locks:
        path = f"{layout.REQUIREMENTS}/{_PLUG_INS}.lock"
        (tree / path).write_text("".join(locks))
        files[path] = _ours(Kind.LOCK)


def _sources(tree: Path, request: Request, files: dict[str, Described]) -> None:
    source = request.checkout / layout.PLAYBOOKS
    shutil.copytree(source, tree / layout.PLAYBOOKS, ignore=shutil.ignore_patterns(*_JUNK))
    for file in sorted((tree / layout.PLAYBOOKS).rglob("*")):
        if file.is_file():
            files[str(file.relative_to(tree))] = _ours(Kind.PLAYBOOK)
    for folder in (layout.BOOTSTRAP, layout.LICENCES):
        (tree / folder).mkdir()
    _take(request.checkout / "installer/bootstrap/install.sh", tree, layout.INSTALL, Kind.BOOTSTRAP, files)
    _take(request.checkout / "LICENSE", tree, f"{layout.LICENCES}/intramuros.txt", Kind.LICENCE, files)
    _take(tree / layout.CONVERTER / "LICENSE", tree, f"{layout.LICENCES}/llama.cpp.txt", Kind.LICENCE, files)


def _models(tree: Path, request: Request, files: dict[str, Described]) -> None:
    (tree / layout.MODELS).mkdir()
    for name, file in request.models.items():
        path = f"{layout.MODELS}/{name}.gguf"
        card = file.with_name("model.json")
        licence = ""
        if card.is_file():
            licence = str(json.loads(card.read_text()).get("licence", ""))
            _take(card, tree, f"{layout.MODELS}/{name}.json", Kind.MODEL_CARD, files)
        shutil.copyfile(file, tree / path)
        files[path] = Described(kind=Kind.MODEL, origin=Origin(given=name), licence=licence)


def _check_model(name: str, file: Path) -> None:
    layout.check_path(f"{layout.MODELS}/{name}.gguf")
    with file.open("rb") as stream:
        if stream.read(len(_GGUF)) != _GGUF:
            raise BadInput("bundle.model", f"{file} is not a GGUF file.")


def _take(source: Path, tree: Path, path: str, kind: Kind, files: dict[str, Described]) -> None:
    shutil.copyfile(source, tree / path)
    files[path] = _ours(kind)


def _describe_wheel(wheel: Path, files: dict[str, Described], *, origin: Origin | None = None) -> None:
    metadata = python_wheels.read_metadata(wheel)
    files[f"{layout.WHEELS}/{wheel.name}"] = Described(
        kind=Kind.WHEEL,
        origin=origin or Origin(pypi=f"{metadata['Name']}=={metadata['Version']}"),
        licence=python_wheels.licence_of(metadata),
    )


def _write_lock(tree: Path, name: str, wheel: Path, files: dict[str, Described]) -> None:
    path = f"{layout.REQUIREMENTS}/{name}.lock"
    (tree / path).write_text(python_wheels.lock_of(wheel))
    files[path] = _ours(Kind.LOCK)


def _ours(kind: Kind) -> Described:
    return Described(kind=kind, origin=Origin(given=layout.PRODUCT), licence="Apache-2.0")


def _version(checkout: Path) -> str:
    import tomllib

    return str(tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"])
