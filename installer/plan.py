"""What an installation will do, in order, before anything is done. Pure: the same inputs give the same digest.

The digest covers the answers, the bundle and the playbooks' own text, and decides whether a broken run may go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.kernel.canonical import digest_of
from appliance.kernel.terminal import counted
from installer.answers import Answers, as_document
from installer.playbooks import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One phase of the plan; `skipped` says why it is not run."""

    phase: Phase
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All phases in order. `digest` names what is done to which box; `check` does not belong to it."""

    book: str
    hostname: str
    profile: str
    bundle: str
    steps: tuple[Step, ...]
    digest: str

    @property
    def to_run(self) -> tuple[Phase, ...]:
        """Return the phases that are run."""
        return tuple(step.phase for step in self.steps if not step.skipped)


_NEEDED: dict[str, tuple[Callable[[Answers], bool], str]] = {
    "storage": (lambda answers: answers.storage.mode == "luks", "storage.mode is not luks"),
    "appliance": (lambda answers: answers.app.enabled, "app.enabled is false"),
}
"""The conditions of site.yml; a test holds the two together."""


def make_plan(
    *,
    book: str,
    phases: Sequence[Phase],
    answers: Answers,
    bundle: str,
    playbooks_digest: str,
    only: Sequence[str] = (),
) -> Plan:
    """Put the phases in order. `bundle` is the bundle's manifest digest, or "" without one; `only` names phases."""
    steps = tuple(Step(phase=phase, skipped=_skipped(phase, answers, only)) for phase in phases)
    digest = digest_of(
        {
            "book": book,
            "phases": [step.phase.name for step in steps if not step.skipped],
            "answers": as_document(answers),
            "bundle": bundle,
            "playbooks": playbooks_digest,
        }
    )
    return Plan(
        book=book,
        hostname=answers.hostname,
        profile=answers.profile,
        bundle=bundle,
        steps=steps,
        digest=digest,
    )


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain data, every task by name."""
    return {
        "book": plan.book,
        "hostname": plan.hostname,
        "profile": plan.profile,
        "bundle": plan.bundle,
        "digest": plan.digest,
        "phases": [
            {
                "name": step.phase.name,
                "title": step.phase.title,
                "skipped": step.skipped,
                "roles": [
                    {"name": role.name, "tasks": [{"name": task.name, "tags": list(task.tags)} for task in role.tasks]}
                    for role in step.phase.roles
                ],
            }
            for step in plan.steps
        ],
    }


def plan_text(plan: Plan, *, tasks: bool = True) -> str:
    """Return the plan for a person: one line for each phase, role and task."""
    number = len(plan.to_run)
    lines = [f"plan {plan.digest[:12]} for {plan.hostname}: {number} phases, profile {plan.profile}"]
    for index, step in enumerate(plan.steps, start=1):
        tail = f" - not run: {step.skipped}" if step.skipped else ""
        lines.append(f"{index}. {step.phase.name}: {step.phase.title}{tail}")
        if step.skipped:
            continue
        for role in step.phase.roles:
            lines.append(f"   {role.name} ({counted(len(role.tasks), 'task')})")
            if tasks:
                lines += [f"     - {task.name}{_controls(task.tags)}" for task in role.tasks]
    return "\n".join(lines)


def _skipped(phase: Phase, answers: Answers, only: Sequence[str]) -> str:
    if only and phase.name not in only:
        return "not asked for"
    needed, reason = _NEEDED.get(phase.name, (lambda _: True, ""))
    return "" if needed(answers) else reason


def _controls(tags: Sequence[str]) -> str:
    ids = [tag for tag in tags if tag.startswith(("cis_", "anssi_", "ssg_"))]
    return f"  [{', '.join(ids)}]" if ids else ""
