"""Jobs: the list as a tree, and one job with its live loss curve, progress, time left and the end of its log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from appliance.api.types import CampaignView, JobDetail, JobEvents, JobView
from appliance.kernel.events import (
    CheckpointSaved,
    CheckpointSkipped,
    Event,
    Metric,
    Note,
    Progress,
    StateChanged,
)
from tui import format as fmt
from tui.plot import plot
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, facts, heading, hint, line, state
from tui.views.campaigns import campaign_text
from tui.views.compare import figure_text, figures_in
from tui.views.trials import values_text

ENDED = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
_POINTS = 4096
_LOG = 1000
_PLOT_HEIGHT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsData:
    """Queue and history, and the searches, k-folds, pipelines and repetitions that some of them are a part of."""

    jobs: tuple[JobView, ...]
    campaigns: tuple[CampaignView, ...] = ()


def tree_of(data: JobsData) -> tuple[tuple[JobView | CampaignView, tuple[JobView, ...]], ...]:
    """Return what stands alone or above, newest first, each with the jobs that are a part of it, oldest first."""
    above = {one.id for one in data.campaigns}
    parts: dict[str, list[JobView]] = {}
    for job in reversed(data.jobs):
        if job.parent in above:
            parts.setdefault(job.parent, []).append(job)
    heads: list[JobView | CampaignView] = [job for job in data.jobs if job.parent not in above]
    heads += data.campaigns
    heads.sort(key=lambda one: one.created_at, reverse=True)
    return tuple((head, tuple(parts.get(head.id, ()))) for head in heads)


def jobs_in_order(data: JobsData) -> tuple[JobView | CampaignView, ...]:
    """Return the things of the table's rows."""
    return tuple(one for head, parts in tree_of(data) for one in (head, *parts))


def jobs_table(data: JobsData, look: Look) -> Table:
    """Queue and history as a tree, newest first."""
    rows = []
    for head, parts in tree_of(data):
        rows.append(_row(head, look))
        for part in parts:
            rows.append(replace(_row(part, look), branch=_branch(look, last=part is parts[-1])))
    return Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Title"),
            Column(title="Kind", width=14),
            Column(title="Progress", width=22),
            Column(title="Created", width=11),
            Column(title="Job", width=10, wide=True),
            Column(title="By", width=12, wide=True),
        ),
        rows=tuple(rows),
    )


def _row(one: JobView | CampaignView, look: Look) -> Row:
    return Row(
        key=one.id,
        cells=(
            state(one.state, look),
            Span(one.what if isinstance(one, JobView) else one.title, Tone.STRONG),
            Span(one.kind),
            Span(campaign_text(one) if isinstance(one, CampaignView) else progress_text(one, look)),
            Span(fmt.brief_moment(one.created_at, look.now)),
            Span(one.id[-10:]),
            Span(one.created_by),
        ),
    )


def _branch(look: Look, *, last: bool) -> str:
    if look.spoken:
        return "part of it: "
    return ("`- " if last else "|- ") if look.ascii else ("└ " if last else "├ ")


def progress_text(job: JobView, look: Look) -> str:
    """Where a job stands, in 22 cells: a bar and a share, a reason, or the time it took."""
    progress = job.progress
    match job.state:
        case "running" if progress is not None:
            done = fmt.share(progress.fraction)
            left = f" {fmt.duration(progress.eta_seconds)}" if progress.eta_seconds is not None else ""
            return f"{done}{left} left" if look.spoken else f"{_bar(progress, 8, look)} {done}{left}"
        case "failed" if job.problem is not None:
            return job.problem.code
        case "succeeded" if job.cached:
            return "same run, reused"
        case "succeeded":
            took = _seconds(job)
            return f"took {fmt.duration(took)}" if took is not None else ""
        case _:
            return job.told_state


@dataclass(slots=True, kw_only=True)
class JobWatch:
    """A job being followed: its record, the losses seen and the end of its log. Bounded."""

    detail: JobDetail
    next: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """learning rates, beside the losses"""
    stride: int = 1
    """one step of so many is kept, so that the curve of a long run stays bounded and true in time"""
    seen: int = 0
    log: deque[Line] = field(default_factory=lambda: deque(maxlen=_LOG))

    def take(self, page: JobEvents) -> None:
        """Add a page of the log."""
        for item in page.events:
            if isinstance(item.event, Progress):
                if item.event.loss is not None:
                    self._take_loss(item.event.loss, item.event.learning_rate)
            else:
                self.log.append(line("   ", Span(fmt.moment(item.at)[11:] + "  ", Tone.FAINT), *_said(item.event)))
        self.next = page.next

    def _take_loss(self, loss: float, rate: float | None) -> None:
        if self.seen % self.stride == 0:
            self.losses.append(loss)
            if rate is not None:
                self.rates.append(rate)
        self.seen += 1
        if len(self.losses) > _POINTS:
            self.losses, self.rates, self.stride = self.losses[::2], self.rates[::2], self.stride * 2


def job_lines(watch: JobWatch, look: Look) -> list[Line]:
    """One job; the log takes the room that is left, at least six lines."""
    job = watch.detail.job
    lines = [*_facts(job, look), *_loss(watch, look)]
    room = max(6, look.height - len(lines) - 1)
    tail = list(watch.log)[-room:]
    if tail:
        lines += [heading("Log"), *tail]
    elif not lines:
        lines.append(hint("No log yet."))
    return lines


def job_log_lines(watch: JobWatch, look: Look) -> list[Line]:
    """The whole log that is kept, then input and output."""
    job = watch.detail
    lines = [heading("Log"), *watch.log] if watch.log else [hint("This job has said nothing yet.")]
    lines.append(heading("Inputs"))
    inputs = job.spec.get("inputs", {})
    lines += [
        fact(name, fmt.clean(str(ref.get("ref", ""))), f"  {ref.get('digest', '')[:12]}")
        for name, ref in inputs.items()
    ]
    lines.append(heading("Files"))
    lines += [fact(fmt.size(entry.size), fmt.clean(entry.path), f"  {fmt.short(entry.digest)}") for entry in job.files]
    if not job.files:
        lines.append(hint("No output file yet."))
    return lines


def _facts(job: JobView, look: Look) -> list[Line]:
    lines = [
        fact(
            "state",
            state(job.state, look),
            f" {job.told_state}",
            Span(f"   attempt {job.attempt}" if job.attempt > 1 else ""),
        ),
        fact("kind", job.kind),
        fact("job", job.id, Span(f"   run {fmt.short(job.run_id)}", Tone.FAINT)),
        fact("created", f"{fmt.moment(job.created_at)} UTC by {fmt.clean(job.created_by)}"),
    ]
    if job.part is not None:
        lines.append(fact("part of", fmt.clean(f"{job.part.name} of {job.part.kind} "), Span(job.parent, Tone.FAINT)))
        lines += facts("values", values_text(job.part.values), look)
    elif job.parent:
        lines.append(fact("part of", Span(f"campaign {job.parent}", Tone.FAINT)))
    progress = job.progress
    if progress is not None and job.state not in ENDED:
        shown = "" if look.spoken else _bar(progress, 24, look) + " "
        steps = f"  step {progress.step} of {progress.steps}" if progress.steps else ""
        left = f"  {fmt.duration(progress.eta_seconds)} left" if progress.eta_seconds is not None else ""
        lines.append(fact(progress.phase, f"{shown}{fmt.share(progress.fraction)}{steps}{left}"))
        speed = [f"{fmt.count(round(progress.tokens_per_second))} tokens/s"] if progress.tokens_per_second else []
        speed += [f"{fmt.size(progress.memory_bytes)} memory"] if progress.memory_bytes else []
        if speed:
            lines.append(fact("speed", ", ".join(speed)))
    if (took := _seconds(job)) is not None:
        lines.append(fact("took", fmt.duration(took), "   equal run found, nothing was repeated" if job.cached else ""))
    if job.problem is not None:
        lines += facts("problem", f"{job.problem.code}: {job.problem.message}", look, Tone.BAD)
        lines += facts("", job.problem.hint, look)
    figures = [f"{name} {figure_text(name, value)}" for name, value in figures_in(job.summary).items()]
    return lines + facts("result", "  ".join(figures), look)[:3]


def _loss(watch: JobWatch, look: Look) -> list[Line]:
    if len(watch.losses) < 2:
        return []
    first, last, least = watch.losses[0], watch.losses[-1], min(watch.losses)
    title = f"Loss {last:.3g} (began {first:.3g}, lowest {least:.3g})"
    rate = f"Learning rate {watch.rates[-1]:.3g}" if watch.rates else ""
    if look.spoken:
        return [heading(title), *([heading(rate)] if rate else [])]
    height = _PLOT_HEIGHT if look.height < 30 else 12
    if len(watch.rates) < 2:
        drawn = plot(watch.losses, width=look.width - 4, height=height, ascii=look.ascii)
        return [heading(title), *(line(f"  {row}") for row in drawn)]
    left, right = (look.width - 4) * 3 // 5, (look.width - 4) * 2 // 5 - 2
    losses = plot(watch.losses, width=left, height=height, ascii=look.ascii)
    rates = plot(watch.rates, width=right, height=height, ascii=look.ascii)
    both = [f"  {fmt.fit(one, left)}  {other}" for one, other in zip(losses, rates, strict=True)]
    return [heading(f"{fmt.fit(title, left + 3)}{rate}"), *(line(row) for row in both)]


def _bar(progress: Progress, width: int, look: Look) -> str:
    return fmt.bar(progress.fraction, width, ascii=look.ascii)


def _seconds(job: JobView) -> float | None:
    begun, ended = fmt.instant(job.started_at), fmt.instant(job.finished_at)
    return (ended - begun).total_seconds() if begun and ended else None


def _said(event: Event) -> Line:
    match event:
        case Note(text=text):
            return (Span(fmt.clean(text)),)
        case Metric(name=name, value=value):
            return (Span(f"{fmt.clean(name)} = {fmt.figure(value)}"),)
        case CheckpointSaved(step=step, digest=digest):
            return (Span(f"checkpoint at step {step}  {fmt.short(digest)}"),)
        case CheckpointSkipped(name=name, reason=reason):
            return (Span(f"checkpoint {fmt.clean(name)} skipped: {fmt.clean(reason)}", Tone.WARN),)
        case StateChanged(state=name, reason=reason):
            return (Span(f"{name}{': ' if reason else ''}{fmt.clean(reason)}", Tone.STRONG),)
        case Progress():
            return (Span(event.phase),)
