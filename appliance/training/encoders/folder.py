"""How an encoder's folder is written: copied byte by byte where it did not change, and its head beside it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from appliance.kernel.errors import storage_errors
from appliance.training import export
from appliance.weights.families import describe
from appliance.weights.head import ARCHITECTURE, Head, HeadConfig, write_head

_BESIDE: Final = ("config.json", "model.safetensors.index.json", "README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
_WEIGHTS: Final = "model*.safetensors"


def copy_encoder(base: Path, output: Path) -> None:
    """Copy weights, configuration, tokenizer and licence of a base that stays as it is."""
    with storage_errors("writing the encoder"):
        for file in [*sorted(base.glob(_WEIGHTS)), *(base / name for name in _BESIDE)]:
            if file.exists():
                # Opened and read: the input is a link to a read-only file, and neither must be inherited.
                (output / file.name).write_bytes(file.read_bytes())
    export.copy_tokenizer(base, output)


def write_encoder(encoder: Any, base: Path, output: Path) -> None:
    """Write a changed encoder, with its base's tokenizer."""
    export.write_model(encoder, output)
    export.copy_tokenizer(base, output)


def write_classified(head: Head, output: Path) -> dict[str, Any]:
    """Write a head beside the encoder in `output`; return the description of the whole for the registry."""
    write_head(output, head)
    return describe_classifier(output, head.config)


def describe_classifier(output: Path, head: HeadConfig) -> dict[str, Any]:
    """Return what the registry wants to know of a classifier's folder."""
    return describe_folder(output) | {
        "context_length": head.max_length,
        "head": ARCHITECTURE,
        "labels": list(head.labels),
    }


def describe_folder(output: Path) -> dict[str, Any]:
    """Return what the registry wants to know of a model's folder, from its configuration and headers."""
    config = json.loads((output / "config.json").read_bytes())
    parameters: Counter[str] = Counter()
    for file in sorted(output.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safetensors' object is no dictionary
                part = tensors.get_slice(name)
                parameters[part.get_dtype()] += math.prod(part.get_shape())
    return describe(config, parameters=parameters.total(), dtype=parameters.most_common(1)[0][0])


def freeze_unused(encoder: Any) -> None:
    """Leave out of training what no text's vector depends on: the pooler of BERT's first training."""
    for name, weight in encoder.named_parameters():
        if name.startswith("pooler."):
            weight.requires_grad_(False)
