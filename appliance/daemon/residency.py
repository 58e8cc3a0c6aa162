"""Which engines run now: asks the planner, remembers what it decided, and measures what each engine really takes.

Owns what is known only while the daemon lives: use, measurements, the latest decisions. Everything is observed anew
after a restart: an engine that runs is in memory, and what was out comes in as long as there is room.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from appliance.api import types as t
from appliance.daemon.gpus import Sighting
from appliance.engine.frames import Info
from appliance.gateway.state import GatewayState
from appliance.gateway.table import OBSTACLE_SECONDS
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
from appliance.residency.offload import AUTO, ON_PROCESSOR, Gpu, Placement, offloaded, place
from appliance.residency.plan import Decision, Member, Place, Room, decide, size
from appliance.services.profiles import Profile
from appliance.services.serving_options import Artifact

_REMEMBERED: Final = 100
_MEASURE_EVERY: Final = 30.0
_SEQUENCES_PER_SLOT: Final = 4
_LEAST_RESERVE: Final = 1 << 30
_AVAILABLE_MARGIN: Final = 128 << 20
_GPU_MARGIN: Final = 128 << 20


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
    placement: Placement = ON_PROCESSOR
    on_gpu: int = 0
    """bytes of the GPU that it is charged with while it is in memory"""
    guests: int = 0
    """questions of the daemon's own that wait for it or are being answered"""
    gpu_measured: int = 0
    greeted: bool = False
    off_gpu: str = ""
    """why it is not put on a GPU any more"""


@dataclass(slots=True)
class Residency:
    """The books of the deployer."""

    settings: Settings
    clock: Callable[[], float] = time.time
    decisions: deque[t.DecisionView] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _records: dict[int, _Record] = field(default_factory=dict)
    _sighting: Sighting = field(default_factory=Sighting)
    _budgets: dict[str, int] = field(default_factory=dict)
    _seen_at: float = 0.0
    _gpus_changed: bool = True

    def gpus_to_look_at(self, *, older_than: float | None = None) -> bool:
        """Whether the GPUs were never looked at, or engines came and went since, or the sight is too old."""
        if not self._gpus_changed and not self._sighting.plugged:
            return False
        return self._gpus_changed or (older_than is not None and self.clock() - self._seen_at > older_than)

    def see(self, sighting: Sighting) -> None:
        """Take over which GPUs there are. What no engine of ours explains of their use, others need."""
        ours: Counter[str] = Counter()
        for record in self._records.values():
            if record.place in (Place.RESIDENT, Place.LEAVING):
                ours[record.placement.gpu] += record.on_gpu
        self._sighting, self._seen_at, self._gpus_changed = sighting, self.clock(), False
        self._budgets = {
            device.name: max(0, min(device.total, device.free + ours[device.name]) - _GPU_MARGIN)
            for device in sighting.devices
        }

    def adopt(self, wanted: Wanted, *, layers: int, gpu: str) -> None:
        """Record where the layers of an engine are that a former daemon started."""
        device = next((one for one in self._sighting.devices if one.name == gpu), None)
        if layers and device is not None:
            placement = Placement(
                layers=layers,
                gpu=gpu,
                backend=device.backend,
                shared=device.shared,
                why=f"{layers} layers on {gpu}, since before the daemon started",
            )
            self._settle(wanted, placement)
            self._gpus_changed = True

    def to_greet(self) -> list[int]:
        """Which engines have layers on a GPU and have not said yet what that took."""
        return [
            number
            for number, record in self._records.items()
            if record.place == Place.RESIDENT and record.placement.layers and not record.greeted
        ]

    def greeted(self, number: int, info: Info) -> None:
        """Take over what an engine says that it did."""
        record = self._record(number)
        record.greeted, record.gpu_measured = True, info.gpu_bytes

    def placement_of(self, number: int) -> Placement:
        """Where the layers of a revision are, or go when it is loaded."""
        return self._record(number).placement

    def falls_back(self, wanted: Wanted, reason: str) -> bool:
        """Whether an engine that failed is tried on the processor: it was on a GPU, and nobody asked for that."""
        record = self._record(wanted.number)
        if not record.placement.layers or wanted.options.gpu_layers != AUTO:
            return False
        record.off_gpu = f"on the processor: with layers on {record.placement.gpu} its engine failed ({reason})"
        self._tell(
            Decision(action="load", revision=wanted.number, name=wanted.deployment, why=f"tried again {record.off_gpu}")
        )
        return True

    def observe(self, state: GatewayState | None) -> None:
        """Take over what the gateway says of use and of requests that wait."""
        for record in self._records.values():
            record.waiting = record.active = 0
        for number, seen in (state.revisions if state is not None else {}).items():
            record = self._record(int(number))
            record.used = max(record.used, seen.used)
            record.waiting, record.active = seen.waiting, seen.active

    @contextlib.contextmanager
    def guest(self, number: int) -> Iterator[None]:
        """Want a revision in memory for a question that does not come through the gateway."""
        record = self._record(number)
        record.guests += 1
        try:
            yield
        finally:
            record.guests -= 1
            record.used = self.clock()

    def place(self, number: int, place: Place) -> None:
        """Record where a revision is now."""
        record = self._record(number)
        if place != record.place:
            record.place, record.since = place, self.clock()
            if record.placement.layers and place in (Place.RESIDENT, Place.ABSENT):
                self._gpus_changed = True
            if place in (Place.LOADING, Place.RESIDENT):
                record.obstacle = record.note = ""
            else:
                record.measured = record.gpu_measured = 0
                record.greeted = False

    def place_of(self, number: int) -> Place:
        """Return where a revision was last seen."""
        return self._record(number).place

    def over_limit(self, wanted: Wanted) -> str:
        """Say why a revision cannot stay within its own memory limit; empty when it can, or has none."""
        own, limit = self._predict(wanted).own, wanted.options.memory_limit
        if not limit or own <= limit:
            return ""
        return f"it needs {size(own)} of its own and its memory limit is {size(limit)}"

    def block(self, number: int, why: str) -> None:
        """Record that a revision cannot be brought into memory. After a while a request may try again."""
        record = self._record(number)
        record.obstacle, record.obstacle_until = why, self.clock() + OBSTACLE_SECONDS

    def forget_all_but(self, numbers: Iterable[int]) -> None:
        """Drop the records of revisions that are gone."""
        kept = set(numbers)
        self._records = {number: record for number, record in self._records.items() if number in kept}

    def decide(self, wanted: Iterable[Wanted], others: Mapping[int, int] | None = None) -> list[Decision]:
        """Ask the planner, and remember what is new in its answer.

        `others` are engines that nobody wants any more and that still end their streams: revision -> bytes.
        """
        wanted = list(wanted)
        self._place_layers(wanted)
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

    def preview(self, wanted: Iterable[Wanted], newcomer: Wanted) -> tuple[Footprint, list[Decision], str]:
        """Say what would happen if one more were deployed, and where its layers would go; nothing is remembered."""
        members = [self.member(entry) for entry in wanted]
        self._settle(newcomer, self._placed(newcomer, self._free_of_gpus(members)))
        needs, one_more = self._predict(newcomer), self.member(newcomer)
        placement = self._records.pop(newcomer.number).placement
        decisions = decide([*members, one_more], self.room(), self.clock())
        return needs, decisions, placement.why if self._sighting.plugged else ""

    def member(self, wanted: Wanted) -> Member:
        """One revision as the planner sees it."""
        record = self._record(wanted.number)
        predicted = self._predict(wanted).most + (record.on_gpu if record.placement.shared else 0)
        return Member(
            revision=wanted.number,
            name=wanted.deployment,
            needs=max(predicted, record.measured),
            place=record.place,
            pinned=wanted.policy.pinned,
            asked=wanted.starting or record.waiting + record.guests > 0,
            home=not record.unloaded,
            active=record.active,
            used=record.used,
            since=record.since,
            idle_timeout=wanted.policy.idle_timeout or self.settings.idle_timeout,
            device=record.placement.gpu,
            device_needs=record.on_gpu,
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
            devices=dict(self._budgets),
        )

    def gpus(self) -> tuple[tuple[t.GpuView, ...], str]:
        """Every GPU that engines can use, and why the list could not be had."""
        used: Counter[str] = Counter()
        for record in self._records.values():
            if record.place != Place.ABSENT:
                used[record.placement.gpu] += record.on_gpu
        views = tuple(
            t.GpuView(
                name=device.name,
                description=device.description,
                total=device.total,
                free=device.free,
                budget=self._budgets[device.name],
                used=used[device.name],
            )
            for device in self._sighting.devices
        )
        return views, self._sighting.problem

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
        predicted = self._predict(wanted)
        on_device = predicted.device.allocated
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
            placement=record.placement.why if self._sighting.plugged else "",
            gpu=record.placement.gpu,
            gpu_layers=record.placement.layers,
            gpu_measured=record.gpu_measured,
            gpu_error=record.gpu_measured / on_device - 1 if record.gpu_measured and on_device else None,
        )

    def _predict(self, wanted: Wanted) -> Footprint:
        return predict(wanted, self.settings, self._record(wanted.number).placement)

    def _place_layers(self, wanted: Sequence[Wanted]) -> None:
        """Choose anew where the layers of those go that are out, those first that somebody waits for."""
        free = self._free_of_gpus([self.member(entry) for entry in wanted])
        absent = [entry for entry in wanted if self._record(entry.number).place == Place.ABSENT]
        for entry in sorted(absent, key=lambda one: not (one.starting or self._record(one.number).waiting)):
            placement = self._placed(entry, free)
            self._settle(entry, placement)
            free[placement.gpu] -= self._record(entry.number).on_gpu

    def _free_of_gpus(self, members: Iterable[Member]) -> Counter[str]:
        free = Counter(self._budgets)
        for member in members:
            if member.place != Place.ABSENT:
                free[member.device] -= member.device_needs
        return free

    def _placed(self, wanted: Wanted, free: Counter[str]) -> Placement:
        if wanted.options.kind != "generate":
            return Placement(why="on the processor, as encoders are")
        if off := self._record(wanted.number).off_gpu:
            return Placement(why=off)
        gpus = [
            Gpu(name=device.name, backend=device.backend, free=free[device.name], shared=device.shared)
            for device in self._sighting.devices
        ]
        alone = predict(wanted, self.settings)
        return place(alone, shape_of(wanted.description), asked=wanted.options.gpu_layers, gpus=gpus)

    def _settle(self, wanted: Wanted, placement: Placement) -> None:
        record = self._record(wanted.number)
        record.placement = placement
        record.on_gpu = self._predict(wanted).device.total

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


def predict(wanted: Wanted, settings: Settings, placement: Placement = ON_PROCESSOR) -> Footprint:
    """What an engine will need, from the model's description and the options, with its layers where they are placed."""
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
        alone = offloaded(alone, shape, layers=placement.layers, backend=placement.backend)
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
        device=footprint.device.total,
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
