"""Serving: every served name, one with its revisions, and the answer to a tried prompt."""

from __future__ import annotations

from appliance.api.types import DeploymentView, RevisionView, TryAnswer
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
            Column(title="Since", width=11),
            Column(title="Memory", width=9, right=True, wide=True),
            Column(title="Previous", width=14),
            Column(title="Worker", width=22, wide=True),
        ),
        rows=tuple(
            Row(
                key=one.name,
                cells=(
                    state(one.state, look),
                    Span(one.name, Tone.STRONG),
                    Span(one.model),
                    Span(str(one.revision)),
                    Span(fmt.brief_moment(one.since, look.now)),
                    Span(fmt.size(one.worker.memory_bytes) if one.worker else "-"),
                    Span(one.previous or "-"),
                    Span(one.worker.name if one.worker else "-"),
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
        fact("since", f"{fmt.moment(one.since)} UTC, {fmt.ago(one.since, look.now)}"),
        fact("roll back to", fmt.clean(one.previous) or "nothing: this is the first revision"),
    ]
    if worker := one.worker:
        process = f"pid {worker.pid}" if worker.pid else "no process"
        memory = f"   {fmt.size(worker.memory_bytes)}" if worker.memory_bytes else ""
        restarts = f"   {fmt.of(worker.restarts, 'restart')}" if worker.restarts else ""
        lines.append(
            fact("worker", state(worker.state, look), f" {fmt.clean(worker.name)}   {process}{memory}{restarts}")
        )
        if worker.detail:
            lines.append(fact("", fmt.clean(worker.detail)))
    lines.append(heading("Revisions"))
    lines += [_revision(item, look) for item in sorted(one.revisions, key=lambda item: -item.number)]
    if not one.revisions:
        lines.append(hint("No revision is recorded."))
    return lines


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
