"""A deployment in memory, as the API tells of it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from appliance.api import types as t

_PLAIN = t.ResidentView(
    deployment="chat",
    revision=1,
    model="m@1",
    kind="generate",
    state="resident",
    pinned=False,
    idle_timeout=0,
    used=0,
    active=0,
    waiting=0,
    predicted=t.FootprintView(weights=1, cache=1, compute=1, process=1, total=4),
    measured=0,
    error=None,
    note="",
)


def resident(**changes: Any) -> t.ResidentView:
    """Return the deployment `chat`, idle and not measured yet, but for the changes."""
    return replace(_PLAIN, **changes)
