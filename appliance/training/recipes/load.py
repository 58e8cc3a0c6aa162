"""What a recipe asks of memory, in the few numbers that decide it. The planner turns them into bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`batch_size` sequences of `sequence_length` tokens at once. `adapter_rank` 0: every weight is trained."""

    batch_size: int
    accumulation: int
    sequence_length: int
    adapter_rank: int = 0
    targets: tuple[str, ...] = ()
    """names of the layers that get an adapter; empty means every linear layer of a block"""
    dropout: bool = True
    """whether an adapter's input is dropped out, which keeps a copy and a mask"""
    copies: int = 1
    """rows that one sequence becomes: a preference is a chosen and a rejected answer"""
    base_bits: int = 32
    """size of a frozen weight"""
    half_precision: bool = False
    """products in bfloat16"""
    gradient_checkpointing: bool = False
    packed: bool = False
    """whether attention needs a mask of its own"""
    may_checkpoint: bool = False
    """whether the recipe could ask for gradient checkpointing"""
    may_quantise: bool = False
    """whether the recipe could ask for a base in fewer bits"""
    keeps_best: bool = False
    """whether the best weights are kept beside the present ones"""
    ranks: int = 1
    """processes that share weights, moments and the rows of a batch"""
    boxes: int = 1
    """how many boxes these are on; each has its share of everything"""
    data: int = 0
    """bytes of the files of rows, which are held as tokens while they are learnt from"""
