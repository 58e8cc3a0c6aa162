"""The trials of a search: what came of each over its number as bars, and one row for each with its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.api.types import CampaignDetail, CampaignStepView
from tui import format as fmt
from tui.draft import typed
from tui.plot import bars
from tui.text import WIDE, Column, Line, Look, Row, Span, Table, Tone, heading, lay_out, line, state

_HEIGHT = 5
_MOST = 16
"""Cells of a column of values, at most."""
_LEFT = 14
"""Cells that the last column keeps, for what became of a trial that has no value."""


def best_of(detail: CampaignDetail) -> CampaignStepView | None:
    """The best trial so far; the first of equal ones."""
    done = [one for one in detail.steps if one.state == "succeeded" and value_of(one) is not None]
    sign = -1 if detail.spec.get("direction") == "maximize" else 1
    return min(done, key=lambda one: (sign * (value_of(one) or 0.0), one.number), default=None)


def value_of(trial: CampaignStepView) -> float | None:
    """What a trial is judged by, once it is known."""
    value = trial.outcome.get("value")
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else None


def trial_lines(detail: CampaignDetail, look: Look) -> list[Line]:
    """The bars where there are two values or more, then the rows."""
    metric = fmt.clean(str(detail.spec.get("metric", "value")))
    return [*_bars(detail, metric, look), heading("Trials"), *_rows(detail, metric, look)]


def _bars(detail: CampaignDetail, metric: str, look: Look) -> list[Line]:
    best, values = best_of(detail), [value_of(one) for one in detail.steps]
    if look.spoken or best is None or sum(value is not None for value in values) < 2:
        return []
    height = _HEIGHT if look.height < 30 else 2 * _HEIGHT
    at = detail.steps.index(best)
    drawn = bars(values, best=at, width=look.width - 4, height=height, ascii=look.ascii)
    return [heading(f"{metric} by trial, ^ the best"), *(line(f"  {row}") for row in drawn)]


def _rows(detail: CampaignDetail, metric: str, look: Look) -> list[Line]:
    if look.spoken:
        return [_sentence(one, metric, look) for one in detail.steps]
    names = list(dict.fromkeys(name for one in detail.steps for name in one.spec))
    cells = {name: [_brief(one.spec.get(name)) for one in detail.steps] for name in names}
    widths = {name: min(_MOST, max(len(name), *map(len, cells[name]))) for name in names}
    value = max(10, min(_MOST, len(metric)))
    room = look.width - (8 + 2 + 5 + 2 + value + 2) - _LEFT - 2 - (10 if look.width >= WIDE else 0)
    shown: list[str] = []
    for name in names:
        room -= widths[name] + 2
        if room < 0:
            break
        shown.append(name)
    best = best_of(detail)
    table = Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Trial", width=5, right=True),
            Column(title=metric, width=value, right=True),
            *(Column(title=name, width=widths[name], right=True) for name in shown),
            Column(title="More" if len(shown) < len(names) else ""),
            Column(title="Job", width=8, wide=True),
        ),
        rows=tuple(
            Row(
                key=str(one.number),
                marked=one is best,
                cells=_cells(one, shown, look, strong=one is best),
            )
            for one in detail.steps
        ),
    )
    title, rows = lay_out(table, look.width)
    return [title, *rows] if rows else []


def _cells(trial: CampaignStepView, shown: list[str], look: Look, *, strong: bool) -> Line:
    tone = Tone.STRONG if strong else Tone.PLAIN
    value = value_of(trial)
    rest = values_text({name: given for name, given in trial.spec.items() if name not in shown})
    told = "  ".join(part for part in (_became(trial), rest) if part)
    return (
        state(trial.state, look),
        Span(str(trial.number), tone),
        Span("" if value is None else fmt.figure(value), tone),
        *(Span(_brief(trial.spec.get(name)), tone) for name in shown),
        Span(told, Tone.BAD if trial.state == "failed" else Tone.FAINT),
        Span(trial.job[-8:], Tone.FAINT),
    )


def _sentence(trial: CampaignStepView, metric: str, look: Look) -> Line:
    value = value_of(trial)
    told = [f"{metric} {fmt.figure(value)}"] if value is not None else []
    told += [_became(trial)] if _became(trial) else []
    told += [f"{name} {_brief(given)}" for name, given in trial.spec.items()]
    return line("   ", state(trial.state, look), f" trial {trial.number}: {', '.join(told)}")


def _became(trial: CampaignStepView) -> str:
    """What became of a trial, where it has no value."""
    if trial.problem is not None:
        return fmt.clean(trial.problem.message)
    if trial.state == "pruned":
        return f"stopped at step {trial.outcome.get('pruned_at', '?')}"
    return under_way(trial)


def under_way(part: CampaignStepView) -> str:
    """How far a part is: that it waits for its turn or stops, or its share and the time left."""
    if part.state in ("queued", "interrupted", "stopping"):
        return part.state
    if part.progress is None or part.state != "running":
        return ""
    left = f", {fmt.duration(part.progress.eta_seconds)} left" if part.progress.eta_seconds is not None else ""
    return f"{fmt.share(part.progress.fraction)}{left}"


def values_text(values: Mapping[str, Any]) -> str:
    """A trial's values in one line."""
    return "  ".join(f"{name} {_brief(value)}" for name, value in values.items())


def _brief(value: Any) -> str:
    return fmt.figure(value) if isinstance(value, float) else fmt.clean(typed(value))
