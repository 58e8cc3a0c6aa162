"""Which architectures encode, and what a configuration says of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput
from appliance.weights.families import describe, family_of_folder, require_encoder


def test_what_generates_is_refused_by_name() -> None:
    assert require_encoder("roberta").offset == 2
    with pytest.raises(BadInput, match="'llama'") as refused:
        require_encoder("llama")
    assert refused.value.code == "model.no_encoder"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": 3}', "{"])
def test_a_folder_that_names_no_architecture_has_none(tmp_path: Path, text: str) -> None:
    assert family_of_folder(tmp_path) == ""
    (tmp_path / "config.json").write_text(text)
    assert family_of_folder(tmp_path) == ""


def test_a_description_has_the_sizes() -> None:
    config = {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
    found = describe(config, parameters=22, dtype="F32")
    assert (found["architecture"], found["hidden"], found["layers"], found["kv_heads"]) == ("bert", 384, 6, 12)
    assert found["quantisation"] == "F32"
