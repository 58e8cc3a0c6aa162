"""Drift: what was in order since the box was installed, and is not any more. Pure.

It stays drift until it is put right or waived, however many collections come between. A control that passed and then
says that it does not apply has drifted as well: deleting what it looks at must not end the alarm. The answers change
only with a run of the installer, so what does not apply right after one (label `installed`) is what they ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from installer.evidence.control import Status
from installer.evidence.document import Evidence

BEFORE = "before"
INSTALLED = "installed"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A control's verdict in an earlier evidence. One that asks for something else has another title."""

    id: str
    title: str
    status: Status


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What drift asks of an earlier evidence; the rest is not decoded."""

    label: str
    profile: str
    controls: tuple[Mark, ...]


def drift(earlier: Iterable[Past], now: Evidence) -> tuple[str, ...]:
    """Return the controls that have drifted. `earlier` is oldest first; what another profile saw says nothing."""
    in_order: set[tuple[str, str]] = set()
    applied: set[tuple[str, str]] = set()
    for each in earlier:
        if each.profile != now.profile:
            continue
        if each.label == INSTALLED:
            applied.clear()
        passed = {(mark.id, mark.title) for mark in each.controls if mark.status is Status.PASS}
        applied |= passed
        in_order |= passed | {(mark.id, mark.title) for mark in each.controls if mark.status is Status.WAIVED}
    if now.label == INSTALLED:
        applied.clear()
    lost = {Status.FAIL: in_order, Status.ERROR: in_order, Status.NOT_APPLICABLE: applied}
    return tuple(each.id for each in now.controls if (each.id, each.title) in lost.get(each.status, ()))


def since_installation(earlier: Iterable[Past]) -> list[Past]:
    """Leave out what was seen before our hardening: nobody promised to keep it."""
    return [each for each in earlier if each.label != BEFORE]
