"""How far a run is, and how long it will go on.

A task counts for the seconds that it took when a box of two processors was installed; a slower machine is slower at all
of them, so what is left follows from the time that passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from installer.events import Progress
from installer.playbooks import Phase

_USUAL = 0.28
"""Seconds: the mean of all the tasks that are not named below."""
SLOW = {
    ("base", "Install the packages"): 34.0,
    ("app", "Compile what may be loaded at a start, so no library's own tests"): 25.0,
    ("integrity", "Record the system"): 19.0,
    ("app", "Install the locked packages, each by its hash"): 9.0,
    ("monitor", "Install them"): 7.0,
    ("backup", "Take the first one"): 5.0,
    ("evidence", "Install OpenSCAP, its content and Lynis"): 4.5,
    ("lifeline", "Prove a new login and sudo, then disarm"): 3.5,
    ("app", "Start the appliance now and at every boot"): 3.5,
    ("evidence", "Record what is in effect"): 2.5,
    ("sandbox", "Look at what runs"): 2.5,
    ("app", "Make its virtual environment"): 2.0,
}
"""Seconds of the tasks that take two and more, by role and name."""
_EARLY = 5.0
"""Seconds: in the first ones an estimate of what is left would be a guess."""


class Pace:
    """Follows one invocation of a run. `now` is a monotonic clock's, in seconds."""

    def __init__(self, phases: Iterable[Phase], *, finished: Sequence[str], now: float) -> None:
        self._expected = {
            phase.name: sum(_seconds(role, task) for role, task in named_tasks(phase)) or _USUAL for phase in phases
        }
        self._total = sum(self._expected.values()) or 1.0
        self._finished = sum(self._expected.get(name, 0.0) for name in finished)
        self._phase = 0.0
        self._began, self._began_at = now, self._finished

    def task_done(self, phase: str, role: str, task: str, *, now: float) -> Progress:
        """Count a task; handlers, which no plan has, never bring a phase beyond what was expected of it."""
        self._phase = min(self._phase + _seconds(role, task), self._expected[phase])
        reached, elapsed = self._finished + self._phase, now - self._began
        way = reached - self._began_at
        eta = round(elapsed / way * (self._total - reached), 1) if way > _EARLY else None
        return Progress(phase=phase, fraction=round(reached / self._total, 4), eta_seconds=eta)

    def phase_done(self, phase: str) -> None:
        """Count a phase as a whole."""
        self._finished += self._expected[phase]
        self._phase = 0.0


def named_tasks(phase: Phase) -> list[tuple[str, str]]:
    """Return the tasks of a phase as events name them: a role's entry, `app (ground)`, is its role there."""
    return [(role.name.partition(" ")[0], task.name) for role in phase.roles for task in role.tasks]


def _seconds(role: str, task: str) -> float:
    return SLOW.get((role, task), _USUAL)
