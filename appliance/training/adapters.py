"""Low-rank adapters (PEFT) on a base model: which layers get one, in which number format the base is held.

Invariant: an adapter never sits on a matrix that the model uses twice (tied embeddings), because a merge would change
the other use. The base may be held in fewer bits while its adapter learns; the merge is into the base as it was given.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from appliance.kernel.errors import BadInput
from appliance.training.base_model import load_base
from appliance.training.runtime import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """Rank, scale, dropout, and the names of the layers; no names means every linear layer but the output."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] = ()


def adapt(base: Any, shape: AdapterShape, *, seed: int) -> Any:
    """Put adapters on a model. Raises BadInput (`training.targets`, `training.tied_embeddings`)."""
    from peft import LoraConfig, get_peft_model

    _check_targets(base, shape.targets)
    torch.manual_seed(derive_seed(seed, "adapter"))
    return get_peft_model(
        base,
        LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,
            lora_dropout=shape.dropout,
            target_modules=list(shape.targets) or "all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def hold_in_half(base: Any) -> None:
    """Hold the frozen weights of a base model in bfloat16."""
    base.to(torch.bfloat16)


def hold_in_nf4(base: Any) -> None:
    """Hold the linear layers of the blocks in NF4 (Dettmers et al. 2023). Raises BadInput without bitsandbytes."""
    require_bitsandbytes()
    import bitsandbytes

    output = base.get_output_embeddings()
    for parent in list(base.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not output:
                setattr(parent, name, _in_nf4(bitsandbytes, layer))


def require_bitsandbytes() -> None:
    """Raise BadInput (`training.qlora_missing`) where NF4 cannot be had. Loads nothing."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "training.qlora_missing",
            "base_precision nf4 needs the package bitsandbytes, which is not installed here.",
            hint="Use base_precision bfloat16, or have the extra qlora put on this appliance's medium.",
        )


def take_over(adapted: Any, folder: Path, shape: AdapterShape) -> Any:
    """Return the same adapter on the base as it was given, in float32: what a merge must start from."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    learnt = {name: weight.float() for name, weight in _learnt(get_peft_model_state_dict, adapted).items()}
    exact = adapt(load_base(folder).model, shape, seed=0)
    set_peft_model_state_dict(exact, learnt)
    return exact


def _learnt(state_dict_of: Any, adapted: Any) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = state_dict_of(adapted, save_embedding_layers=False)
    return found


def _check_targets(base: Any, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    known = {name.rpartition(".")[2] for name, layer in base.named_modules() if isinstance(layer, nn.Linear)}
    known |= {name.rpartition(".")[2] for name, layer in base.named_modules() if isinstance(layer, nn.Embedding)}
    if unknown := sorted(set(targets) - known):
        raise BadInput(
            "training.targets",
            f"The base model has no layer {', '.join(unknown)}.",
            hint=f"It has {', '.join(sorted(known))}.",
        )
    if not getattr(base.config, "tie_word_embeddings", False):
        return
    tied = (base.get_input_embeddings(), base.get_output_embeddings())
    named = {name.rpartition(".")[2] for name, layer in base.named_modules() if any(layer is one for one in tied)}
    if shared := sorted(named & set(targets)):
        raise BadInput(
            "training.tied_embeddings",
            f"{', '.join(shared)} is one matrix for input and output in this model; an adapter would change both.",
            hint="Leave it out of targets, or train every weight with `train full`.",
        )


def _in_nf4(bitsandbytes: Any, layer: nn.Linear) -> nn.Module:
    held: nn.Module = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=torch.float32,
        quant_type="nf4",
    )
    held.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    if layer.bias is not None:
        held.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return held.to("cpu")
