"""Tensors that are spread over ranks, and what each rank may do with its own piece.

A tensor that is not spread is returned as it is, so the training loop is the same on one process and on many.
"""

from __future__ import annotations

from torch import Tensor


def own_piece(tensor: Tensor) -> Tensor:
    """Return this rank's piece of a spread tensor, sharing its memory."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def whole(tensor: Tensor) -> Tensor:
    """Return a spread tensor put together from all ranks; every rank must ask for it."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()
