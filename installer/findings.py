"""One finding: something was looked at, and it is fine, doubtful or in the way.

Checks collect findings instead of stopping at the first fault, so that a person sees everything missing at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from appliance.kernel.terminal import counted


class Level(StrEnum):
    """How bad it is. `FAIL` stops the installation, `WARN` does not."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, what was found, and what to do about it."""

    level: Level
    what: str
    found: str
    hint: str = ""


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that stop the installation."""
    return [finding for finding in findings if finding.level is Level.FAIL]


def in_the_way(bad: Sequence[Finding]) -> str:
    """Return how much stops the installation, as the beginning of a sentence."""
    return f"{counted(len(bad), 'thing')} {'is' if len(bad) == 1 else 'are'} in the way"
