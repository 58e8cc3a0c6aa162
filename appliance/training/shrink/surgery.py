"""Takes parts out of a model's tensors and makes its configuration agree, so that stock transformers loads the rest.

A pure function of tensors, configuration and cut: nothing is zeroed or masked, what leaves is gone from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from appliance.kernel.canonical import canonical_json
from appliance.kernel.errors import BadInput, storage_errors
from appliance.training import export
from appliance.training.shrink.layout import Layout
from appliance.weights import head

_WEIGHTS: Final = "model*.safetensors"
_PER_LAYER: Final = ("layer_types",)
"""Lists of a configuration with one entry for each layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What stays. `channels` and `groups` have the numbers that stay in each layer that stays; empty: all of them."""

    layers: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """How attention is divided: query heads, key-value groups, width of a head."""

    heads: int
    groups: int
    width: int

    @property
    def each(self) -> int:
        """Query heads of one group."""
        return self.heads // self.groups


def head_shape(config: Mapping[str, Any]) -> HeadShape:
    """Read how a configuration divides attention."""
    heads = int(config["num_attention_heads"])
    return HeadShape(
        heads=heads,
        groups=int(config.get("num_key_value_heads") or heads),
        width=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
    )


def cut_tensors(tensors: Mapping[str, Tensor], layout: Layout, cut: Cut, shape: HeadShape) -> dict[str, Tensor]:
    """Return the tensors that stay, layers renumbered from 0."""
    new_number = {old: new for new, old in enumerate(cut.layers)}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = layout.place(name)
        if place is None:
            found[name] = tensor
            continue
        layer, module, kind = place
        if layer not in new_number:
            continue
        number = new_number[layer]
        found[layout.renumbered(name, number)] = _cut(tensor, module, kind, number, layout, cut, shape).contiguous()
    return found


def cut_config(config: Mapping[str, Any], cut: Cut, shape: HeadShape) -> dict[str, Any]:
    """Return the configuration of what stays."""
    changed = dict(config)
    changed["num_hidden_layers"] = len(cut.layers)
    for name in _PER_LAYER:
        if isinstance(changed.get(name), list):
            changed[name] = [changed[name][layer] for layer in cut.layers]
    if isinstance(changed.get("max_window_layers"), int):
        changed["max_window_layers"] = min(changed["max_window_layers"], len(cut.layers))
    if cut.channels:
        changed["intermediate_size"] = len(cut.channels[0])
    if cut.groups:
        kept = len(cut.groups[0])
        changed |= {
            "num_attention_heads": kept * shape.each,
            "num_key_value_heads": kept,
            "head_dim": shape.width,
        }
    return changed


def write_cut(base: Path, output: Path, layout: Layout, cut: Cut) -> dict[str, Any]:
    """Write the folder of what stays of `base`, its head included. Returns the new configuration.

    Raises BadInput `training.no_such_layer`.
    """
    tensors: dict[str, Tensor] = {}
    for file in sorted(base.glob(_WEIGHTS)):
        tensors |= load_file(file)
    count = layout.layers(tensors)
    beyond = [layer for layer in cut.layers if layer >= count]
    if beyond:
        raise BadInput(
            "training.no_such_layer",
            f"The model has {count} layers, 0 to {count - 1}; there is no layer {beyond[0]}.",
            hint="Correct keep_layers.",
        )
    config: dict[str, Any] = msgspec.json.decode((base / "config.json").read_bytes())
    shape = head_shape(config)
    changed = cut_config(config, cut, shape)
    with storage_errors("writing the pruned model"):
        save_file(cut_tensors(tensors, layout, cut, shape), output / "model.safetensors", metadata={"format": "pt"})
        (output / "config.json").write_bytes(msgspec.json.format(canonical_json(changed)) + b"\n")
        for name in (head.CONFIG, head.TENSORS, "README.md", "LICENSE", "LICENSE.txt", "LICENSE.md"):
            if (base / name).exists():
                (output / name).write_bytes((base / name).read_bytes())
    export.copy_tokenizer(base, output)
    return changed


def _cut(tensor: Tensor, module: str, kind: str, layer: int, layout: Layout, cut: Cut, shape: HeadShape) -> Tensor:
    if cut.channels and module in layout.rises:
        return tensor[list(cut.channels[layer])]
    if cut.channels and module == layout.falls and kind == "weight":
        return tensor[:, list(cut.channels[layer])]
    if cut.groups and module in layout.keys:
        return tensor[_rows(cut.groups[layer], shape.width)]
    if cut.groups and module in layout.queries:
        return tensor[_rows(cut.groups[layer], shape.width * shape.each)]
    if cut.groups and module == layout.joins and kind == "weight":
        return tensor[:, _rows(cut.groups[layer], shape.width * shape.each)]
    return tensor


def _rows(groups: tuple[int, ...], width: int) -> Tensor:
    return torch.cat([torch.arange(group * width, (group + 1) * width) for group in groups])
