"""What the wizard needs of the installer, and nothing more. `tui.install.real` implements it; the tests' fake does too.

Calls may take seconds: the full screen makes them in a thread, line mode waits. Each raises IntramurosError only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from installer.answers import Answers
from installer.events import StepEvent
from installer.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known before anything is asked."""

    host: str
    release: str
    """of the bundle, such as `0.1.0`"""
    suggestions: Mapping[str, tuple[str, ...]]
    """by field key; the first one fills an empty form, the others are offered"""
    bundle: str = ""
    """folder of the bundle"""
    installed: str = ""
    """when the newest installation ended well (RFC 3339, UTC); empty when none did"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step of the plan, as it will be done or why it will not."""

    name: str
    """of its phase, as the events call it"""
    title: str
    detail: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A run that was begun and has not ended well."""

    run: str
    since: str
    """RFC 3339, UTC"""
    phase: str
    alive: bool
    """its process goes on without us, as after a lost connection"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a run stopped."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the run ended."""

    facts: tuple[tuple[str, str], ...]
    """address, fingerprint, first key, evidence: a name of at most 12 cells, and what it is"""
    next: tuple[str, ...]
    """what to do now, one sentence each"""
    changed: int = 0
    problem: Problem | None = None


class Backend(Protocol):
    """The installer behind the wizard."""

    def machine(self) -> Machine:
        """Look at the box."""

    def examine(self, answers: Answers | None) -> tuple[Finding, ...]:
        """Pre-flight: without answers what every installation needs, with answers what these need."""

    def plan(self, answers: Answers) -> tuple[PlannedStep, ...]:
        """Every step in order. Changes nothing."""

    def secrets_wanted(self, answers: Answers) -> tuple[str, ...]:
        """Names of the secrets that a person has to type for these answers."""

    def secrets_kept(self) -> frozenset[str]:
        """Names of those that lie in memory already."""

    def keep_secret(self, name: str, secret: str) -> None:
        """Write a secret to memory, mode 0600."""

    def unfinished(self) -> Unfinished | None:
        """A run to go on with."""

    def begin(self, answers: Answers, text: str) -> None:
        """Start the run with an answer file that holds these answers. Returns at once."""

    def follow(self) -> Iterator[StepEvent]:
        """Every event of the run from its beginning, until it ends. Only one thread may iterate."""

    def stop(self) -> None:
        """Ask the run to end after its present task."""

    def report(self) -> Report:
        """How the run ended."""

    def new_recovery_key(self, answers: Answers) -> str | None:
        """A new recovery key for a volume that has none, or None when none is needed or one was confirmed before."""

    def lay_recovery_key(self, key: str) -> None:
        """Two of its groups were typed back: lay it down for the run, in memory."""

    def lifeline(self) -> float | None:
        """Seconds until the box restores its old state; None while nothing is armed."""
