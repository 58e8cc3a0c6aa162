"""What each part of a model does to the rows it is shown, so that the parts which do least can leave.

A layer counts by how much it turns what goes through it (one minus the cosine: Men et al. 2024); a channel or a
key-value group by the size of what it carries times the size of the weights that read it (Sun et al. 2023). Rows are
shown one at a time, so no padding is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from appliance.training.shrink.layout import Layout
from appliance.training.shrink.surgery import HeadShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """One number for each layer; for each layer one for each channel and each key-value group."""

    layers: tuple[float, ...]
    channels: tuple[Tensor, ...]
    groups: tuple[Tensor, ...]


class _Watch:
    """Sums over all positions of all rows."""

    def __init__(self) -> None:
        self.turned: dict[int, float] = {}
        self.carried: dict[tuple[int, str], Tensor] = {}
        self.positions = 0

    def layer(self, number: int) -> Callable[..., None]:
        def after(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], outcome: Any) -> None:
            before = given[0] if given else named["hidden_states"]
            behind = outcome[0] if isinstance(outcome, tuple) else outcome
            turned = 1 - nn.functional.cosine_similarity(before.double(), behind.double(), dim=-1)
            self.turned[number] = self.turned.get(number, 0.0) + float(turned.sum())

        return after

    def inputs(self, number: int, name: str) -> Callable[..., None]:
        def before(_module: nn.Module, given: tuple[Any, ...]) -> None:
            size = given[0].double().abs().flatten(0, -2).sum(0)
            key = (number, name)
            self.carried[key] = self.carried[key] + size if key in self.carried else size

        return before


def importance_by_rows(
    model: Any,
    layout: Layout,
    shape: HeadShape,
    rows: Sequence[Sequence[int]],
    *,
    between: Callable[[int], None] = lambda _done: None,
) -> Importance:
    """Show rows (token ids) to a loaded model. `between` is called after each row, and may raise to stop."""
    layers = _layers(model, layout)
    watch = _Watch()
    handles: list[Any] = []
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_hook(watch.layer(number), with_kwargs=True))
        for name in filter(None, (layout.falls, layout.joins)):
            handles.append(layer.get_submodule(name).register_forward_pre_hook(watch.inputs(number, name)))
    try:
        for done, row in enumerate(rows, start=1):
            with torch.inference_mode():
                model(input_ids=torch.tensor([list(row)]))
            watch.positions += len(row)
            between(done)
    finally:
        for handle in handles:
            handle.remove()

    def carried(number: int, name: str) -> Tensor:
        weight: Tensor = layers[number].get_submodule(name).weight.detach().double()
        mean: Tensor = watch.carried[(number, name)] / watch.positions
        size: Tensor = weight.norm(dim=0)
        return mean * size

    return Importance(
        layers=tuple(watch.turned[number] / watch.positions for number in range(len(layers))),
        channels=tuple(carried(number, layout.falls) for number in range(len(layers))),
        groups=tuple(_by_group(carried(number, layout.joins), shape) for number in range(len(layers)))
        if layout.joins
        else (),
    )


def importance_by_weights(model: Any, layout: Layout, shape: HeadShape) -> Importance:
    """Judge by the weights alone: a channel by the product of the sizes of what writes and of what reads it."""
    layers = _layers(model, layout)

    def size(layer: Any, writes: Sequence[str], reads: str) -> Tensor:
        found: Tensor = layer.get_submodule(reads).weight.detach().double().norm(dim=0)
        for name in writes:
            found = found * layer.get_submodule(name).weight.detach().double().norm(dim=1)
        return found

    def group(layer: Any) -> Tensor:
        # Only the values reach the output; queries and keys decide from where.
        read = _by_group(layer.get_submodule(layout.joins).weight.detach().double().norm(dim=0), shape)
        written: Tensor = layer.get_submodule(layout.keys[-1]).weight.detach().double().norm(dim=1)
        return read * written.view(shape.groups, -1).sum(1)

    return Importance(
        layers=(),
        channels=tuple(size(layer, layout.rises, layout.falls) for layer in layers),
        groups=tuple(group(layer) for layer in layers) if layout.joins else (),
    )


def most_important(scores: Tensor, count: int) -> tuple[int, ...]:
    """Return the places of the `count` highest scores in order; of equal ones the first."""
    order = sorted(range(len(scores)), key=lambda place: (-float(scores[place]), place))
    return tuple(sorted(order[:count]))


def _by_group(columns: Tensor, shape: HeadShape) -> Tensor:
    return columns.view(shape.groups, shape.each * shape.width).sum(1)


def _layers(model: Any, layout: Layout) -> list[Any]:
    found: dict[int, Any] = {}
    for name, module in model.named_modules():
        place = layout.layer.fullmatch(f"{name}.")
        if place is not None:
            found[int(place[1])] = module
    return [found[number] for number in sorted(found)]
