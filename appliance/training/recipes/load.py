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
    copies: int = 1
    """rows that one sequence becomes: a preference is a chosen and a rejected answer"""
