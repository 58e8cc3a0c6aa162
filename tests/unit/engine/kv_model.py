"""A unified KV cache in plain Python: what the context holds after what the books asked for."""

from __future__ import annotations

import pickle

from appliance.engine.block_store import Block
from appliance.engine.prefix_cache import PrefixCache
from appliance.engine.scheduler import Chunk


class UnifiedCells:
    """Each sequence is a list of cells; a cell is [space, token]; sharing is identity. Implements `Cells`."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.sequences: dict[int, list[list[object]]] = {}
        self.saves = 0
        self.refuses = False

    @property
    def used(self) -> int:
        return len({id(cell) for cells in self.sequences.values() for cell in cells})

    def share(self, source: int, target: int, length: int) -> None:
        assert not self.sequences.get(target)
        assert length <= len(self.sequences[source])
        self.sequences[target] = self.sequences[source][:length]

    def cut(self, sequence: int, length: int) -> None:
        del self.sequences.get(sequence, [])[length:]

    def save(self, sequence: int, start: int, end: int) -> bytes:
        self.saves += 1
        held = self.sequences[sequence][start:end]
        assert len(held) == end - start
        return pickle.dumps((start, held))

    def load(self, sequence: int, start: int, end: int, state: Block) -> bool:
        begin, held = pickle.loads(state)
        own = self.sequences.setdefault(sequence, [])
        assert len(own) == start
        assert self.used + len(held) <= self.cells
        if self.refuses:
            return False
        own += held[start - begin : end - begin]
        return True

    def decode(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            sequence = chunk.sequence
            held = self.sequences.setdefault(sequence.slot, [])
            assert held == [[sequence.space, token] for token in sequence.tokens[: chunk.start]]
            held += [[sequence.space, token] for token in chunk.tokens()]
        assert self.used <= self.cells


def check(cache: PrefixCache, cells: UnifiedCells) -> None:
    """The books agree with the cells, and an idle sequence alone holds the run at which it ends."""
    assert cache.used == cells.used
    assert 0 <= cache.evictable <= cache.used
    assert cache.free >= 0
    for sequence, resident in cache._residents.items():
        assert resident.length == len(cells.sequences.get(sequence, []))
        assert resident.busy or resident.node.holders == {sequence}
