from __future__ import annotations

import pytest

from appliance.engine.llama_context import LlamaModel, start_backend
from tests.factories.tiny_llama import make_tiny_gguf


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    """A real model of 100,000 parameters, loaded in this process."""
    start_backend()
    return LlamaModel(make_tiny_gguf(tmp_path_factory.mktemp("tiny")))
