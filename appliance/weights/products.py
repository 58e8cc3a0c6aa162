"""Float32 products of linear layers by oneDNN, on processors for which MKL has no code of its own.

torch's wheels multiply float32 matrices with MKL, and MKL takes its AVX2 code on every processor that is not Intel's;
oneDNN, in the same wheel, writes code for the vector units that are there. One product has the same bits whenever
shapes and number of threads are the same. Other number formats and devices go the way torch chooses.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

M = TypeVar("M", bound=nn.Module)
_INTEL: Final = "GenuineIntel"
_SHAPES_KEPT: Final = 32
"""Shapes for which code is kept: those of one step. Each takes a megabyte, and rows of all lengths make many shapes; of
1,024, as both caches would keep, a small model's job took a gigabyte more."""


class Linear(nn.Linear):
    """A linear layer that multiplies by `linear`."""

    def forward(self, given: Tensor) -> Tensor:
        """Return given @ weight.T + bias; any leading dimensions."""
        return linear(given, self.weight, self.bias)


def with_fast_products(model: M) -> M:
    """Let the linear layers of a model multiply by `linear`, in place; weights and their names stay as they are."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
    return model


def linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return given @ weight.T + bias (... x in, out x in, out -> ... x out), differentiable once."""
    if not (_is_useful() and _is_plain(given, weight)):
        return nn.functional.linear(given, weight, bias)
    result: Tensor = _Product.apply(given, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    """The product and both of its gradients; each is one call of oneDNN."""

    @staticmethod
    def forward(context: Any, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply; what a frozen weight or an input that nobody learns needs in the other direction is not kept."""
        of_given, of_weight, _of_bias = context.needs_input_grad
        context.save_for_backward(given if of_weight else None, weight if of_given else None)
        return _multiply(given, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of what was given, of the weight and of the bias, as far as they are wanted."""
        given, weight = context.saved_tensors
        of_given, of_weight, of_bias = context.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _multiply(gradient, weight.t()) if of_given else None,
            _multiply(rows.t(), given.flatten(0, -2).t()) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


def _multiply(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")
    return result


def _is_plain(given: Tensor, weight: Tensor) -> bool:
    """Whether these are matrices of float32 in this machine's memory, of which some product is wanted."""
    return (
        given.dtype == weight.dtype == torch.float32
        and given.device.type == weight.device.type == "cpu"
        and given.dim() >= 2
        and given.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _is_useful() -> bool:
    """Whether torch would multiply by an MKL that does not know this processor, and oneDNN is there."""
    _bound_caches()  # products in bfloat16 are oneDNN's on every processor
    backends = torch.backends
    has_both: bool = backends.mkl.is_available() and backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_both and _INTEL not in Path("/proc/cpuinfo").read_text() and _may_write_code()


def _bound_caches() -> None:
    """Bound the code that oneDNN keeps, before its first product: its own cache, and that of torch's binding."""
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(_SHAPES_KEPT))


def _may_write_code() -> bool:
    """Whether oneDNN may write code for this processor: a sandbox can forbid memory that is written and executed."""
    try:
        _multiply(torch.ones(64, 64), torch.ones(64, 64))
    except RuntimeError:
        return False
    return True
