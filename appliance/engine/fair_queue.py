"""Who is next: waiting requests, by class, then by what each tenant has been given already.

Pure bookkeeping over sequences. A request of a higher class goes before one of a lower, always. Within a class the
tenant with the least service goes first: a virtual token counter (Sheng et al., "Fairness in Serving Large Language
Models", OSDI 2024), which counts prompt tokens that were computed and, at `OUTPUT_WEIGHT` times the price, generated
ones. A tenant that was away starts where the least served waiting one stands, so absence earns nothing. Invariant: of
two tenants that both wait all the time, neither is given more than one request's service more than the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from appliance.engine.frames import Priority

if TYPE_CHECKING:
    from appliance.engine.scheduler import Sequence

OUTPUT_WEIGHT: Final = 2.0
"""A generated token costs a whole row of a step; a prompt token shares the weights' way through memory with others."""


class FairQueue:
    """The requests that are not running."""

    def __init__(self) -> None:
        self._queues: dict[Priority, dict[str, deque[Sequence]]] = {priority: {} for priority in Priority}
        self._served: dict[str, float] = {}
        self._floor = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, sequence: Sequence, *, first: bool = False) -> None:
        """Add a request behind those of its tenant; `first` for one that had its turn already and comes back."""
        tenants = self._queues[sequence.priority]
        if not self._waits(sequence.tenant):
            self._lift(sequence.tenant)
        queue = tenants.setdefault(sequence.tenant, deque())
        if first:
            queue.appendleft(sequence)
        else:
            queue.append(sequence)
        self._length += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a request out. ValueError when it is not here."""
        tenants = self._queues[sequence.priority]
        queue = tenants.get(sequence.tenant, deque())
        queue.remove(sequence)
        self._length -= 1
        if not queue:
            del tenants[sequence.tenant]

    def charge(self, tenant: str, *, prompt: int = 0, generated: int = 0) -> None:
        """Count tokens that were computed for a tenant."""
        served = self._served.get(tenant, self._floor) + prompt + OUTPUT_WEIGHT * generated
        self._served[tenant] = served

    def in_turn(self) -> Iterator[Sequence]:
        """All waiting requests, the next one first. Do not change the queue meanwhile."""
        for tenants in self._queues.values():
            for tenant in sorted(tenants, key=lambda tenant: self._served.get(tenant, self._floor)):
                yield from tenants[tenant]

    def of(self, tenant: str) -> int:
        """How many requests of a tenant wait."""
        return sum(len(tenants.get(tenant, ())) for tenants in self._queues.values())

    def waiting(self, priority: Priority) -> int:
        """How many requests of a class wait."""
        return sum(map(len, self._queues[priority].values()))

    def _waits(self, tenant: str) -> bool:
        return any(tenant in tenants for tenants in self._queues.values())

    def _lift(self, tenant: str) -> None:
        """Bring a tenant that waits again up to the least served one that waits; forget who is no further than that."""
        waiting = {other for tenants in self._queues.values() for other in tenants}
        if waiting:
            self._floor = max(self._floor, min(self._served.get(other, self._floor) for other in waiting))
        elif self._served:
            self._floor = max(self._floor, min(self._served.values()))
        self._served = {other: served for other, served in self._served.items() if served > self._floor}
