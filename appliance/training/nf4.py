"""Frozen linear layers in NF4 (Dettmers et al. 2023, QLoRA): four bits a weight, one scale for 64 of them.

Written in torch alone: deterministic, no package beside it, and a backward pass that computes the weights again
instead of keeping them. Only layers whose weights no longer learn are held so; biases stay as they are.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from appliance.weights.products import Linear, linear

BLOCK: Final = 64
"""Weights that share a scale."""

LEVELS: Final = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The sixteen values of normal float 4: quantiles of a normal distribution, with an exact zero (appendix E)."""


class Nf4Linear(nn.Linear):
    """A linear layer whose weight is held as packed levels and scales. Its own weights never learn."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        packed, scales = quantise(layer.weight.detach())
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scales", scales, persistent=False)
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, given: Tensor) -> Tensor:
        """Multiply as the layer did, with the nearest levels for weights."""
        shape = (self.out_features, self.in_features)
        result: Tensor = _Product.apply(given, self.weight, self.scales, shape)  # type: ignore[no-untyped-call]
        return result if self.bias is None else result + self.bias.to(result.dtype)


def hold_in_nf4(model: Any) -> None:
    """Replace every linear layer of a model but its output layer; what is replaced is given up at once."""
    output = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) in {nn.Linear, Linear} and layer is not output:
                setattr(parent, name, Nf4Linear(layer))


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the packed levels (uint8, two a byte, the first in the high half) and one float32 scale a block."""
    flat = weight.float().flatten()
    blocks = nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    shares = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
    levels = torch.tensor(LEVELS)
    nearest = torch.bucketize(shares.flatten(), (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
    return nearest[0::2] << 4 | nearest[1::2], scales


def restore(packed: Tensor, scales: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the float32 weights that packed levels stand for."""
    pairs = _PAIRS.index_select(0, packed.to(torch.int32))
    blocks = pairs.view(-1, BLOCK) * scales.unsqueeze(1)
    return blocks.flatten()[: shape[0] * shape[1]].view(shape)


_PAIRS: Final = torch.cartesian_prod(torch.tensor(LEVELS), torch.tensor(LEVELS))
"""Both levels of every byte."""


class _Product(torch.autograd.Function):
    """given @ weight.T; the weight is restored in either direction, and never kept."""

    @staticmethod
    def forward(context: Any, given: Tensor, packed: Tensor, scales: Tensor, shape: tuple[int, int]) -> Tensor:
        """Multiply in the number format of what is given."""
        context.save_for_backward(packed, scales)
        context.shape = shape
        return linear(given, restore(packed, scales, shape).to(given.dtype))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of what was given; the weight has none."""
        packed, scales = context.saved_tensors
        return linear(gradient, restore(packed, scales, context.shape).to(gradient.dtype).T), None, None, None
