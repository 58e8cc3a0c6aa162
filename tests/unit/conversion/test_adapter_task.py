"""A LoRA adapter as GGUF: with the base at run time it gives what the merged model gives; the base alone does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from appliance.conversion.adapter_task import run
from appliance.conversion.adapter_writer import write_adapter
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, IntegrityFailure
from tests.factories.job_workspace import make_workspace
from tests.factories.tiny_llama import make_tiny_llama
from tests.unit.conversion.conftest import Converted

RANK, ALPHA = 4, 8.0
CONFIG = {"r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": False, "modules_to_save": None}


def adapt(base: Path, root: Path) -> tuple[Path, Path]:
    """Write an adapter with strong random updates, and the base with them merged in."""
    source = np.random.default_rng(5)
    weights = load_file(base / "model.safetensors")
    halves: dict[str, Any] = {}
    for name in [key for key in weights if "_proj.weight" in key]:
        rows, columns = weights[name].shape
        down = source.standard_normal((RANK, columns)).astype(np.float32)
        up = (0.05 * source.standard_normal((rows, RANK))).astype(np.float32)
        module = name.removesuffix(".weight")
        halves[f"base_model.model.{module}.lora_A.weight"] = down
        halves[f"base_model.model.{module}.lora_B.weight"] = up
        weights[name] = weights[name] + (ALPHA / RANK) * (up @ down)
    merged = Path(shutil.copytree(base, root / "merged"))
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    adapter = root / "adapter"
    adapter.mkdir()
    save_file(halves, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG))
    return adapter, merged


def convert(root: Path, model: Path, adapter: Path, base: Path) -> tuple[dict[str, Any], Path]:
    opened = make_workspace(
        root / "job",
        JobKind.CONVERT_ADAPTER,
        inputs={"model": model, "adapter": adapter, "base": base},
        parameters={"parity_tokens": 12},
    )
    try:
        return run(opened), opened.output
    finally:
        opened.close()


def test_the_adapter_at_run_time_is_the_merged_model(converted: Converted, tmp_path: Path) -> None:
    adapter, merged = adapt(converted.model, tmp_path)
    figures, output = convert(tmp_path, merged, adapter, converted.model)
    assert figures["tokens_equal"] + figures["tokens_tied"] == figures["tokens_total"] == 12 * figures["prompts"]
    assert figures["tokens_equal_without_adapter"] < figures["tokens_total"] / 2
    assert (figures["rank"], figures["alpha"], figures["matrices"]) == (RANK, ALPHA, 14)
    assert sorted(path.name for path in (output / "adapter").iterdir()) == ["adapter.gguf", "parity.json"]


@pytest.mark.parametrize(("family", "architecture"), [("mistral", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")])
def test_adapters_of_other_families_are_theirs(tmp_path: Path, family: str, architecture: str) -> None:
    base = make_tiny_llama(tmp_path / "base", family=family)
    adapter, merged = adapt(base, tmp_path)
    figures, output = convert(tmp_path, merged, adapter, base)
    assert figures["tokens_equal"] + figures["tokens_tied"] == figures["tokens_total"]
    assert figures["tokens_equal_without_adapter"] < figures["tokens_total"] / 2
    reader = gguf.GGUFReader(output / "adapter" / "adapter.gguf")
    assert reader.fields["general.architecture"].contents() == architecture


def test_another_models_adapter_is_caught(converted: Converted, tmp_path: Path) -> None:
    adapter, _ = adapt(converted.model, tmp_path)
    with pytest.raises(IntegrityFailure, match=r"conversion\.parity"):
        convert(tmp_path, converted.model, adapter, converted.model)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    ],
)
def test_what_a_gguf_adapter_cannot_say_is_refused(
    converted: Converted, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    adapter, _ = adapt(converted.model, tmp_path)
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(BadInput, match=r"conversion\.adapter") as refusal:
        write_adapter(adapter, converted.model, tmp_path / "adapter.gguf")
    assert named in refusal.value.message


def test_half_a_pair_and_a_foreign_matrix_are_refused(converted: Converted, tmp_path: Path) -> None:
    adapter, _ = adapt(converted.model, tmp_path)
    file = adapter / "adapter_model.safetensors"
    halves = load_file(file)
    first = sorted(halves)[0]
    save_file({name: one for name, one in halves.items() if name != first}, file)
    with pytest.raises(BadInput, match="only one of its two halves"):
        write_adapter(adapter, converted.model, tmp_path / "a.gguf")
    save_file({name.replace("q_proj", "z_proj"): one for name, one in halves.items()}, file)
    with pytest.raises(BadInput, match="no matrix of the architecture"):
        write_adapter(adapter, converted.model, tmp_path / "b.gguf")
