"""The tiny model, written once for the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories.tiny_llama import make_tiny_llama


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))
