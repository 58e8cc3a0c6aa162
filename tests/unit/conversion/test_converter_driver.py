"""What the driver writes about special tokens, and what it refuses, without running the whole converter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.conversion.converter_driver import Refused, write_special_tokens
from tests.factories.tiny_llama import CHAT_TEMPLATE, make_tiny_llama

PAD, USER, ASSISTANT, END = 380, 381, 382, 383


class Recorder:
    """A GGUF writer that remembers what it was told."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def remember(value: Any) -> None:
            assert name not in self.said
            self.said[name.removeprefix("add_")] = value

        return remember


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path)


def written(folder: Path) -> dict[str, Any]:
    recorder = Recorder()
    write_special_tokens(folder, recorder)
    return recorder.said


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_everything_is_named_even_where_the_model_has_no_begin_token(model: Path) -> None:
    assert written(model) == {
        "bos_token_id": END,
        "eos_token_id": END,
        "eot_token_id": END,
        "pad_token_id": PAD,
        "add_bos_token": False,
        "add_eos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }


def test_further_end_tokens_become_end_of_turn_and_end_of_message(model: Path) -> None:
    change(model / "generation_config.json", eos_token_id=[USER, END, ASSISTANT])
    said = written(model)
    assert (said["eos_token_id"], said["eot_token_id"], said["eom_token_id"]) == (END, USER, ASSISTANT)


def test_a_begin_token_that_the_tokenizer_adds_is_written(model: Path) -> None:
    template = [{"SpecialToken": {"id": "<|user|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    processor = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|user|>": {"id": "<|user|>", "ids": [USER], "tokens": ["<|user|>"]}},
    }
    change(model / "tokenizer.json", post_processor=processor)
    change(model / "tokenizer_config.json", bos_token="<|user|>", add_bos_token=True)
    said = written(model)
    assert (said["bos_token_id"], said["add_bos_token"], said["add_eos_token"]) == (USER, True, False)


def test_other_added_tokens_are_refused(model: Path) -> None:
    template = [{"SpecialToken": {"id": "<|pad|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    processor = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|pad|>": {"id": "<|pad|>", "ids": [PAD], "tokens": ["<|pad|>"]}},
    }
    change(model / "tokenizer.json", post_processor=processor)
    with pytest.raises(Refused, match="post-processor"):
        written(model)


def test_a_model_without_template_has_none_written(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert "chat_template" not in written(model)


def test_a_model_that_never_ends_is_refused(model: Path) -> None:
    change(model / "tokenizer_config.json", eos_token=None)
    (model / "generation_config.json").unlink()
    with pytest.raises(Refused, match="end token"):
        written(model)
