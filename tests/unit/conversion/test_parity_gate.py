"""Both real engines on the tiny model: equal as converted, and different as soon as one of the two is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from appliance.conversion.parity import require_parity
from appliance.conversion.parity_gate import Findings, compare_engines
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.unit.conversion.conftest import Converted


def compare(folder: Path, converted: Converted) -> Findings:
    gguf = converted.output / "model.gguf"
    return compare_engines(folder, gguf, questions=[], tokens=12, threads=1, on_step=lambda done, of: None)


@pytest.fixture
def copy(converted: Converted, tmp_path: Path) -> Path:
    """The model that was converted, free to be changed."""
    return Path(shutil.copytree(converted.model, tmp_path / "copy"))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_converted_model_is_equal_and_prompts_differ_among_themselves(converted: Converted) -> None:
    found = compare(converted.model, converted)
    require_parity("f32", found.tokens, found.texts)
    assert found.tokens.equal == found.tokens.total == 12 * 12
    assert found.tokens.logprob_gap < 1e-4
    assert found.texts.equal == found.texts.total >= 500


def test_one_changed_weight_is_refused(converted: Converted, copy: Path) -> None:
    def one_weight(weights: dict[str, Any]) -> None:
        weights["model.layers.1.mlp.down_proj.weight"][7, 5] += 8.0

    change_weights(copy, one_weight)
    found = compare(copy, converted)
    assert found.tokens.equal < found.tokens.total
    with pytest.raises(IntegrityFailure, match=r"conversion\.parity.* step \d+: transformers gives token"):
        require_parity("f32", found.tokens, found.texts)


def test_a_change_too_small_for_any_token_is_refused_by_its_likelihood(converted: Converted, copy: Path) -> None:
    def one_weight(weights: dict[str, Any]) -> None:
        weights["model.layers.1.mlp.down_proj.weight"][7, 5] += 0.02

    change_weights(copy, one_weight)
    found = compare(copy, converted)
    assert found.tokens.equal == found.tokens.total
    with pytest.raises(IntegrityFailure, match="no greedy token differs"):
        require_parity("f32", found.tokens, found.texts)


def test_query_rows_in_another_rotary_order_are_refused(converted: Converted, copy: Path) -> None:
    def forget_to_permute(weights: dict[str, Any]) -> None:
        name = "model.layers.0.self_attn.q_proj.weight"
        rows = weights[name]
        weights[name] = np.ascontiguousarray(rows.reshape(4, 2, 8, -1).swapaxes(1, 2).reshape(rows.shape))

    change_weights(copy, forget_to_permute)
    found = compare(copy, converted)
    with pytest.raises(IntegrityFailure, match=r"conversion\.parity"):
        require_parity("f32", found.tokens, found.texts)


def test_another_tokenizer_is_refused(converted: Converted, copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-5]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = compare(copy, converted)
    with pytest.raises(IntegrityFailure, match=r"strings differ; (string|prompt) .*: transformers gives"):
        require_parity("f32", found.tokens, found.texts)


def test_another_chat_template_is_refused(converted: Converted, copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}")
    with pytest.raises(IntegrityFailure, match="chat template"):
        compare(copy, converted)


def test_an_end_token_that_llama_does_not_know_is_refused(converted: Converted, copy: Path) -> None:
    change_json(copy / "generation_config.json", eos_token_id=[383, 40])
    with pytest.raises(IntegrityFailure, match=r"end tokens \[40\]"):
        compare(copy, converted)


def test_logits_that_are_no_numbers_are_refused(converted: Converted, copy: Path) -> None:
    change_weights(copy, lambda weights: weights["model.norm.weight"].fill(np.nan))
    with pytest.raises(IntegrityFailure, match=r"conversion\.not_finite"):
        compare(copy, converted)


def test_a_missing_tensor_is_no_random_tensor(converted: Converted, copy: Path) -> None:
    change_weights(copy, lambda weights: weights.__delitem__("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(IntegrityFailure, match="missing keys"):
        compare(copy, converted)


def test_a_failing_template_is_the_models_fault(converted: Converted, copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(BadInput, match=r"conversion\.chat_template"):
        compare(copy, converted)


def test_a_file_that_is_no_gguf_is_refused(converted: Converted, tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes((converted.output / "model.gguf").read_bytes()[:2000])
    with pytest.raises(IntegrityFailure, match=r"conversion\.gguf_unreadable"):
        compare_engines(converted.model, broken, questions=[], tokens=1, threads=1, on_step=lambda done, of: None)


def test_a_step_may_stop_the_comparison(converted: Converted) -> None:
    def stop(done: int, of: int) -> None:
        raise InterruptedError(f"{done} of {of}")

    with pytest.raises(InterruptedError, match=r"^1 of 24$"):
        compare_engines(
            converted.model, converted.output / "model.gguf", questions=[], tokens=1, threads=1, on_step=stop
        )
