"""The whole conversion job on the tiny model, and what it leaves behind when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from appliance.catalog.model_folder import inspect_model
from appliance.conversion.convert_task import run
from appliance.jobs.spec import JobKind
from appliance.kernel.errors import BadInput, IntegrityFailure, IntramurosError
from appliance.weights import normaliser
from tests.factories.job_workspace import make_workspace
from tests.factories.tiny_llama import CHAT_TEMPLATE, CONTEXT, VOCABULARY, make_tiny_llama
from tests.unit.conversion.conftest import Converted


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def fail(directory: Path, model: Path, parameters: dict[str, Any]) -> tuple[IntramurosError, list[str]]:
    """Run a job that must fail; return its error and what it left in out/."""
    workspace = make_workspace(directory, JobKind.CONVERT_GGUF, inputs={"model": model}, parameters=parameters)
    with pytest.raises(IntramurosError) as failure:
        run(workspace)
    workspace.close()
    return failure.value, [path.name for path in workspace.output.iterdir()]


def test_the_summary_has_the_figures_and_describes_the_file_as_an_import_would(converted: Converted) -> None:
    summary = dict(converted.summary)
    parity, size = summary.pop("parity"), summary.pop("gguf_bytes")
    file = converted.output / "model.gguf"
    described = msgspec.to_builtins(inspect_model(file).description)
    assert summary == {name: described[name] for name in summary}
    assert summary.keys() >= {"layers", "hidden", "heads", "kv_heads", "key_width", "feed_forward"}  # what memory needs
    assert (summary["parameters"], summary["context_length"], summary["vocabulary"]) == (123_200, CONTEXT, VOCABULARY)
    assert (summary["quantisation"], size) == ("F32", file.stat().st_size)
    assert parity["passed"] is True
    assert parity["prompts"] == 8 + 4 + 4
    assert parity["tokens_equal"] + parity["tokens_tied"] == parity["tokens_total"] == 16 * parity["prompts"]
    assert parity["strings_equal"] == parity["strings"] >= 500


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "llama2"])
def test_other_families_say_the_same_too(tmp_path: Path, family: str) -> None:
    workspace = make_workspace(
        tmp_path / "job",
        JobKind.CONVERT_GGUF,
        inputs={"model": make_tiny_llama(tmp_path / "hf", family=family)},
        parameters={"parity_tokens": 16},
    )
    parity = run(workspace)["parity"]
    workspace.close()
    assert parity["passed"] is True
    assert parity["strings_equal"] == parity["strings"]
    found = metadata(workspace.output / "model.gguf")
    assert found["general.architecture"] == {"mistral": "llama", "llama2": "llama"}.get(family, family)
    assert found["tokenizer.ggml.model"] == ("llama" if family == "llama2" else "gpt2")
    assert found.get(normaliser.PREFIX) == ("first" if family == "llama2" else None)
    assert found.get(normaliser.COMPOSITION) == (normaliser.NFC if family.startswith("qwen") else None)


def test_out_holds_the_file_and_the_proof(converted: Converted) -> None:
    assert sorted(path.name for path in converted.output.iterdir()) == ["model.gguf", "parity.json"]
    assert json.loads((converted.output / "parity.json").read_text()) == converted.summary["parity"]


def test_everything_about_the_tokenizer_is_written_explicitly(converted: Converted) -> None:
    found = metadata(converted.output / "model.gguf")
    assert found["general.name"] == "tiny"
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    assert found["tokenizer.chat_template"] == CHAT_TEMPLATE
    end, padding = VOCABULARY - 1, VOCABULARY - 4
    assert found["tokenizer.ggml.eos_token_id"] == found["tokenizer.ggml.eot_token_id"] == end
    assert found["tokenizer.ggml.bos_token_id"] == end
    assert found["tokenizer.ggml.padding_token_id"] == padding
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.ggml.add_eos_token"] is False


def test_progress_is_reported_and_no_text_of_anyone(converted: Converted) -> None:
    assert '"phase":"converting"' in converted.events
    assert '"fraction":1.0' in converted.events
    assert "Which port" not in converted.events


def test_unknown_parameters_are_refused_before_anything_runs(converted: Converted, tmp_path: Path) -> None:
    error, left = fail(tmp_path / "job", converted.model, {"dtpye": "f16"})
    assert isinstance(error, BadInput)
    assert error.code == "conversion.parameters"
    assert left == []


def test_a_ruined_model_converts_but_leaves_no_file(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "hf")
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"][3, 3] = np.inf
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    error, left = fail(tmp_path / "job", model, {"parity_tokens": 2})
    assert isinstance(error, IntegrityFailure)
    assert error.code == "conversion.not_finite"
    assert left == []
