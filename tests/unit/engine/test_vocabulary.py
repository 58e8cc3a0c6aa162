from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from appliance.conversion.convert import convert
from appliance.engine.llama_context import LlamaModel
from appliance.engine.vocabulary import require_same_vocabulary
from appliance.kernel.errors import IntegrityFailure
from tests.factories.tiny_llama import make_tiny_gguf, make_tiny_llama


def test_the_same_tokenizer_passes(model: LlamaModel, tmp_path: Path) -> None:
    require_same_vocabulary(model, LlamaModel(make_tiny_gguf(tmp_path, seed=4)))


def test_other_special_tokens_are_told(model: LlamaModel, tmp_path: Path) -> None:
    other = LlamaModel(make_tiny_gguf(tmp_path, able=True))
    with pytest.raises(IntegrityFailure, match="another vocabulary: token ") as refused:
        require_same_vocabulary(model, other)
    assert refused.value.code == "engine.draft_vocabulary"
    assert "\n" not in str(refused.value)


def test_a_token_of_the_same_text_that_ends_an_answer_in_one_only_is_told(model: LlamaModel, tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "hf")
    for name, change in (
        ("config.json", {"eos_token_id": 380}),
        ("generation_config.json", {"eos_token_id": 380}),
        ("tokenizer_config.json", {"eos_token": "<|pad|>"}),
    ):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    file = tmp_path / "other.gguf"
    convert(folder, file, dtype="f32", name="other", scratch=tmp_path / "scratch", threads=1)
    with pytest.raises(IntegrityFailure, match="another vocabulary"):
        require_same_vocabulary(model, LlamaModel(file))


@pytest.mark.parametrize(("marked", "passes"), [("[PAD384]", True), ("word", False)])
def test_padding_may_differ_and_words_may_not(model: LlamaModel, tmp_path: Path, marked: str, passes: bool) -> None:
    longer = LlamaModel(_with_one_more(tmp_path, marked))
    assert longer.vocabulary == model.vocabulary + 1
    for one, other in ((model, longer), (longer, model)):
        if passes:
            require_same_vocabulary(one, other)
        else:
            with pytest.raises(IntegrityFailure, match=r"it has 38[45] tokens, the model 38[45]"):
                require_same_vocabulary(one, other)


def _with_one_more(folder: Path, marked: str) -> Path:
    """A model whose weights have a row more than the tokenizer, or whose tokenizer has one more word."""
    source = make_tiny_llama(folder / "hf")
    weights = load_file(source / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = np.concatenate([weights[name], weights[name][:1]])
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    if not marked.startswith("["):
        tokenizer = json.loads((source / "tokenizer.json").read_text())
        added = tokenizer["added_tokens"][-1] | {"id": config["vocab_size"], "content": marked, "special": False}
        tokenizer["added_tokens"].append(added)
        (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    output = folder / "longer.gguf"
    convert(source, output, dtype="f32", name="longer", scratch=folder / "scratch", threads=1)
    return output
