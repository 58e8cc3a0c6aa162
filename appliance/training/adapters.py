"""Low-rank adapters (PEFT) on a base model: which layers get one, in which number format the base is held.

Invariant: an adapter never sits on a matrix that the model uses twice (tied embeddings), because a merge would change
the other use. The base may be held in fewer bits while its adapter learns; the merge is into the base as it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from appliance.kernel.errors import BadInput
from appliance.training.base_model import load_base
from appliance.training.recipes.dpo import DpoRecipe
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.runtime import derive_seed
from appliance.weights.products import with_fast_products


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """Rank, scale, dropout, and the names of the layers; no names means every linear layer but the output."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] = ()


def shape_of(recipe: LoraRecipe | DpoRecipe) -> AdapterShape:
    """Return the adapter that a recipe asks for."""
    return AdapterShape(rank=recipe.rank, alpha=recipe.alpha, dropout=recipe.dropout, targets=recipe.targets)


def adapt(base: Any, shape: AdapterShape, *, seed: int) -> Any:
    """Put adapters on a model. Raises BadInput (`training.targets`, `training.tied_embeddings`)."""
    from peft import LoraConfig, get_peft_model

    _check_targets(base, shape.targets)
    torch.manual_seed(derive_seed(seed, "adapter"))
    adapted = get_peft_model(
        base,
        LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,
            lora_dropout=shape.dropout,
            target_modules=list(shape.targets) or "all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    return with_fast_products(adapted)


def take_over(adapted: Any, folder: Path, shape: AdapterShape) -> Any:
    """Return the same adapter on the base as it was given, in float32: what a merge must start from.

    The base under `adapted` is given up.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    learnt = {name: weight.float() for name, weight in _learnt(get_peft_model_state_dict, adapted).items()}
    for weight in adapted.parameters():
        if not weight.requires_grad:  # nobody needs the held base again, and its place is needed
            weight.data = weight.data.new_empty(0)
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
