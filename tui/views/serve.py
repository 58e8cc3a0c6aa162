"""Serving: every served name, one with its engine, its place in memory and its revisions, and a tried prompt."""

from __future__ import annotations

from appliance.api.types import DeploymentView, ResidentView, RevisionView, TryAnswer
from appliance.kernel.terminal import counted
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, heading, hint, line, state


def deployments_table(deployments: tuple[DeploymentView, ...], look: Look) -> Table:
    """Every served name and what answers behind it."""
    return Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Name"),
            Column(title="Model", width=16),
            Column(title="Rev", width=3, right=True),
            Column(title="Memory", width=9, right=True),
            Column(title="Busy", width=6, right=True),
            Column(title="KV", width=4, right=True),
            Column(title="Cache", width=5, right=True, wide=True),
            Column(title="Since", width=11, wide=True),
            Column(title="Previous", width=14, wide=True),
        ),
        rows=tuple(
            Row(
                key=one.name,
                cells=(
                    state(one.state, look),
                    Span(one.name, Tone.STRONG),
                    Span(one.model),
                    Span(str(one.revision)),
                    _memory(one),
                    Span(_busy(one.resident)),
                    Span(_cells(one.resident)),
                    Span(_cached(one.resident)),
                    Span(fmt.brief_moment(one.since, look.now)),
                    Span(one.previous or "-"),
                ),
            )
            for one in deployments
        ),
    )


def deployment_lines(one: DeploymentView, look: Look) -> list[Line]:
    """One served name: what answers now, what a roll-back would bring, and its history."""
    lines = [
        fact("state", state(one.state, look), f" {one.state}"),
        fact("model", Span(fmt.clean(one.model), Tone.STRONG), f"   revision {one.revision}"),
        *_draft(one),
        *_adapters(one),
        fact("since", f"{fmt.moment(one.since)} UTC, {fmt.ago(one.since, look.now)}"),
        fact("roll back to", fmt.clean(one.previous) or "nothing: this is the first revision"),
    ]
    if worker := one.worker:
        process = f"pid {worker.pid}" if worker.pid else "no process"
        memory = f"   {fmt.size(worker.memory_bytes)}" if worker.memory_bytes else ""
        restarts = f"   {counted(worker.restarts, 'restart')}" if worker.restarts else ""
        lines.append(
            fact("worker", state(worker.state, look), f" {fmt.clean(worker.name)}   {process}{memory}{restarts}")
        )
        if worker.detail:
            lines.append(fact("", fmt.clean(worker.detail)))
    if one.resident is not None:
        lines += _residence(one, one.resident, look)
    lines.append(heading("Revisions"))
    lines += [_revision(item, look) for item in sorted(one.revisions, key=lambda item: -item.number)]
    if not one.revisions:
        lines.append(hint("No revision is recorded."))
    return lines


def _draft(one: DeploymentView) -> list[Line]:
    """Who guesses tokens for it, how often it was right, and what it takes of the memory."""
    draft = one.options.draft
    if draft is None:
        return []
    engine = one.resident.engine if one.resident else None
    told = "no guess yet"
    if engine and engine.draft_model_drafted:
        right = fmt.share(engine.draft_model_accepted / engine.draft_model_drafted)
        told = f"{right} of {fmt.count(engine.draft_model_drafted)} guessed tokens right"
    needs = f"   {fmt.size(one.resident.predicted.draft)}" if one.resident else ""
    return [fact("draft model", f"{fmt.clean(draft.ref)}   {told}{needs}")]


def _adapters(one: DeploymentView) -> list[Line]:
    """The names by which clients ask for its adapters, and which tunings they are."""
    return [
        fact("adapter" if not number else "", f"{fmt.clean(f'{one.name}:{label}')}   {fmt.clean(adapter.ref)}")
        for number, (label, adapter) in enumerate(sorted(one.options.adapters.items()))
    ]


def _memory(one: DeploymentView) -> Span:
    """Memory in use, or the place in memory of one that is not in it."""
    place = one.resident.state if one.resident else ""
    if place and place != "resident":
        return Span("out" if place == "absent" else place, Tone.WARN)
    return Span(fmt.size(one.worker.memory_bytes) if one.worker else "-")


def _busy(resident: ResidentView | None) -> str:
    """Streams that run, and behind + what waits: in the engine's queue, or until the model is in memory."""
    if resident is None:
        return "-"
    engine = resident.engine
    queue = resident.waiting + (engine.queue if engine else 0)
    return f"{engine.streams if engine else 0}" + (f"+{queue}" if queue else "")


def _cells(resident: ResidentView | None) -> str:
    """Share of the KV cells that requests hold now."""
    engine = resident.engine if resident else None
    return fmt.share(1 - engine.free_cells / engine.cells) if engine and engine.cells else "-"


def _cached(resident: ResidentView | None) -> str:
    """Share of all prompt tokens that came from the prefix cache."""
    engine = resident.engine if resident else None
    return fmt.share(engine.cached_tokens / engine.prompt_tokens) if engine and engine.prompt_tokens else "-"


def _residence(one: DeploymentView, resident: ResidentView, look: Look) -> list[Line]:
    needs = f"{fmt.size(resident.predicted.total)} predicted"
    if resident.measured:
        needs = f"{fmt.size(resident.measured)} measured, {needs}{_off(resident.error)}"
    kept = "pinned" if resident.pinned else "may leave"
    if resident.idle_timeout and not resident.pinned:
        kept = f"leaves after {fmt.duration(resident.idle_timeout)} idle"
    lines = [fact("memory", state(resident.state, look), f" {needs}; {kept}")]
    if resident.placement:
        lines.append(fact("layers", fmt.clean(resident.placement)))
    if resident.gpu_measured:
        lines.append(fact("on the GPU", f"{fmt.size(resident.gpu_measured)} measured{_off(resident.gpu_error)}"))
    if engine := resident.engine:
        lines.append(fact("streams", f"{engine.streams} running, {engine.queue + resident.waiting} waiting"))
        if resident.kind == "generate":
            held = _cells(resident)
            lines.append(
                fact("KV cells", f"{held} of {fmt.count(engine.cells)} held; {fmt.count(engine.cached_cells)} reusable")
            )
            lines.append(fact("cache hits", f"{_cached(resident)} of {fmt.count(engine.prompt_tokens)} prompt tokens"))
        lines.append(fact("tokens", f"{fmt.count(engine.prompt_tokens)} in, {fmt.count(engine.completion_tokens)} out"))
    if one.decisions:
        lines.append(heading("Memory decisions"))
    for decision in one.decisions[:5]:
        told = f"   {fmt.fit(fmt.brief_moment(decision.at, look.now), 11)} {fmt.fit(decision.action, 6)} "
        lines.append(line(told, Span(fmt.clean(decision.why), Tone.FAINT)))
    return lines


def _off(error: float | None) -> str:
    """By how much what was measured differs from the prediction."""
    return "" if error is None else f" ({error:+.0%})"


def _revision(item: RevisionView, look: Look) -> Line:
    reason = f"  {fmt.clean(item.reason)}" if item.reason else ""
    return line(
        f"   {item.number:>3}  ",
        state(item.state, look),
        f"  {fmt.fit(item.model, 20)} {fmt.fit(fmt.brief_moment(item.at, look.now), 11)} {fmt.clean(item.by)}",
        Span(reason, Tone.FAINT),
    )


def answer_lines(answer: TryAnswer, look: Look) -> list[Line]:
    """The answer and how long it took."""
    speed = answer.completion_tokens / max(answer.total - answer.ttft, 1e-6)
    return [
        heading("Answer"),
        *(line(f"   {part}") for part in fmt.wrap(answer.text, max(20, look.width - 6))),
        heading("Timings"),
        fact("first token", f"{answer.ttft * 1000:.0f} ms"),
        fact("whole answer", f"{answer.total:.2f} s"),
        fact("tokens", f"{answer.prompt_tokens} in, {answer.completion_tokens} out, {speed:.1f} tokens/s"),
    ]
