"""The home screen: one health line per subsystem, running jobs, what needs attention, the newest audit events."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.api.types import AuditEntry, JobView, StatusView, UnitView
from appliance.kernel.terminal import counted
from tui import format as fmt
from tui.text import Line, Look, Span, Tone, heading, hint, line, state
from tui.views.jobs import progress_text

LOW_DISK = 0.10
"""Below this free share of the disk the line warns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeData:
    """What the home screen is made of. `audit` is None where the caller may not read the trail."""

    status: StatusView
    jobs: tuple[JobView, ...]
    audit: tuple[AuditEntry, ...] | None


def home_lines(data: HomeData, look: Look) -> list[Line]:
    """Render the home screen, most urgent first."""
    return [
        *_attention(data.status, look),
        heading("Health"),
        *_health(data.status, look),
        *_jobs(data, look),
        *_audit(data, look),
    ]


def _row(word: str, name: str, text: str, look: Look, detail: str = "") -> Line:
    said = fmt.fit(text, 24) if detail else fmt.clean(text)
    return line("   ", state(word, look), f"  {fmt.fit(name, 18)} {said}", Span(f"  {detail}", Tone.FAINT))


def _attention(status: StatusView, look: Look) -> list[Line]:
    if not status.attention:
        return []
    lines = [heading("Needs attention")]
    for item in status.attention:
        lines.append(line("   ", state(item.level, look), f"  {fmt.clean(item.text)}"))
        if item.hint:
            lines.append(hint(f"        {fmt.clean(item.hint)}"))
    return lines


def _health(status: StatusView, look: Look) -> list[Line]:
    lines = [_unit(unit, status, look) for unit in status.units]
    free = status.disk_free / status.disk_total if status.disk_total else 0.0
    disk = f"{fmt.size(status.disk_free)} free of {fmt.size(status.disk_total)}"
    lines.append(_row("warn" if free < LOW_DISK else "ok", "disk", disk, look, fmt.share(free)))
    lines.append(_row("ok", "memory", f"{fmt.size(status.memory_available)} available", look))
    if status.last_backup:
        lines.append(_row("ok", "backup", f"newest {fmt.ago(status.last_backup, look.now)}", look))
    else:
        lines.append(_row("warn", "backup", "none yet", look, "press 6, then b"))
    signed = f"signed {fmt.ago(status.audit_checkpoint, look.now)}" if status.audit_checkpoint else "not signed yet"
    lines.append(_row("ok", "audit trail", counted(status.audit_events, "event"), look, signed))
    what = f"{counted(status.models, 'model')}, {counted(status.datasets, 'data set')}, {status.deployments} served"
    lines.append(_row("ok", "catalogue", what, look))
    return lines


def _unit(unit: UnitView, status: StatusView, look: Look) -> Line:
    text = status.address if unit.name == "gateway" else (unit.detail or unit.state)
    parts = [fmt.size(unit.memory_bytes)] if unit.memory_bytes else []
    if unit.since:
        parts.append(f"for {fmt.ago(unit.since, look.now).removesuffix(' ago')}")
    if unit.restarts:
        parts.append(counted(unit.restarts, "restart"))
    return _row(unit.state, fmt.clean(unit.name), text, look, ", ".join(parts))


def _jobs(data: HomeData, look: Look) -> list[Line]:
    status = data.status
    lines = [heading(f"Jobs: {status.jobs_running} running, {status.jobs_queued} waiting")]
    active = [job for job in data.jobs if job.state in ("running", "queued")]
    for job in sorted(active, key=lambda job: job.state != "running")[:3]:
        text = f"  {fmt.fit(job.what, 32)} "
        lines.append(line("   ", state(job.state, look), text, progress_text(job, look)))
    if not active:
        lines.append(hint("Nothing to do. Start one: intramuros train lora --base MODEL --data DATASET"))
    return lines


def _audit(data: HomeData, look: Look) -> list[Line]:
    lines = [heading("Newest audit events")]
    if data.audit is None:
        return [*lines, hint("Only an administrator or an auditor may read the audit trail.")]
    for entry in data.audit:
        at = fmt.brief_moment(entry.at, look.now)
        who = f"{fmt.fit(at, 11)} {fmt.fit(entry.actor, 11)} {fmt.fit(entry.action, 20)} {fmt.fit(entry.target, 18)} "
        lines.append(line(f"   {who}", entry.phase))
    if not data.audit:
        lines.append(hint("No event yet."))
    return lines
