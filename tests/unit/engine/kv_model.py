"""A unified KV cache in plain Python: what the context would hold after the moves and batches."""

from __future__ import annotations

from appliance.engine.prefix_cache import Copy, Drop, Move, PrefixCache
from appliance.engine.scheduler import Chunk


class UnifiedCells:
    """Each sequence is a list of cells; a cell is [tenant, token]; sharing is identity."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.sequences: dict[int, list[list[object]]] = {}

    @property
    def used(self) -> int:
        return len({id(cell) for cells in self.sequences.values() for cell in cells})

    def move(self, moves: list[Move]) -> None:
        for move in moves:
            match move:
                case Drop(sequence):
                    self.sequences.pop(sequence, None)
                case Copy(source, target, length):
                    assert target not in self.sequences
                    assert length <= len(self.sequences[source])
                    self.sequences[target] = self.sequences[source][:length]

    def decode(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            sequence = chunk.sequence
            held = self.sequences.setdefault(sequence.slot, [])
            assert held == [[sequence.tenant, token] for token in sequence.tokens[: chunk.start]]
            held += [[sequence.tenant, token] for token in sequence.tokens[chunk.start : chunk.start + chunk.count]]
        assert self.used <= self.cells


def check(cache: PrefixCache, cells: UnifiedCells) -> None:
    """The books agree with the cells, and no cell is seen by two tenants."""
    assert cache.used == cells.used
    assert 0 <= cache.evictable <= cache.used
    assert cache.free >= 0
