"""What the next micro-batch of an encoder holds: texts of all tenants in turn, within tokens and sequences.

Pure: knows no model, no socket and no clock. Invariants: a text of a lower class takes only room that the higher ones
leave; within a class a tenant waits at most for one text of each other tenant in a batch, however many texts they sent;
the texts of one request are computed in their order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from appliance.engine.encoder import Passage
from appliance.engine.frames import Priority

R = TypeVar("R")
_Line: TypeAlias = tuple[Priority, str]
"""a tenant's requests of one class"""


@dataclass(slots=True)
class _Entry(Generic[R]):
    owner: R
    passages: list[Passage]
    at: int = 0


@dataclass(frozen=True, slots=True)
class Taken(Generic[R]):
    """Texts `first` … of one request, in a batch."""

    owner: R
    first: int
    passages: list[Passage]


@dataclass(slots=True, kw_only=True)
class MicroBatches(Generic[R]):
    """The queue. `tokens` and `sequences` bound a batch; where `padded`, every text counts as the longest one."""

    tokens: int
    sequences: int
    padded: bool
    _tenants: dict[_Line, deque[_Entry[R]]] = field(default_factory=dict)  # in order of their turn

    @property
    def waiting(self) -> int:
        """Texts that are not computed yet."""
        return sum(len(entry.passages) - entry.at for queue in self._tenants.values() for entry in queue)

    def add(self, tenant: str, owner: R, passages: list[Passage], priority: Priority = Priority.INTERACTIVE) -> None:
        """Queue the texts of a request behind those of its tenant."""
        self._tenants.setdefault((priority, tenant), deque()).append(_Entry(owner, passages))

    def remove(self, owner: R) -> None:
        """Forget a request's texts that are not taken yet."""
        for line, queue in list(self._tenants.items()):
            kept = deque(entry for entry in queue if entry.owner is not owner)
            if kept:
                self._tenants[line] = kept
            else:
                del self._tenants[line]

    def take(self) -> list[Taken[R]]:
        """Return the next batch; empty when nothing waits. One text is taken whatever its length."""
        chosen: dict[int, Taken[R]] = {}
        count = longest = total = 0
        classes = [deque(line for line in self._tenants if line[0] is priority) for priority in Priority]
        while count < self.sequences and (turns := next(filter(None, classes), None)):
            line = turns.popleft()
            entry = self._tenants[line][0]
            passage = entry.passages[entry.at]
            size = len(passage.tokens)
            cost = max(longest, size) * (count + 1) if self.padded else total + size
            if count and cost > self.tokens:
                continue  # another tenant's next text may be shorter
            taken = chosen.setdefault(id(entry), Taken(entry.owner, entry.at, []))
            taken.passages.append(passage)
            count, longest, total = count + 1, max(longest, size), total + size
            entry.at += 1
            self._rotate(line)
            if line in self._tenants:
                turns.append(line)
        return list(chosen.values())

    def _rotate(self, line: _Line) -> None:
        queue = self._tenants.pop(line)
        if queue[0].at == len(queue[0].passages):
            queue.popleft()
        if queue:
            self._tenants[line] = queue  # at the end: the next batch begins with somebody else
