"""Which engines run now: asks the planner, remembers what it decided, and measures what each engine really takes.

Owns what is known only while the daemon lives: use, measurements, the latest decisions. Everything is observed anew
after a restart: an engine that runs is in memory, and what was out comes in as long as there is room.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from appliance.api import types as t
from appliance.gateway.state import GatewayState
from appliance.kernel.clock import to_text, utc_now
from appliance.kernel.settings import Settings
from appliance.residency.footprint import (
    Footprint,
    beside,
    draft_model,
    generator,
    llama_encoder,
    shape_of,
    torch_encoder,
)
from appliance.residency.plan import Decision, Member, Place, Room, decide, size
from appliance.services.profiles import Profile
from appliance.services.serving_options import Artifact

_REMEMBERED: Final = 100
_OBSTACLE_SECONDS: Final = 10.0
_MEASURE_EVERY: Final = 30.0
_SEQUENCES_PER_SLOT: Final = 4
_LEAST_RESERVE: Final = 1 << 30
_AVAILABLE_MARGIN: Final = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A revision that is live or starting, with all that decides how it runs."""

    number: int
    deployment: str
    ref: str
    starting: bool
    artifact: Artifact
    options: t.ServingOptions
    policy: t.Policy
    description: dict[str, Any]
    profile: Profile | None = None
    draft: dict[str, Any] = field(default_factory=dict)
    """description of its draft model"""


@dataclass(slots=True)
class _Record:
    """What was seen of one revision. Times are epoch seconds."""

    place: Place = Place.ABSENT
    since: float = 0.0
    used: float = 0.0
    waiting: int = 0
    active: int = 0
    measured: int = 0
    measured_at: float = 0.0
    unloaded: bool = False
    obstacle: str = ""
    obstacle_until: float = 0.0
    note: str = ""


@dataclass(slots=True)
class Residency:
    """The books of the deployer."""

    settings: Settings
    clock: Callable[[], float] = time.time
    decisions: deque[t.DecisionView] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _records: dict[int, _Record] = field(default_factory=dict)

    def observe(self, state: GatewayState | None) -> None:
        """Take over what the gateway says of use and of requests that wait."""
        for record in self._records.values():
            record.waiting = record.active = 0
        for number, seen in (state.revisions if state is not None else {}).items():
            record = self._record(int(number))
            record.used = max(record.used, seen.used)
            record.waiting, record.active = seen.waiting, seen.active

    def place(self, number: int, place: Place) -> None:
        """Record where a revision is now."""
        record = self._record(number)
        if place != record.place:
            record.place, record.since = place, self.clock()
            if place in (Place.LOADING, Place.RESIDENT):
                record.obstacle = record.note = ""
            else:
                record.measured = 0

    def place_of(self, number: int) -> Place:
        """Return where a revision was last seen."""
        return self._record(number).place

    def over_limit(self, wanted: Wanted) -> str:
        """Say why a revision cannot stay within its own memory limit; empty when it can, or has none."""
        own, limit = predict(wanted, self.settings).own, wanted.options.memory_limit
        if not limit or own <= limit:
            return ""
        return f"it needs {size(own)} of its own and its memory limit is {size(limit)}"

    def block(self, number: int, why: str) -> None:
        """Record that a revision cannot be brought into memory. After a while a request may try again."""
        record = self._record(number)
        record.obstacle, record.obstacle_until = why, self.clock() + _OBSTACLE_SECONDS

    def forget_all_but(self, numbers: Iterable[int]) -> None:
        """Drop the records of revisions that are gone."""
        kept = set(numbers)
        self._records = {number: record for number, record in self._records.items() if number in kept}

    def decide(self, wanted: Iterable[Wanted], others: Mapping[int, int] | None = None) -> list[Decision]:
        """Ask the planner, and remember what is new in its answer.

        `others` are engines that nobody wants any more and that still end their streams: revision -> bytes.
        """
        members = [self.member(entry) for entry in wanted]
        members += [
            Member(revision=number, name="", needs=needs, place=Place.LEAVING)
            for number, needs in (others or {}).items()
        ]
        decisions = decide(members, self.room(), self.clock())
        for decision in decisions:
            record = self._record(decision.revision)
            if decision.action in ("unload", "wait"):
                record.unloaded = True
            if decision.action == "refuse":
                self.block(decision.revision, decision.why)
            if decision.why != record.note:
                self._tell(decision)
                record.note = decision.why
        return decisions

    def preview(self, wanted: Iterable[Wanted], newcomer: Wanted) -> tuple[Footprint, list[Decision]]:
        """Say what would happen if one more were deployed; nothing is remembered."""
        members = [self.member(entry) for entry in wanted]
        return predict(newcomer, self.settings), decide([*members, self.member(newcomer)], self.room(), self.clock())

    def member(self, wanted: Wanted) -> Member:
        """One revision as the planner sees it."""
        record = self._record(wanted.number)
        predicted = predict(wanted, self.settings).most
        return Member(
            revision=wanted.number,
            name=wanted.deployment,
            needs=max(predicted, record.measured),
            place=record.place,
            pinned=wanted.policy.pinned,
            asked=wanted.starting or record.waiting > 0,
            home=not record.unloaded,
            active=record.active,
            used=record.used,
            since=record.since,
            idle_timeout=wanted.policy.idle_timeout or self.settings.idle_timeout,
        )

    def parked(self, live: Iterable[Wanted]) -> dict[int, str]:
        """Which live revisions are out of memory, each with its obstacle. One that was never in comes by itself."""
        found = {}
        for wanted in live:
            record = self._record(wanted.number)
            if record.place == Place.LEAVING or (
                record.place != Place.RESIDENT and (record.unloaded or record.obstacle)
            ):
                hindered = record.place == Place.ABSENT and self.clock() < record.obstacle_until
                found[wanted.number] = record.obstacle if hindered else ""
        return found

    def room(self) -> Room:
        """The memory that serving may use, and what the system has left."""
        memory = psutil.virtual_memory()
        return Room(
            budget=self.settings.serving_memory or budget_of(memory.total),
            available=memory.available - _AVAILABLE_MARGIN,
        )

    def measure(self, pids: Mapping[int, int]) -> None:
        """Measure the engines (revision -> pid) that were not measured for a while. Blocks for milliseconds."""
        now = self.clock()
        for number, pid in pids.items():
            record = self._record(number)
            if record.place == Place.RESIDENT and now - record.measured_at >= _MEASURE_EVERY:
                record.measured, record.measured_at = proportional_bytes(pid), now

    def view(self, wanted: Wanted) -> t.ResidentView:
        """What is known of one revision."""
        record = self._record(wanted.number)
        predicted = predict(wanted, self.settings)
        return t.ResidentView(
            deployment=wanted.deployment,
            revision=wanted.number,
            model=wanted.ref,
            kind=wanted.options.kind,
            state=str(record.place),
            pinned=wanted.policy.pinned,
            idle_timeout=wanted.policy.idle_timeout or self.settings.idle_timeout,
            used=record.used,
            active=record.active,
            waiting=record.waiting,
            predicted=footprint_view(predicted),
            measured=record.measured,
            error=record.measured / predicted.total - 1 if record.measured else None,
            note=record.obstacle or record.note,
            tuned=wanted.profile.job if wanted.profile is not None else "",
        )

    def _tell(self, decision: Decision) -> None:
        self.decisions.append(
            t.DecisionView(
                at=to_text(utc_now()),
                action=decision.action,
                deployment=decision.name,
                revision=decision.revision,
                why=decision.why,
            )
        )
        print(f"serving: {decision.action} {decision.name} (revision {decision.revision}): {decision.why}", flush=True)

    def _record(self, number: int) -> _Record:
        return self._records.setdefault(number, _Record())


def predict(wanted: Wanted, settings: Settings) -> Footprint:
    """What an engine will need, from the model's description and the options."""
    shape, options = shape_of(wanted.description), wanted.options
    if options.kind == "generate":
        cells = options.context or settings.engine_context
        alone = generator(
            shape,
            file=wanted.artifact.size + sum(entry.size for entry in options.adapters.values()),
            cells=cells,
            sequences=settings.engine_slots * _SEQUENCES_PER_SLOT,
            chats=bool(wanted.description.get("has_chat_template")),
            saved=settings.prefix_cache_memory,
        )
        if options.draft is None:
            return alone
        draft = draft_model(
            shape_of(wanted.draft), file=options.draft.size, cells=cells, sequences=settings.engine_slots
        )
        return beside(alone, draft)
    context = options.context or settings.encoder_context
    if wanted.artifact.files:
        return torch_encoder(shape, context=context)
    return llama_encoder(shape, file=wanted.artifact.size, context=context)


def footprint_view(footprint: Footprint) -> t.FootprintView:
    """A prediction as the control API tells it."""
    return t.FootprintView(
        weights=footprint.weights + footprint.repacked,
        cache=footprint.cache,
        compute=footprint.compute,
        process=footprint.process,
        total=footprint.total,
        saved=footprint.saved,
        draft=footprint.draft,
    )


def budget_of(total: int) -> int:
    """Memory for serving on a box with `total` bytes: a fifth, and at least 1 GiB, is the box's own."""
    return max(0, total - max(_LEAST_RESERVE, total // 5))


def proportional_bytes(pid: int) -> int:
    """Proportional set size (proc_pid_smaps_rollup(5)) of a process and its children; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(int(member.memory_full_info().pss) for member in family)
    except psutil.Error:
        return 0
