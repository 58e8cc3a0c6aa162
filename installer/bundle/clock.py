"""What time it is for a box whose clock nobody vouches for.

The effective time is the latest of the machine's clock and of every time that was signed and accepted before: a clock
that was set back, or lost its battery, can only make the box stricter.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


def effective_time(machine: datetime, signed: Iterable[datetime]) -> datetime:
    """Return the latest of the machine's clock and the signed times."""
    return max((machine, *signed))
