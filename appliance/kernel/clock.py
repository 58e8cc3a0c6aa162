"""Time and identifiers: aware UTC instants, RFC 3339 text, and ULIDs that sort by creation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ulid import ULIDGenerator

Clock = Callable[[], datetime]
"""Where a decision depends on time, the clock is passed in."""


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


def to_text(instant: datetime) -> str:
    """Format an aware instant as RFC 3339 with microseconds and `Z`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """Parse what `to_text` wrote. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def new_id() -> str:
    """Return a new ULID: 26 characters; it sorts after those given before, even if the clock was set back."""
    with _giving:  # the library reads the clock outside its own lock
        return str(_generator().generate())


def continue_ids_after(latest: str) -> None:
    """Give no id from now on that sorts before `latest`, which an earlier process gave."""
    from ulid import ULID

    global _floor
    with _giving:
        _floor = min(max(_floor, ULID.from_str(latest).milliseconds + 1), _LAST)


_giving = threading.Lock()
_LAST: Final = 2**48 - 1
"""the largest time that a ULID can say"""
_floor = 0
"""milliseconds of the Unix epoch, below which no further id is given"""


@cache
def _generator() -> ULIDGenerator:
    from ulid import ULIDGenerator

    return ULIDGenerator(clock=_advancing)


def _advancing() -> int:
    global _floor
    _floor = max(_floor, time.time_ns() // 1_000_000)
    return _floor
