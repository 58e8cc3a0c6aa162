"""Models: the registry, and one version with lineage, evaluations, approvals, stages and users."""

from __future__ import annotations

from typing import Any

from appliance.api.types import ModelDetail, ModelView
from appliance.kernel.terminal import counted
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, heading, hint, line

_LEFT_OUT = frozenset({"environment", "parameters"})
"""Long parts of a lineage that only the full record shows."""


def models_table(models: tuple[ModelView, ...], look: Look) -> Table:
    """Every registered version, newest first."""
    return Table(
        columns=(
            Column(title="Model"),
            Column(title="Stage", width=5),
            Column(title="Kind", width=8, wide=True),
            Column(title="Params", width=6, right=True),
            Column(title="Size", width=9, right=True),
            Column(title="Formats", width=17),
            Column(title="Created", width=11),
            Column(title="Digest", width=12, wide=True),
            Column(title="Licence", width=14, wide=True),
        ),
        rows=tuple(
            Row(
                key=model.ref,
                cells=(
                    Span(model.ref, Tone.STRONG),
                    stage(model.stage),
                    Span(model.kind),
                    Span(fmt.parameters(model.parameters)),
                    Span(fmt.size(model.size)),
                    Span(", ".join(model.formats)),
                    Span(fmt.brief_moment(model.created_at, look.now)),
                    Span(fmt.short(model.digest)),
                    Span(model.licence or "-"),
                ),
            )
            for model in models
        ),
    )


def stage(name: str) -> Span:
    """A stage; `-` for none, production in the tone of good."""
    return Span("-" if name == "none" else name, Tone.GOOD if name == "prod" else Tone.PLAIN)


def model_lines(detail: ModelDetail, look: Look) -> list[Line]:
    """One version, with what it came from and what depends on it."""
    model = detail.model
    lines = [
        fact("stage", stage(model.stage), f"   {model.kind}   licence {fmt.clean(model.licence) or 'not stated'}"),
        fact(
            "architecture",
            f"{fmt.clean(model.architecture)}, {fmt.parameters(model.parameters)} parameters,"
            f" context {fmt.count(model.context_length)}",
        ),
        fact("files", f"{fmt.size(model.size)} in {counted(len(detail.files), 'file')}, {', '.join(model.formats)}"),
        fact("digest", model.digest),
        fact("created", f"{fmt.moment(model.created_at)} UTC by {fmt.clean(model.created_by)}"),
        fact("served as", fmt.clean(", ".join(detail.used_by)) or "nothing"),
        heading("Evaluations"),
    ]
    for one in detail.evaluations:
        figures = "  ".join(f"{name} {fmt.figure(value)}" for name, value in sorted(one.metrics.items()))
        lines.append(line(f"   {fmt.fit(one.dataset, 22)} ", figures, Span(f"  ({one.examples} examples)", Tone.FAINT)))
    if not detail.evaluations:
        lines.append(hint(f"None yet: intramuros eval {model.ref} --data DATASET"))
    lines.append(heading("Stages and approvals"))
    for step in detail.stages:
        lines.append(
            line(
                f"   {fmt.fit(step.stage, 5)} {fmt.moment(step.at)} by {fmt.clean(step.by)}: ",
                fmt.clean(step.verdict),
            )
        )
    for given in detail.approvals:
        lines.append(
            line(
                f"   {fmt.fit(given.stage, 5)} {fmt.moment(given.at)} approved by "
                f"{fmt.clean(given.approver)} ({given.method})"
            )
        )
    if not (detail.stages or detail.approvals):
        lines.append(hint("Neither promoted nor approved yet."))
    lines.append(heading("Lineage"))
    lines += _lineage(detail.lineage, look) or [hint("It was imported; nothing came before it.")]
    return lines


def _lineage(node: dict[str, Any], look: Look, depth: int = 0) -> list[Line]:
    """Any tree of named parents; scalars on one line, nested objects indented. `i` shows what is left out here."""
    lines: list[Line] = []
    for name, value in node.items():
        if name in _LEFT_OUT:
            continue
        label = f"{'  ' * depth}{name}"
        if isinstance(value, dict):
            lines += [fact(label), *_lineage(value, look, depth + 1)] if value else []
        elif isinstance(value, list):
            for item in value:
                lines += _lineage({name: item}, look, depth)
        elif value not in ("", None):
            text = str(value)
            lines.append(fact(label, fmt.clean(text if len(text) < look.width - 20 else fmt.short(text))))
    return lines
