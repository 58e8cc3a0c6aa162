"""What a person wants to know first: counts, score, and what changed between two evidences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from installer.evidence.control import Status
from installer.evidence.document import Evidence, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A control whose status or value is not what it was."""

    id: str
    title: str
    before: str
    after: str
    observed_before: str
    observed_after: str


def changes(before: Evidence, after: Evidence) -> tuple[Change, ...]:
    """Return every control whose status changed, and failing ones whose value did."""
    was = {each.id: each for each in before.controls}
    return tuple(
        Change(
            id=each.id,
            title=each.title,
            before=str(earlier.status) if earlier else "not asked",
            after=str(each.status),
            observed_before=earlier.observed if earlier else "",
            observed_after=each.observed,
        )
        for each in after.controls
        for earlier in [was.get(each.id)]
        if earlier is None or earlier.status is not each.status
    )


def with_status(evidence: Evidence, *statuses: Status) -> tuple[Verdict, ...]:
    """Return the verdicts of these statuses, in the catalogue's order."""
    return tuple(each for each in evidence.controls if each.status in statuses)


def headline(evidence: Evidence) -> str:
    """Return one line: score and counts."""
    counts = evidence.counts()
    parts = [f"{counts[str(status)]} {status}" for status in Status if counts[str(status)] or status is Status.FAIL]
    return f"{evidence.score():.1f} % of what applies passes: {', '.join(parts)}"


def find_verdicts(evidence: Evidence, names: Sequence[str]) -> tuple[Verdict, ...]:
    """Return the verdicts of controls named by id, CIS number, ANSSI recommendation or rule."""
    wanted = {name.lower() for name in names}
    return tuple(
        each
        for each in evidence.controls
        if wanted & {name.lower() for name in (each.id, *each.cis, *each.anssi, *each.ssg)}
    )
