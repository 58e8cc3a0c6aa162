"""Who is in memory when not all models fit: what to load, what to unload, and why, in words for a person.

Pure: memory, use and time are given, nothing is done here. Least recently used leaves first (LRU), pinned models never
leave, and what answers requests leaves only after its turn. Invariant: what is in memory, what is being loaded and what
is still leaving together never exceed the budget by the decision of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TURN: Final = 20.0
"""Seconds that a model which answers requests keeps its place at least."""


class Place(StrEnum):
    """Where a model is."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One revision that is live or starting. Times are seconds of one clock, `needs` bytes.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory in bytes: what serving may use, and what the system has left for anybody."""

    budget: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One thing to do or to tell. `action`: load | unload | wait | refuse."""

    action: str
    revision: int
    name: str
    why: str


@dataclass(slots=True)
class _Books:
    """The free memory while decisions are made."""

    free: int
    leaving: set[int] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)

    def note(self, action: str, member: Member, why: str) -> None:
        self.decisions.append(Decision(action=action, revision=member.revision, name=member.name, why=why))


def decide(members: Sequence[Member], room: Room, now: float) -> list[Decision]:
    """Return what to do now, most urgent first. What waits for a model that leaves is decided again once it left."""
    taken = sum(member.needs for member in members if member.place != Place.ABSENT)
    books = _Books(free=min(room.budget - taken, room.available))
    for member in members:
        if _is_idle(member, now):
            books.leaving.add(member.revision)
            books.note(
                "unload", member, f"no request for {span(now - member.used)}, its limit is {span(member.idle_timeout)}"
            )
    coming = sum(
        member.needs for member in members if member.place == Place.LEAVING or member.revision in books.leaving
    )
    for member in sorted(_wanted(members), key=_urgency):
        if member.needs <= books.free:
            books.free -= member.needs
            books.note(
                "load", member, f"needs {size(member.needs)}, which leaves {size(books.free)} of serving's memory"
            )
        elif not member.asked and not member.pinned:
            books.note(
                "wait", member, f"needs {size(member.needs)}, {size(max(0, books.free))} are free; loads when asked for"
            )
        else:
            coming = _make_room(member, members, books, coming, room, now)
    return books.decisions


def _make_room(member: Member, members: Sequence[Member], books: _Books, coming: int, room: Room, now: float) -> int:
    """Unload for one that is asked for; returns how much memory is on its way back and not promised yet."""
    fixed = sum(
        other.needs for other in members if other.pinned and other.revision != member.revision and _is_in(other)
    )
    if member.needs > room.budget - fixed:
        held = f", of which pinned models hold {size(fixed)}" if fixed else ""
        books.note("refuse", member, f"needs {size(member.needs)}; serving may use {size(room.budget)}{held}")
        return coming
    short = member.needs - books.free - coming
    victims: list[Member] = []
    for other in sorted(members, key=lambda other: (other.active > 0, other.used)):
        if short <= 0:
            break
        if _may_leave(other, member, books, now):
            victims.append(other)
            short -= other.needs
    if short > 0:
        why = "what is in memory is pinned, loading or answering"
        if room.available < room.budget:
            why = f"the system has {size(room.available)} available, and {why}"
        books.note("wait", member, f"needs {size(member.needs)} and has to wait: {why}")
        return coming
    for victim in victims:
        books.leaving.add(victim.revision)
        ago = f"{span(now - victim.used)} ago" if victim.used else "never used"
        books.note("unload", victim, f"least recently used ({ago}); frees {size(victim.needs)} for {member.name}")
    books.note("wait", member, f"needs {size(member.needs)}; loads when what leaves has left")
    left_over = books.free + coming + sum(victim.needs for victim in victims) - member.needs
    books.free = 0  # promised
    return left_over


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
        and 0 < member.idle_timeout < now - max(member.used, member.since)
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
