"""Our verdicts beside OpenSCAP's: where they differ, which way, and why when we know."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from installer.evidence.control import Status
from installer.evidence.document import Disagreement, ProfileResult, Verdict

_EXPLANATIONS = Path(__file__).parent / "explanations.toml"
_UNEXPLAINED = "Not explained yet: look at both."


@cache
def explanations() -> Mapping[str, str]:
    """Return what we know of rules whose verdict differs from ours for a reason."""
    raw = tomllib.loads(_EXPLANATIONS.read_text(encoding="utf-8"))
    return {str(rule): str(text) for rule, text in raw["explanations"].items()}


def disagreements(
    verdicts: Sequence[Verdict], profiles: Iterable[ProfileResult], known: Mapping[str, str] | None = None
) -> tuple[Disagreement, ...]:
    """List them both ways.

    A control stands for several rules, so it fails rightly when one of them does: it is only listed as harder than
    OpenSCAP when every rule of it that was evaluated passed. Rules that do not apply, by OpenSCAP, say nothing.
    """
    known = explanations() if known is None else known
    results = {each.rule: each.result for profile in profiles for each in profile.results}
    found: list[Disagreement] = []
    for verdict in verdicts:
        rules = {rule: results[rule] for rule in verdict.ssg if results.get(rule) in {"pass", "fail", "error"}}
        if verdict.status in {Status.PASS, Status.NOT_APPLICABLE}:
            different = [rule for rule, result in rules.items() if result in {"fail", "error"}]
        elif rules and set(rules.values()) == {"pass"}:
            different = list(rules)
        else:
            different = []
        found.extend(
            Disagreement(
                control=verdict.id,
                ours=str(verdict.status),
                rule=rule,
                theirs=rules[rule],
                explanation=known.get(rule, _UNEXPLAINED),
            )
            for rule in different
        )
    return tuple(found)


def uncovered(verdicts: Sequence[Verdict], profile: ProfileResult) -> tuple[str, ...]:
    """Return the rules that failed and that no control of ours stands for."""
    ours = {rule for verdict in verdicts for rule in verdict.ssg}
    return tuple(each.rule for each in profile.results if each.result in {"fail", "error"} and each.rule not in ours)
