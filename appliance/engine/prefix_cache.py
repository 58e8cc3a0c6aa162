"""Which KV cells hold which tokens: a radix tree over token ids, one per space.

Owns the books of a unified KV cache: sequence ids, shared prefixes, what stays when a request ends. It moves no cell
itself; `Cells` does. A *space* is who may share: one tenant, or the tenants of one share group. Invariants: no cell is
ever shared by two spaces; `used` equals the cells that are really occupied; an idle sequence is the only one that holds
the leaf at which it ends.

Words: a *busy* sequence belongs to a running request, an *idle* one stays for later prompts. A run of tokens is
*proven* once a second prompt has found it, *private* before. As in a segmented LRU (Karedla et al. 1994), private runs
go first and proven ones only when nothing else is left; both go least recently used first and from their end, as in
RadixAttention (SGLang, 2024). What goes may move to a second tier, see `block_store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as TokenIds
from dataclasses import dataclass, field
from typing import Final, Protocol

from appliance.engine.block_store import BLOCK, Block, BlockStore

SHARE_FROM: Final = 16
"""Shorter common prefixes are recomputed: walking the cells costs more than they do."""


class Cells(Protocol):
    """A unified KV cache. Positions count the tokens of a sequence from 0; sharing cells moves no data."""

    def share(self, source: int, target: int, length: int) -> None:
        """Let `target`, which is empty, hold the first `length` cells of `source` too."""

    def cut(self, sequence: int, length: int) -> None:
        """Forget what the sequence holds from position `length` on."""

    def save(self, sequence: int, start: int, end: int) -> Block:
        """The content of the cells at the positions `start` to `end`."""

    def load(self, sequence: int, start: int, end: int, state: Block) -> bool:
        """Append the positions `start` to `end` of what was saved; False when it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Cells that idle sequences may hold beside running ones: private runs, and proven ones with those that the second
    tier keeps for sure.

    Attention walks over every resident cell for every stream: 1000 idle cells made a step of one stream 1.8 times as
    long, 4000 took a quarter of the tokens of 16 streams (0.1 billion parameters, two threads). Loading 1000 from the
    second tier takes 7 ms, computing them a hundred times that.
    """

    private: int
    proven: int


@dataclass(slots=True, eq=False)
class _Node:
    """A run of tokens below a prefix. `holders` are the sequences that pass through or end here."""

    tokens: list[int]
    parent: _Node | None
    children: list[_Node] = field(default_factory=list)
    holders: set[int] = field(default_factory=set)
    busy: int = 0
    proven: bool = False
    used: int = 0


@dataclass(slots=True, eq=False)
class _Resident:
    """Where one sequence ends in the tree of its space."""

    space: str
    node: _Node
    length: int
    busy: bool


class PrefixCache:
    """Cells, sequence ids and prefixes of one context."""

    def __init__(
        self,
        *,
        cells: int,
        sequences: int,
        memory: Cells,
        bounds: Bounds | None = None,
        store: BlockStore | None = None,
        sharing: bool = True,
    ) -> None:
        """Without `sharing` (recurrent models) nothing is kept. Without bounds idle sequences may hold all cells."""
        self.cells = cells
        self.sharing = sharing
        self.used = 0
        self.evicted = 0
        self.restored = 0
        self._memory = memory
        self._bounds = bounds or Bounds(private=cells, proven=cells)
        self._store = store if sharing else None
        self._held_by_busy = 0
        self._unused = list(range(sequences - 1, -1, -1))
        self._residents: dict[int, _Resident] = {}
        self._roots: dict[str, _Node] = {}
        self._clock = 0

    @property
    def free(self) -> int:
        """Cells that hold nothing."""
        return self.cells - self.used

    @property
    def evictable(self) -> int:
        """Cells held by idle sequences alone."""
        return self.used - self._held_by_busy

    @property
    def stored_bytes(self) -> int:
        """What the second tier holds in memory."""
        return self._store.held if self._store else 0

    @property
    def stored_on_disk(self) -> int:
        """What the second tier holds on disk."""
        return self._store.held_on_disk if self._store else 0

    @property
    def lost_blocks(self) -> int:
        """See `BlockStore.lost`."""
        return self._store.lost if self._store else 0

    def match(self, space: str, tokens: TokenIds[int]) -> tuple[int, int]:
        """How many leading tokens could be reused now, and how many of those are held by idle sequences alone.

        At least the last token is always computed anew, for its logits.
        """
        node, within, length = self._find(space, tokens)
        above = [within if other is node else len(other.tokens) for other in _path(node) if not other.busy]
        return length, sum(above)

    def open(self, space: str, tokens: TokenIds[int], *, again: bool = False) -> tuple[int, int] | None:
        """Start a busy sequence for `tokens`: (sequence id, tokens that need not be computed); None: no id is left.

        A request that comes back (`again`) proves nothing by finding its own cells.
        """
        node, within, length = self._find(space, tokens)
        sequence = self._take_over(node, within) if length else None
        if sequence is None:
            if not self._unused:
                spare = min(node.holders, default=None) if length else None
                if not (self._forget_one(spare=spare) or self._forget_one(spare=None)):
                    return None
                node, within, length = self._find(space, tokens)
            sequence = self._fork(space, node, within, length)
        self._set_busy(sequence, True)
        self._restore(sequence, tokens, proven=not again)
        resident = self._residents[sequence]
        self._touch(resident.node, proven=not again)
        return sequence, resident.length

    def extend(self, sequence: int, tokens: TokenIds[int]) -> None:
        """Record that `tokens` were computed at the end of a busy sequence."""
        resident = self._residents[sequence]
        node = resident.node
        if node.parent is None or node.proven or len(node.holders) > 1:
            node = _Node([], node, holders={sequence}, busy=1, used=self._clock)
            resident.node.children.append(node)
            resident.node = node
        node.tokens.extend(tokens)
        resident.length += len(tokens)
        self.used += len(tokens)
        self._held_by_busy += len(tokens)

    def retract(self, sequence: int) -> None:
        """Forget cells of a busy sequence that were computed and never recorded."""
        self._memory.cut(sequence, self._residents[sequence].length)

    def close(self, sequence: int) -> None:
        """The request ended: keep its cells until they are needed, or are too many beside the next request."""
        resident = self._residents[sequence]
        self._set_busy(sequence, False)
        self._touch(resident.node, proven=False)
        if not self.sharing or resident.length < SHARE_FROM or len(resident.node.holders) > 1:
            self._forget(sequence)

    def keep_bounds(self) -> None:
        """Give up what idle sequences hold beyond the bounds: others run now, and are slowed down by it."""
        stored = self._store.keeps if self._store else 0
        for proven, bound in ((False, self._bounds.private), (True, max(0, self._bounds.proven - stored))):
            while (over := self._idle(proven=proven) - bound) > 0:
                victim = self._victim(proven=proven)
                if victim is None:
                    break
                self._trim(victim, over)

    def evict(self, cells: int) -> bool:
        """Trim idle sequences, private runs first, until `cells` are free; whether they are."""
        while self.free < cells:
            victim = self._victim(proven=False)
            victim = self._victim(proven=True) if victim is None else victim
            if victim is None:
                return False
            self._trim(victim, cells - self.free)
        return True

    def _find(self, space: str, tokens: TokenIds[int]) -> tuple[_Node, int, int]:
        """The node where the longest reusable prefix ends, how far into it, and the prefix's length."""
        node = self._roots.get(space)
        if node is None or not self.sharing:
            return _Node([], None), 0, 0
        root, end, at, within = node, len(tokens) - 1, 0, 0
        while within == len(node.tokens):
            best, longest = node, 0
            for child in node.children:
                common = common_prefix(child.tokens, tokens, at, end)
                if common > longest:
                    best, longest = child, common
            if not longest:
                break
            node, within, at = best, longest, at + longest
        return (node, within, at) if at >= SHARE_FROM else (root, 0, 0)

    def _take_over(self, node: _Node, within: int) -> int | None:
        """The idle sequence that ends right here, if there is one: it is continued as it is."""
        if within < len(node.tokens):
            return None
        ending = (holder for holder in node.holders if self._residents[holder].node is node)
        return next((holder for holder in ending if not self._residents[holder].busy), None)

    def _fork(self, space: str, node: _Node, within: int, length: int) -> int:
        """A new sequence that shares the first `length` cells of one that holds `node`."""
        sequence = self._unused.pop()
        if length:
            self._memory.share(min(node.holders), sequence, length)
            node = self._split(node, within)
        else:
            node = self._roots.setdefault(space, _Node([], None))
        self._residents[sequence] = _Resident(space, node, length, busy=False)
        for above in _path(node):
            above.holders.add(sequence)
        return sequence

    def _restore(self, sequence: int, tokens: TokenIds[int], *, proven: bool) -> None:
        """Append what the second tier knows of `tokens`."""
        if self._store is None:
            return
        resident = self._residents[sequence]
        start, found = resident.length, list[bytes]()
        for number, key in enumerate(self._store.keys(resident.space, tokens[: len(tokens) - 1])):
            end = (number + 1) * BLOCK
            if end <= resident.length:
                continue
            state = self._store.get(key)
            if state is None or not self.evict(BLOCK):
                break
            if not self._memory.load(sequence, resident.length, end, state):
                self._store.discard(key)
                break
            self.extend(sequence, tokens[resident.length : end])
            found.append(key)
        self._store.touch(reversed(found), proven=proven)
        self.restored += resident.length - start

    def _trim(self, sequence: int, cells: int) -> None:
        """Give up at least `cells` cells at the end of an idle sequence, or its whole leaf if that is shorter."""
        resident = self._residents[sequence]
        leaf = resident.node
        above = resident.length - len(leaf.tokens)
        keep = max(above, (resident.length - cells) // BLOCK * BLOCK)
        if keep < SHARE_FROM:
            keep = above
        self._spill(sequence, keep)
        if keep == above:
            self._forget(sequence, keep=above)
            return
        self._memory.cut(sequence, keep)
        self.used -= resident.length - keep
        self.evicted += resident.length - keep
        del leaf.tokens[keep - above :]
        resident.length = keep

    def _forget(self, sequence: int, *, keep: int = 0) -> None:
        """Take an idle sequence out of the tree, up to a prefix of `keep` cells that nobody else holds."""
        resident = self._residents[sequence]
        path = list(_path(resident.node))
        stays = path[1] if keep and len(path) > 1 and path[1].holders == {sequence} else None
        for node in path:
            if node is stays:
                break
            node.holders.discard(sequence)
            if node.holders:
                self._merge(node)
            elif node.parent is not None:
                self.used -= len(node.tokens)
                self.evicted += len(node.tokens)
                node.parent.children.remove(node)
            else:
                del self._roots[resident.space]
        if stays is not None:
            self._memory.cut(sequence, keep)
            resident.node, resident.length = stays, keep
        else:
            self._memory.cut(sequence, 0)
            del self._residents[sequence]
            self._unused.append(sequence)

    def _forget_one(self, *, spare: int | None) -> bool:
        """Free a sequence id by giving up an idle sequence as a whole."""
        victim = self._victim(proven=False, spare=spare)
        victim = self._victim(proven=True, spare=spare) if victim is None else victim
        if victim is None:
            return False
        others = (node for node in _path(self._residents[victim].node) if len(node.holders) > 1)
        self._spill(victim, sum(len(node.tokens) for node in others))
        self._forget(victim)
        return True

    def _spill(self, sequence: int, keep: int) -> None:
        """Save the whole blocks that end beyond `keep` to the second tier, the deepest first: it becomes the oldest."""
        if self._store is None:
            return
        resident = self._residents[sequence]
        path = list(_path(resident.node))
        tokens = [token for node in reversed(path) for token in node.tokens]
        proven = sum(len(node.tokens) for node in path if node.proven)  # they come first
        for number, key in reversed(list(enumerate(self._store.keys(resident.space, tokens)))):
            start, end = number * BLOCK, (number + 1) * BLOCK
            if end <= keep:
                return
            if not self._store.touch([key], proven=end <= proven):
                self._store.put(key, self._memory.save(sequence, start, end), proven=end <= proven)

    def _split(self, node: _Node, within: int) -> _Node:
        """Make a node end at `within`; returns the upper half."""
        if within == len(node.tokens):
            return node
        parent = node.parent
        assert parent is not None
        upper = _Node(node.tokens[:within], parent, [node], set(node.holders), node.busy, node.proven, node.used)
        node.tokens = node.tokens[within:]
        node.parent = upper
        parent.children[parent.children.index(node)] = upper
        return upper

    def _merge(self, node: _Node) -> None:
        """Join a node with its only child when nobody ends between them and both are of one kind."""
        if node.parent is None or len(node.children) != 1:
            return
        child = node.children[0]
        if child.holders != node.holders or child.proven != node.proven:
            return
        node.tokens += child.tokens
        node.children = child.children
        node.used = max(node.used, child.used)
        for below in node.children:
            below.parent = node
        for holder in node.holders:
            if self._residents[holder].node is child:
                self._residents[holder].node = node

    def _set_busy(self, sequence: int, busy: bool) -> None:
        resident = self._residents[sequence]
        resident.busy = busy
        for node in _path(resident.node):
            before = node.busy
            node.busy += 1 if busy else -1
            if (before == 0) != (node.busy == 0):
                self._held_by_busy += len(node.tokens) if busy else -len(node.tokens)

    def _touch(self, node: _Node, *, proven: bool) -> None:
        self._clock += 1
        for above in _path(node):
            above.used = self._clock
            above.proven = above.proven or proven

    def _idle(self, *, proven: bool) -> int:
        """Cells of one kind that only idle sequences hold."""
        nodes = {id(node): node for resident in self._residents.values() for node in _path(resident.node)}
        return sum(len(node.tokens) for node in nodes.values() if not node.busy and node.proven == proven)

    def _victim(self, *, proven: bool, spare: int | None = None) -> int | None:
        """The idle sequence whose last run is of this kind and was used least recently."""
        idle = [
            (resident.node.used, sequence)
            for sequence, resident in self._residents.items()
            if not resident.busy and resident.node.proven == proven and sequence != spare
        ]
        return min(idle)[1] if idle else None


def common_prefix(run: TokenIds[int], tokens: TokenIds[int], start: int, end: int) -> int:
    """Length of the common prefix of `run` and `tokens[start:end]`, by comparing slices, which C does."""
    low, high = 0, min(len(run), end - start)
    if high <= 0 or run[0] != tokens[start]:
        return 0
    if run[:high] == tokens[start : start + high]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if run[low:middle] == tokens[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low


def _path(node: _Node | None) -> Iterator[_Node]:
    """The node and everything above it, root last."""
    while node is not None:
        yield node
        node = node.parent
