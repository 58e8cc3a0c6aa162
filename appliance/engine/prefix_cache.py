"""Which KV cells hold which tokens: a radix tree over token ids, one per tenant.

Owns the books of a unified KV cache: sequence ids, shared prefixes, least-recently-used eviction. It touches no
context; it writes the moves (`Drop`, `Copy`) that make the context follow. Invariants: a cell is never shared by two
tenants, and `used` equals the cells the context really occupies once the moves are done.

Words: a *busy* sequence belongs to a running request; an *idle* one stays resident so that a later prompt of the same
tenant may reuse its prefix. Copying a prefix inside a unified cache shares cells, it moves no data.
"""

from __future__ import annotations

from collections.abc import Sequence as TokenIds
from dataclasses import dataclass, field

SHARE_FROM = 16
"""Shorter common prefixes are recomputed: walking the cells costs more than they do."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove everything of one sequence from the context."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Share the first `length` cells of `source` with `target`."""

    source: int
    target: int
    length: int


Move = Drop | Copy


@dataclass(slots=True, eq=False)
class _Node:
    """A run of tokens below a prefix. `holders` are the sequences that pass through or end here."""

    tokens: list[int]
    parent: _Node | None
    children: list[_Node] = field(default_factory=list)
    holders: set[int] = field(default_factory=set)
    busy: int = 0


@dataclass(slots=True, eq=False)
class _Resident:
    """Where one sequence ends in its tenant's tree."""

    tenant: str
    node: _Node
    length: int
    used: int
    busy: bool = True


class PrefixCache:
    """Cells, sequence ids and prefixes of one context."""

    def __init__(self, *, cells: int, sequences: int, sharing: bool = True, idle_cells: int | None = None) -> None:
        """`idle_cells` bounds what idle sequences may hold: attention reads every resident cell at every step.

        The sequence that ended last stays whatever its size: the next turn of a conversation needs it.
        """
        self.cells = cells
        self.idle_cells = cells if idle_cells is None else idle_cells
        self.used = 0
        self._held_by_busy = 0
        self.sharing = sharing
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

    def match(self, tenant: str, tokens: TokenIds[int]) -> tuple[int, int]:
        """How many leading tokens could be reused now, and how many of those are held by idle sequences alone.

        At least the last token is always computed anew, for its logits.
        """
        node, within, length = self._find(tenant, tokens)
        above = [within if other is node else len(other.tokens) for other in _path(node) if not other.busy]
        return length, sum(above)

    def open(self, tenant: str, tokens: TokenIds[int], moves: list[Move]) -> tuple[int, int] | None:
        """Start a busy sequence for `tokens`: (sequence id, reused tokens), or None when every id is busy."""
        node, within, length = self._find(tenant, tokens)
        self._clock += 1
        for holder in node.holders if length else ():
            resident = self._residents[holder]
            if not resident.busy and resident.length == length:
                self._set_busy(resident, True)
                return holder, length
        if not self._unused:
            victim = self._least_recent(spare=min(node.holders, default=None))
            victim = self._least_recent(spare=None) if victim is None else victim
            if victim is None:
                return None
            self.drop(victim, moves)
            node, within, length = self._find(tenant, tokens)
        sequence = self._unused.pop()
        if length:
            moves.append(Copy(source=min(node.holders), target=sequence, length=length))
            end = self._split(node, within)
        else:
            end = self._roots.setdefault(tenant, _Node([], None))
        resident = _Resident(tenant=tenant, node=end, length=length, used=self._clock, busy=False)
        self._residents[sequence] = resident
        for above in _path(end):
            above.holders.add(sequence)
        self._set_busy(resident, True)
        return sequence, length

    def extend(self, sequence: int, tokens: TokenIds[int]) -> None:
        """Record that `tokens` were computed at the end of a busy sequence."""
        resident = self._residents[sequence]
        node = resident.node
        if node.parent is None or len(node.holders) > 1:
            node = _Node([], node, holders={sequence}, busy=1)
            resident.node.children.append(node)
            resident.node = node
        node.tokens.extend(tokens)
        resident.length += len(tokens)
        self.used += len(tokens)
        self._held_by_busy += len(tokens)

    def close(self, sequence: int, moves: list[Move]) -> None:
        """The request ended: keep its cells as idle ones until they are needed."""
        resident = self._residents[sequence]
        self._clock += 1
        resident.used = self._clock
        self._set_busy(resident, False)
        if not self.sharing or resident.length < SHARE_FROM:
            self.drop(sequence, moves)
        while self.evictable > self.idle_cells and (oldest := self._least_recent(spare=sequence)) is not None:
            self.drop(oldest, moves)

    def drop(self, sequence: int, moves: list[Move]) -> None:
        """Forget one sequence; cells nobody else holds become free."""
        resident = self._residents.pop(sequence)
        if resident.busy:
            self._set_busy(resident, False)
        moves.append(Drop(sequence))
        self._unused.append(sequence)
        for node in list(_path(resident.node)):
            node.holders.discard(sequence)
            if node.holders:
                self._merge(node)
            elif node.parent is not None:
                self.used -= len(node.tokens)
                node.parent.children.remove(node)
            else:
                del self._roots[resident.tenant]

    def evict(self, cells: int, moves: list[Move]) -> bool:
        """Drop idle sequences, least recently used first, until `cells` are free; whether they are."""
        while self.free < cells:
            victim = self._least_recent(spare=None)
            if victim is None:
                return False
            self.drop(victim, moves)
        return True

    def _find(self, tenant: str, tokens: TokenIds[int]) -> tuple[_Node, int, int]:
        """The node where the longest reusable prefix ends, how far into it, and the prefix's length."""
        node = self._roots.get(tenant)
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

    def _split(self, node: _Node, within: int) -> _Node:
        """Make a node end at `within`; returns the upper half."""
        if within == len(node.tokens):
            return node
        parent = node.parent
        assert parent is not None
        upper = _Node(node.tokens[:within], parent, [node], set(node.holders), node.busy)
        node.tokens = node.tokens[within:]
        node.parent = upper
        parent.children[parent.children.index(node)] = upper
        return upper

    def _merge(self, node: _Node) -> None:
        """Join a node with its only child when nobody ends between them, so that the tree stays small."""
        if node.parent is None or len(node.children) != 1 or node.children[0].holders != node.holders:
            return
        child = node.children[0]
        node.tokens += child.tokens
        node.children = child.children
        for below in node.children:
            below.parent = node
        for holder in node.holders:
            if self._residents[holder].node is child:
                self._residents[holder].node = node

    def _set_busy(self, resident: _Resident, busy: bool) -> None:
        resident.busy = busy
        for node in _path(resident.node):
            before = node.busy
            node.busy += 1 if busy else -1
            if (before == 0) != (node.busy == 0):
                self._held_by_busy += len(node.tokens) if busy else -len(node.tokens)

    def _least_recent(self, *, spare: int | None) -> int | None:
        idle = [
            (resident.used, sequence)
            for sequence, resident in self._residents.items()
            if not resident.busy and sequence != spare
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


def _path(node: _Node | None) -> list[_Node]:
    """The node and everything above it, root last."""
    path = []
    while node is not None:
        path.append(node)
        node = node.parent
    return path
