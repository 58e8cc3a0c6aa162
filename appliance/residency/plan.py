"""Who is in memory when not all models fit: what to load, what to unload, and why, in words for a person.

Pure: memory, use and time are given, nothing is done here. Least recently used leaves first (LRU), pinned models never
leave, and what answers requests leaves only after its turn. There are several memories, main memory and that of each
GPU, and a model comes in when there is room in every one that it needs. Invariant: what is in memory, what is being
loaded and what is still leaving together never exceed the budget of any by the decision of this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TURN: Final = 20.0
"""Seconds that a model which answers requests keeps its place at least."""


MAIN: Final = ""
"""The name of main memory among the memories; the others are named after their GPU."""


class Place(StrEnum):
    """Where a model is."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One revision that is live or starting. Times are seconds of one clock, `needs` bytes of main memory.

    With layers on a GPU it also needs `device_needs` bytes of that `device`.
    `asked` says that somebody waits for it: a deployment that starts, or requests. `idle_timeout` 0 means never.
    `home` says that it belongs into memory without being asked, as long as there is room (it was never unloaded).
    """

    revision: int
    name: str
    needs: int
    place: Place
    pinned: bool = False
    asked: bool = False
    home: bool = False
    active: int = 0
    used: float = 0.0
    since: float = 0.0
    idle_timeout: float = 0.0
    device: str = ""
    device_needs: int = 0

    @property
    def demand(self) -> Counter[str]:
        """Bytes that it needs of each memory."""
        return Counter({MAIN: self.needs, **({self.device: self.device_needs} if self.device_needs else {})})

    def idle(self, now: float) -> float:
        """Seconds since its last request, or since it came where it is if there was none."""
        return now - max(self.used, self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory in bytes: what serving may use, what the system has left for anybody, what serving may use of each GPU."""

    budget: int
    available: int
    devices: Mapping[str, int] = field(default_factory=dict)

    def most(self, memory: str) -> int:
        """What serving may use of a memory; of a GPU that is not there, nothing."""
        return self.budget if memory == MAIN else self.devices.get(memory, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One thing to do or to tell. `action`: load | unload | wait | refuse."""

    action: str
    revision: int
    name: str
    why: str


@dataclass(slots=True)
class _Books:
    """The free memory while decisions are made, and what is on its way back and not promised to anybody."""

    free: Counter[str]
    coming: Counter[str] = field(default_factory=Counter)
    leaving: set[int] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)

    def note(self, action: str, member: Member, why: str) -> None:
        self.decisions.append(Decision(action=action, revision=member.revision, name=member.name, why=why))


def decide(members: Sequence[Member], room: Room, now: float) -> list[Decision]:
    """Return what to do now, most urgent first. What waits for a model that leaves is decided again once it left."""
    taken = _sum(member for member in members if member.place != Place.ABSENT)
    books = _Books(free=Counter({memory: room.most(memory) - taken[memory] for memory in (MAIN, *room.devices)}))
    books.free[MAIN] = min(books.free[MAIN], room.available)
    for member in members:
        if _is_idle(member, now):
            books.leaving.add(member.revision)
            books.note(
                "unload", member, f"no request for {span(member.idle(now))}, its limit is {span(member.idle_timeout)}"
            )
    books.coming = _sum(
        member for member in members if member.place == Place.LEAVING or member.revision in books.leaving
    )
    for member in sorted(_wanted(members), key=_urgency):
        lacking = [memory for memory, needs in member.demand.items() if needs > books.free[memory]]
        if not lacking:
            books.free.subtract(member.demand)
            books.note("load", member, _fits(member, books.free))
        elif not member.asked and not member.pinned:
            books.note(
                "wait",
                member,
                f"needs {_of(member, lacking[0])}, {size(max(0, books.free[lacking[0]]))} are free; "
                "loads when asked for",
            )
        else:
            _make_room(member, members, books, room, now)
    return books.decisions


def _make_room(member: Member, members: Sequence[Member], books: _Books, room: Room, now: float) -> None:
    """Unload for one that is asked for."""
    fixed = _sum(other for other in members if other.pinned and other.revision != member.revision and _is_in(other))
    for memory, needs in member.demand.items():
        if needs > room.most(memory) - fixed[memory]:
            held = f", of which pinned models hold {size(fixed[memory])}" if fixed[memory] else ""
            there = " there" if memory else ""
            most = size(room.most(memory))
            books.note("refuse", member, f"needs {_of(member, memory)}; serving may use {most}{there}{held}")
            return
    short = Counter({memory: needs - books.free[memory] - books.coming[memory] for memory, needs in _each(member)})
    victims: list[Member] = []
    for other in sorted(members, key=lambda other: (other.active > 0, other.used)):
        if _may_leave(other, member, books, now) and any(short[memory] > 0 for memory, _ in _each(other)):
            victims.append(other)
            short.subtract(other.demand)
    lacking = [memory for memory, missing in short.items() if missing > 0]
    if lacking:
        why = "what is in memory is pinned, loading or answering"
        if lacking[0] == MAIN and room.available < room.budget:
            why = f"the system has {size(room.available)} available, and {why}"
        books.note("wait", member, f"needs {_of(member, lacking[0])} and has to wait: {why}")
        return
    scarce = [memory for memory, needs in _each(member) if needs > books.free[memory] + books.coming[memory]]
    for victim in victims:
        books.leaving.add(victim.revision)
        ago = f"{span(now - victim.used)} ago" if victim.used else "never used"
        freed = next(memory for memory in scarce if victim.demand[memory])
        books.note("unload", victim, f"least recently used ({ago}); frees {_of(victim, freed)} for {member.name}")
    books.note("wait", member, f"needs {_of(member, MAIN)}; loads when what leaves has left")
    books.coming.update(_sum(victims))
    for memory, needs in _each(member):  # promised: the free part first, the rest from what is coming
        books.coming[memory] += books.free[memory] - needs
        books.free[memory] = 0


def _sum(members: Iterable[Member]) -> Counter[str]:
    total: Counter[str] = Counter()
    for member in members:
        total.update(member.demand)
    return total


def _each(member: Member) -> Iterable[tuple[str, int]]:
    """The memories it needs something of, main memory first."""
    return ((memory, needs) for memory, needs in member.demand.items() if needs > 0)


def _of(member: Member, memory: str) -> str:
    """How much of a memory it needs, in words."""
    return f"{size(member.demand[memory])}{f' of {memory}' if memory else ''}"


def _fits(member: Member, free: Counter[str]) -> str:
    said = f"needs {size(member.needs)}, which leaves {size(free[MAIN])} of serving's memory"
    if member.device_needs:
        said += f"; and {_of(member, member.device)}, which leaves {size(free[member.device])} there"
    return said


def _wanted(members: Sequence[Member]) -> list[Member]:
    return [
        member for member in members if member.place == Place.ABSENT and (member.asked or member.pinned or member.home)
    ]


def _urgency(member: Member) -> tuple[bool, bool, float, int]:
    return (not member.asked, not member.pinned, -member.used, member.revision)


def _is_in(member: Member) -> bool:
    return member.place in (Place.RESIDENT, Place.LOADING)


def _is_idle(member: Member, now: float) -> bool:
    return (
        member.place == Place.RESIDENT
        and not (member.pinned or member.asked or member.active)
        and 0 < member.idle_timeout < member.idle(now)
    )


def _may_leave(other: Member, member: Member, books: _Books, now: float) -> bool:
    return (
        other.place == Place.RESIDENT
        and other.revision != member.revision
        and other.revision not in books.leaving
        and not (other.pinned or other.asked)
        and (other.active == 0 or now - other.since >= TURN)
    )


def size(count: int) -> str:
    """Bytes for a person."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GiB"
    return f"{count / (1 << 20):.0f} MiB"


def span(seconds: float) -> str:
    """A duration for a person."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
