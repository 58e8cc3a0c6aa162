from __future__ import annotations

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.adapters import AdapterShape, adapt
from tests.unit.training.random_llama import random_llama

# Of peft and torch, seen by whoever imports them first.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def shape(*targets: str) -> AdapterShape:
    return AdapterShape(rank=2, alpha=4.0, dropout=0.0, targets=targets)


def adapted_layers(*targets: str, tied: bool = False) -> set[str]:
    model = adapt(random_llama(tied=tied), shape(*targets), seed=1)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return {name.split(".lora_")[0].rpartition(".")[2] for name in names}


def test_no_targets_mean_every_linear_layer_but_the_output() -> None:
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted_layers() == adapted_layers(tied=True) == layers


def test_named_layers_alone_get_an_adapter() -> None:
    assert adapted_layers("q_proj", "v_proj") == {"q_proj", "v_proj"}
    assert adapted_layers("lm_head", "embed_tokens") == {"lm_head", "embed_tokens"}


def test_unknown_layers_are_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="c_attn") as refused:
        adapt(random_llama(), shape("q_proj", "c_attn"), seed=1)
    assert refused.value.code == "training.targets"
    assert "q_proj" in refused.value.hint


@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
def test_an_adapter_on_a_matrix_with_two_uses_is_refused(layer: str) -> None:
    with pytest.raises(BadInput, match=layer) as refused:
        adapt(random_llama(tied=True), shape("q_proj", layer), seed=1)
    assert refused.value.code == "training.tied_embeddings"


def test_the_seed_decides_the_adapter() -> None:
    first, second = (
        [weight.detach().tolist() for weight in adapt(random_llama(), shape(), seed=seed).parameters()]
        for seed in (1, 1)
    )
    assert first == second
