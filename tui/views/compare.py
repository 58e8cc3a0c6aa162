"""Runs side by side: state, figures, and where their recipes differ; and two models measured on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.api.types import SIZES, ComparisonView, JobDetail
from tui import format as fmt
from tui.draft import typed
from tui.text import Line, Look, Span, Tone, fact, heading, hint, line, state

MOST = 4
"""Runs that fit beside each other in 80 cells."""
_NAMES = 22


def comparison_of_runs(runs: tuple[JobDetail, ...], look: Look) -> list[Line]:
    """Two to four runs side by side."""
    width = max(10, min(28, (look.width - _NAMES - 4) // max(1, len(runs))))

    def row(name: str, cells: list[str], *, differs: bool = False) -> Line:
        tone = Tone.STRONG if differs else Tone.PLAIN
        if look.spoken:
            return line(f"   {name}: {'; '.join(fmt.clean(cell) or '-' for cell in cells)}")
        shown = "".join(fmt.fit(cell or "-", width - 1) + " " for cell in cells)
        return line(Span(f"   {fmt.fit(name, _NAMES - 1)} ", Tone.FAINT), Span(shown, tone))

    def each(tell: Callable[[JobDetail], str]) -> list[str]:
        return [tell(one) for one in runs]

    lines = [
        row("run", each(lambda one: one.job.what), differs=True),
        row("job", each(lambda one: one.job.id if len(one.job.id) < width else one.job.id[-8:])),
        row("kind", each(lambda one: one.job.kind)),
        row("state", each(lambda one: state(one.job.state, look).text)),
        row("took", each(lambda one: _took(one))),
        heading("What differs in inputs and recipe"),
    ]
    choices = [_choices(one) for one in runs]
    differing = [name for name in _union([list(one) for one in choices]) if len({one.get(name) for one in choices}) > 1]
    lines += [row(name, [one.get(name, "") for one in choices], differs=True) for name in differing]
    if not differing:
        lines.append(hint("Nothing: these runs are the same."))
    figures = [figures_of(one) for one in runs]
    names = _union([list(one) for one in figures])
    equal = [name for name in names if len({one.get(name) for one in figures}) == 1]
    for title, chosen in (("Figures", [name for name in names if name not in equal]), ("The same in all", equal)):
        lines += [heading(title)] if chosen else []
        lines += [
            row(name, [figure_text(name, one[name]) if name in one else "" for one in figures]) for name in chosen
        ]
    if not names:
        lines.append(hint("None of them has figures yet."))
    return lines


def figures_of(run: JobDetail) -> dict[str, float]:
    """The figures of a finished run, or the last loss of one under way."""
    found = figures_in(run.job.summary)
    if not found and run.job.progress is not None and run.job.progress.loss is not None:
        found["loss"] = run.job.progress.loss
    return found


def figures_in(summary: Mapping[str, Any]) -> dict[str, float]:
    """Those under `metrics` and the plain numbers of a summary, losses first."""
    metrics = summary.get("metrics")
    measured = metrics if isinstance(metrics, dict) else {}
    found = {name: value for name, value in measured.items() if _is_figure(value)}
    found |= {name: value for name, value in summary.items() if _is_figure(value)}
    return dict(sorted(found.items(), key=lambda item: not _is_quality(item[0])))


def figure_text(name: str, value: float) -> str:
    """A figure by its name: bytes as a size, the rest as a number."""
    return fmt.size(int(value)) if name in SIZES else fmt.figure(value)


def comparison_lines(found: ComparisonView, look: Look) -> list[Line]:
    """Two models on the same rows: by how much the second differs, and whether that is more than chance."""
    lines = [
        fact("first", Span(fmt.clean(found.first), Tone.STRONG)),
        fact("second", Span(fmt.clean(found.second), Tone.STRONG)),
        fact("on", fmt.clean(found.on)),
    ]
    for one in found.differences:
        tone = {"better": Tone.GOOD, "worse": Tone.BAD}.get(one.verdict, Tone.PLAIN)
        left = f", {fmt.count(one.left_out)} left out" if one.left_out else ""
        chance = "" if one.p is None else f", p {one.p:.2g}"
        lines += [
            heading(one.metric),
            fact("verdict", Span(one.verdict, tone), "   lower is better" if one.lower_is_better else ""),
            fact("figures", f"{fmt.figure(one.first)}, {fmt.figure(one.second)} on {fmt.count(one.rows)} rows{left}"),
            fact("difference", f"{one.difference:+.4f}, 95 % sure of {one.low:+.4f} to {one.high:+.4f}{chance}"),
        ]
    if not found.differences:
        lines.append(hint("They have no figure in common."))
    return lines


def _choices(run: JobDetail) -> dict[str, str]:
    inputs = {name: str(ref.get("ref", "")) for name, ref in run.spec.get("inputs", {}).items()}
    parameters = {name: typed(value) for name, value in run.spec.get("parameters", {}).items()}
    fold = run.spec.get("fold")
    folds = {"fold": f"{fold['index'] + 1} of {fold['of']}"} if fold else {}
    return inputs | folds | parameters | {"seed": str(run.spec.get("seed", ""))}


def _is_quality(name: str) -> bool:
    return name.endswith("loss")


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _took(run: JobDetail) -> str:
    begun, ended = fmt.instant(run.job.started_at), fmt.instant(run.job.finished_at)
    return fmt.duration((ended - begun).total_seconds()) if begun and ended else ""


def _union(lists: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))
