"""What is refused before the converter runs, what it refuses itself, and that it repeats itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.conversion.convert import convert
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.tiny_llama import make_tiny_llama
from tests.unit.conversion.conftest import Converted


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "hf")


def try_convert(model: Path, *, dtype: str = "f32") -> Path:
    output = model.parent / "model.gguf"
    convert(model, output, dtype=dtype, name="tiny", scratch=model.parent / "scratch", threads=1)
    return output


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_same_model_gives_the_same_bytes(converted: Converted, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: other\nname: a model card must not get in\n---\n")
    assert try_convert(model).read_bytes() == (converted.output / "model.gguf").read_bytes()


def test_more_end_tokens_than_a_file_can_name_are_refused_by_the_driver(model: Path) -> None:
    change_json(model / "generation_config.json", eos_token_id=[383, 382, 381, 380])
    with pytest.raises(BadInput, match=r"conversion\.refused.*4 end tokens; a GGUF file can name three"):
        try_convert(model)
    assert not (model.parent / "model.gguf").exists()


def test_an_unknown_number_format_is_refused(model: Path) -> None:
    with pytest.raises(BadInput, match=r"conversion\.dtype.*q2_k"):
        try_convert(model, dtype="q2_k")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(BadInput, match=r"conversion\.incomplete"):
        try_convert(model)


def test_pickled_weights_are_never_read(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(BadInput, match="Pickled weights are never read"):
        try_convert(model)


@pytest.mark.parametrize(
    "architectures", [None, [], ["MambaForCausalLM"], ["LlamaForCausalLM", "X"], "LlamaForCausalLM"]
)
def test_an_unproven_architecture_is_refused(model: Path, architectures: Any) -> None:
    change_json(model / "config.json", architectures=architectures)
    with pytest.raises(BadInput, match=r"conversion\.architecture"):
        try_convert(model)


@pytest.mark.parametrize(
    ("family", "window", "refused"),
    [
        ("mistral", {"sliding_window": 128}, True),
        ("mistral", {"sliding_window": 256}, False),
        ("qwen2", {"sliding_window": 128, "use_sliding_window": True}, True),
        ("qwen2", {"sliding_window": 128, "use_sliding_window": False}, False),
    ],
)
def test_attention_through_a_window_is_refused(
    tmp_path: Path, family: str, window: dict[str, Any], refused: bool
) -> None:
    model = make_tiny_llama(tmp_path / "hf", family=family)
    change_json(model / "config.json", **window)
    if refused:
        with pytest.raises(BadInput, match=r"conversion\.window.*128 of 256 tokens"):
            try_convert(model)
    else:
        assert try_convert(model).is_file()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_json_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(IntegrityFailure, match=r"conversion\.config_unreadable"):
        try_convert(model)
