"""Loads a Hugging Face folder strictly: from this disk alone, without running any code of the folder.

A tensor that is missing, left over or of another shape is a failure, never a random initialisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from appliance.kernel.errors import IntegrityFailure
from appliance.weights.products import with_fast_products

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A causal model in evaluation mode and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def context_length(self) -> int:
        """Positions the model was made for."""
        return int(self.model.config.max_position_embeddings)

    def end_tokens(self) -> frozenset[int]:
        """Return the tokens at which generation stops."""
        named = self.model.generation_config.eos_token_id
        found = set(named if isinstance(named, list) else [] if named is None else [named])
        if self.tokenizer.eos_token_id is not None:
            found.add(self.tokenizer.eos_token_id)
        return frozenset(found)


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load tokenizer and weights. Raises IntegrityFailure (`model.unreadable`)."""
    model, tokenizer = from_folder(AutoModelForCausalLM, folder, dtype=dtype)
    return LoadedModel(model=model, tokenizer=tokenizer)


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the number format of the weights' files; float32 where they have several."""
    found = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            found |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - no mapping
    return {("BF16",): torch.bfloat16, ("F16",): torch.float16}.get(tuple(found), torch.float32)


def from_folder(
    kind: Any, folder: Path, *, leftovers: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Return model (in evaluation mode) and tokenizer by a class of transformers' Auto kind.

    Weights whose files have another number format than `dtype` are converted in memory, the others are mapped.
    `leftovers`: whether the file may have tensors that the model does not use. Raises IntegrityFailure
    (`model.unreadable`).
    """
    transformers_logging.disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, loading = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise unreadable(f"{type(error).__name__}: {str(error)[:200]}") from error
    for problem in ("missing_keys", "mismatched_keys", *(() if leftovers else ("unexpected_keys",))):
        if loading[problem]:
            raise unreadable(f"{problem.replace('_', ' ')}: {sorted(map(str, loading[problem]))[:3]}")
    return with_fast_products(model.eval()), tokenizer


def unreadable(reason: str) -> IntegrityFailure:
    """Return the error for a folder whose parts do not fit together."""
    return IntegrityFailure(
        "model.unreadable",
        f"The model folder cannot be loaded: {reason}.",
        hint="It must be a Hugging Face folder of a causal model with safetensors weights; import it again.",
    )
