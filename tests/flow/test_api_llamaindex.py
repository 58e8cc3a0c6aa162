"""LlamaIndex's clients of the API, used as their documentation shows and not changed: real gateway, real engines.

They need an older `openai` than the appliance, so they run in an environment of their own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.factories.engine_client import ROOT, running_encoder, running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_encoder import make_tiny_bert_gguf
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow

CALLS = ["messages_and_streams", "tools", "structured_output", "plain_completions", "index_over_documents"]


def test_ordinary_calls_work_unmodified(tmp_path: Path) -> None:
    chat, embedder = make_tiny_gguf(tmp_path, context=2048), make_tiny_bert_gguf(tmp_path / "embedder.gguf")
    python = ROOT / ".venv-llamaindex" / "bin" / "python"
    assert python.exists(), "LlamaIndex is not set up: python3 -m tools.setup_environment --llamaindex"
    box = GatewayBox(tmp_path / "box")
    key = tmp_path / "key"
    key.write_text(box.key.secret)
    with (
        running_worker(chat, box.serve("desk", 1), "--context", "8192"),
        running_encoder(embedder, box.serve("embedder", 2, kind="embed"), "embed"),
        box.running(),
    ):
        script, authority = ROOT / "tests" / "clients" / "llamaindex_calls.py", box.paths.authority_certificate
        words = [str(python), str(script), box.url, str(authority), str(key)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == CALLS
