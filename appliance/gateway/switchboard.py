"""The routing table in force and the engine links it asks for.

Adopting a table is one synchronous step: a request sees the old table or the new one. Requests under way stay on the
revision they began on; its link is retired and lives until the last of them has ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from appliance.gateway.engine_link import EngineLink
from appliance.gateway.state import RevisionState
from appliance.gateway.table import OBSTACLE_SECONDS, KeyEntry, Limits, Route, RoutingTable
from appliance.kernel.canonical import sha256_hex


class Switchboard:
    """Finds routes, keys and links; holds one table at a time."""

    def __init__(self, table: RoutingTable, document: bytes, clock: Callable[[], float] = monotonic) -> None:
        self.adopted = 0
        """how many tables were adopted"""
        self._clock = clock
        self._links: dict[int, EngineLink] = {}
        self._retired: set[EngineLink] = set()
        self._waiting: Counter[int] = Counter()
        self._awaited: dict[int, float] = {}  # since when requests waited for a revision
        self._load_times: dict[int, float] = {}  # how long they did, the last time that it came
        self._changed = asyncio.Event()
        self.adopt(table, document)

    def adopt(self, table: RoutingTable, document: bytes) -> None:
        """Put a table in force. `document` are its bytes, whose digest tells the daemon which one that is."""
        self.table = table
        self.digest = sha256_hex(document)
        self.adopted += 1
        self.keys: dict[str, KeyEntry] = {key.id: key for key in table.keys}
        wanted = {route.revision: Path(route.socket) for route in table.routes.values()}
        for revision, link in list(self._links.items()):
            if wanted.get(revision) != link.socket:
                del self._links[revision]
                self._retired.add(link)
                link.retire()
        for revision, socket in wanted.items():
            if revision not in self._links:
                self._links[revision] = EngineLink(revision, socket)
        self._forget_empty()
        self._note_loads(table)
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self.table.limits

    def route(self, model: str) -> Route | None:
        """Return where new requests for a deployment go, or None when nothing is deployed under that name."""
        return self.table.routes.get(model)

    async def until_loaded(self, model: str) -> Route | None:
        """Return the route of a model once it is in memory, or its parked route when the time to wait is over.

        That somebody waits is told by `revisions`; the daemon loads what is waited for. A model that cannot be loaded
        is returned at once with its obstacle.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.limits.load_timeout
        while (route := self.route(model)) is not None and route.parked and not route.obstacle:
            self._waiting[route.revision] += 1
            self._awaited.setdefault(route.revision, self._clock())
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                break
            finally:
                self._waiting[route.revision] -= 1
        return route

    def load_seconds(self, route: Route) -> float:
        """Estimate when a parked model may be there, by how long it took the last time; 0 where nothing is known."""
        if route.obstacle:
            return OBSTACLE_SECONDS
        now = self._clock()
        return self._load_times.get(route.revision, 0.0) - (now - self._awaited.get(route.revision, now))

    def link(self, route: Route) -> EngineLink:
        """Return the link of a route of the table in force."""
        return self._links[route.revision]

    def revisions(self) -> dict[str, RevisionState]:
        """Return the load of each revision, those that only finish their streams included."""
        self._forget_empty()
        states: dict[str, RevisionState] = {}
        for link in [*self._retired, *self._links.values()]:
            earlier = states.get(str(link.revision))
            states[str(link.revision)] = RevisionState(
                active=link.active + (earlier.active if earlier else 0),
                connected=link.connected,
                retired=link.retired,
                waiting=self._waiting[link.revision],
                used=max(link.used, earlier.used if earlier else 0.0),
            )
        return states

    def _note_loads(self, table: RoutingTable) -> None:
        routes = {route.revision: route for route in table.routes.values()}
        self._load_times = {number: took for number, took in self._load_times.items() if number in routes}
        for number, since in list(self._awaited.items()):
            route = routes.get(number)
            if route is not None and not route.parked:
                self._load_times[number] = self._clock() - since
            if route is None or not route.parked or route.obstacle:
                del self._awaited[number]

    def _forget_empty(self) -> None:
        self._retired = {link for link in self._retired if link.active}
