"""A tuning served as its adapter on the base: trained, proven, deployed, and asked from the box and by a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories.box import Box, Refused, running_box, wait_for
from tests.factories.tiny_llama import make_tiny_llama

QUESTION = "How do I start the appliance?"
SHORT = ("--set", "epochs=1", "--set", "max_length=96", "--set", "rank=4")


def as_client(box: Box, model: str) -> str:
    answer = box.ask_as_client(QUESTION, model=model, max_tokens=16)
    assert answer["ok"], answer
    return str(answer["text"])


def on_the_box(box: Box, name: str) -> str:
    return str(box.verb("ask", name, QUESTION, "--max-tokens", "16")["text"])


@pytest.mark.slow
def test_a_tuning_is_served_as_its_adapter_and_comes_back_into_memory_when_asked(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "hf")
    with running_box(tmp_path / "box") as box:
        box.verb("model", "import", str(tmp_path / "hf"), "--name", "tiny", "--licence", "Apache-2.0")
        box.verb("dataset", "import", "example:faq", "--name", "faq")
        base = box.verb("model", "convert", "tiny@1")["id"]
        box.verb("model", "register", f"run:{base}", "--name", "base")
        assert box.verb("serving", "plan", "base@1", "--as", "base")["predicted"]["cache"] > 0
        tuned = box.verb("train", "lora", "--base", "tiny", "--data", "faq", *SHORT)["id"]
        proven = box.verb("model", "adapter", f"run:{tuned}")
        assert proven["summary"]["tokens_equal"] == proven["summary"]["tokens_total"] > 0
        box.verb("model", "register", f"run:{proven['id']}", "--name", "law")
        box.verb("deploy", "base@1", "--as", "base", "--override", "a test", "--adapter", "law=law@1")
        box.verb("key", "create", "test", "--out", str(box.paths.root / "key"))

        plain, under = on_the_box(box, "base"), on_the_box(box, "base:law")
        assert plain != under
        assert (as_client(box, "base"), as_client(box, "base:law")) == (plain, under)
        with pytest.raises(Refused) as refused:
            on_the_box(box, "base:care")
        assert refused.value.code == "deployment.no_adapter"

        box.verb("serving", "idle", "base", "1s")
        wait_for(lambda: box.verb("serving", "show")["models"][0]["state"] == "absent", what="the idle model leaves")
        assert on_the_box(box, "base:law") == under
