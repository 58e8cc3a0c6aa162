"""One publisher, one collection and one medium for all tests of this folder; who changes a medium takes a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.factories.bundle import Machine, Publisher, make_inputs, make_publisher


@pytest.fixture(scope="session")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return make_publisher(tmp_path_factory.mktemp("publisher") / "keys")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return make_publisher(tmp_path_factory.mktemp("stranger") / "keys")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs") / "inputs", model_size=3 << 20)


@pytest.fixture(scope="session")
def pristine(publisher: Publisher, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A medium that nobody changes."""
    return publisher.build(inputs, tmp_path_factory.mktemp("media") / "pristine")


@pytest.fixture(scope="session")
def in_parts(publisher: Publisher, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the model in three parts; nobody changes it."""
    return publisher.build(inputs, tmp_path_factory.mktemp("media") / "parts", part=1 << 20)


@pytest.fixture
def medium(pristine: Path, tmp_path: Path) -> Path:
    """A medium to attack."""
    return Path(shutil.copytree(pristine, tmp_path / "medium"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(folder=tmp_path / "machine")
