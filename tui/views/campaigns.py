"""Runs that consist of runs: the list, and one search, cross-validation, pipeline or repetition with its parts."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.api.types import CampaignDetail, CampaignStepView, CampaignView
from tui import format as fmt
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, facts, heading, hint, line, state
from tui.views.trials import best_of, trial_lines, under_way, values_text

ACTIVE = ("running", "waiting")
_NAMES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRow:
    """A campaign; with its parts while it is under way, so that the best so far can be said."""

    view: CampaignView
    detail: CampaignDetail | None = None


def campaigns_table(rows: tuple[CampaignRow, ...], look: Look) -> Table:
    """Every campaign, newest first."""
    return Table(
        columns=(
            Column(title="State", width=6),
            Column(title="Kind", width=8),
            Column(title="Of"),
            Column(title="Done", width=8, right=True),
            Column(title="Best or outcome", width=26),
            Column(title="Created", width=11, wide=True),
            Column(title="By", width=12, wide=True),
        ),
        rows=tuple(
            Row(
                key=row.view.id,
                cells=(
                    state(row.view.state, look),
                    Span(row.view.kind),
                    Span(row.view.title, Tone.STRONG),
                    Span(f"{row.view.done} of {row.view.steps}"),
                    Span(_so_far(row.detail) or _outcome(row.view)),
                    Span(fmt.brief_moment(row.view.created_at, look.now)),
                    Span(row.view.created_by),
                ),
            )
            for row in rows
        ),
    )


def campaign_text(view: CampaignView) -> str:
    """Where a campaign stands, in 22 cells."""
    return f"{view.done} of {view.steps} done" if view.state in ACTIVE else _outcome(view)


def campaign_lines(detail: CampaignDetail, look: Look) -> list[Line]:
    """One campaign: what came of it first, then its parts, then the recipe to use."""
    lines = [*_head(detail, look), *_parts(detail, look)]
    if not detail.steps:
        lines.append(hint("The first ones are being chosen."))
    if recipe := detail.campaign.summary.get("recipe"):
        lines.append(heading("The best recipe, for intramuros train run FILE"))
        lines += [line(f"   {fmt.clean(row)}") for row in str(recipe).rstrip().splitlines()]
    return lines


def part_lines(detail: CampaignDetail, look: Look) -> dict[int, CampaignStepView]:
    """Which of these lines is about which part; those that have a job to open."""
    first = len(_head(detail, look)) + len(_parts(detail, look)) - len(detail.steps)
    return {at: step for at, step in enumerate(detail.steps, first) if step.job}


def _head(detail: CampaignDetail, look: Look) -> list[Line]:
    view = detail.campaign
    lines = [
        fact("state", state(view.state, look), f" {view.state}", f"   {view.done} of {view.steps} done"),
        fact("kind", view.kind, Span(f"   {view.id}", Tone.FAINT)),
        fact("created", f"{fmt.moment(view.created_at)} UTC by {fmt.clean(view.created_by)}"),
    ]
    if view.problem is not None:
        tone = Tone.WARN if view.state == "waiting" else Tone.BAD
        name, code = ("waits", "") if view.state == "waiting" else ("problem", f"{view.problem.code}: ")
        lines += [*facts(name, f"{code}{view.problem.message}", look, tone), *facts("", view.problem.hint, look)]
    return lines + {"search": _search, "kfold": _kfold, "rerun": _rerun}.get(view.kind, _nothing)(detail, look)


def _parts(detail: CampaignDetail, look: Look) -> list[Line]:
    """A line for each part at the end, below what all of them show together."""
    kind = detail.campaign.kind
    if kind == "search" and detail.steps:
        return trial_lines(detail, look)
    return [heading(_PARTS.get(kind, "Steps")), *(_step(step, look) for step in detail.steps)]


_PARTS = {"search": "Trials", "kfold": "Folds", "rerun": "Repetition"}


def _nothing(_: CampaignDetail, __: Look) -> list[Line]:
    return []


def _search(detail: CampaignDetail, look: Look) -> list[Line]:
    best = _best(detail)
    metric, direction = detail.spec.get("metric", ""), detail.spec.get("direction", "")
    if best is None:
        return [fact("looks for", fmt.clean(f"{metric}, {direction}"))]
    so_far = " so far" if detail.campaign.state in ACTIVE else ""
    told = f"{best.name}{so_far}: {metric} {fmt.figure(best.outcome['value'])}"
    lines = [fact("best", Span(fmt.clean(told), Tone.STRONG), f" ({direction})")]
    lines += facts("values", _values(best), look)
    shares = detail.campaign.summary.get("importance") or {}
    decided = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [*lines, *facts("decided by", decided, look)]


def _kfold(detail: CampaignDetail, look: Look) -> list[Line]:
    figures = detail.campaign.summary.get("metrics") or {}
    lines = [heading("Figures over the folds: mean, deviation, 95 % interval")] if figures else []
    for name, one in figures.items():
        mean, spread = fmt.figure(one["mean"]), f"deviation {fmt.figure(one['deviation'])}"
        told = f"{spread:<20}{fmt.figure(one['low'])} to {fmt.figure(one['high'])}"
        lines.append(line("   ", Span(fmt.fit(name, 26), Tone.FAINT), Span(f" {mean:<10}", Tone.STRONG), told))
    return lines


def _rerun(detail: CampaignDetail, look: Look) -> list[Line]:
    told = detail.campaign.summary
    if "identical" not in told:
        return []
    if told["identical"]:
        return [fact("verdict", Span(f"identical: all {told['files']} files have the same SHA-256", Tone.GOOD))]
    differing = ", ".join(told["differing"])
    return [fact("verdict", Span(f"DIFFERENT: {fmt.clean(differing)}", Tone.BAD))]


def _step(step: CampaignStepView, look: Look) -> Line:
    name = fmt.fit(step.name, _NAMES)
    room = max(20, look.width - _NAMES - 26)
    told = _told(step) or under_way(step) or _values(step)
    tone = Tone.BAD if step.problem and step.state == "failed" else Tone.PLAIN
    job = Span(f" {step.job[-8:]}", Tone.FAINT)
    return line("   ", state(step.state, look), f" {name} ", Span(fmt.fit(told, room), tone), job)


def _told(step: CampaignStepView) -> str:
    """What a part brought, in one line."""
    outcome = step.outcome
    if step.problem is not None:
        return fmt.clean(step.problem.message)
    if isinstance(outcome.get("metrics"), dict) and "run" not in outcome:
        return "  ".join(f"{name} {fmt.figure(value)}" for name, value in list(outcome["metrics"].items())[:3])
    found = [str(outcome[name]) for name in ("run", "ref", "stage", "name") if name in outcome]
    return fmt.clean(" ".join(found))


def _values(step: CampaignStepView) -> str:
    """A trial's values; a pipeline's step says its verb; a fold's name says which one it is."""
    if verb := step.spec.get("verb"):
        return "" if verb == step.name else str(verb)
    if "index" in step.spec:
        return ""
    return values_text(step.spec)


def _best(detail: CampaignDetail) -> CampaignStepView | None:
    return best_of(detail) if detail.campaign.kind == "search" else None


def _so_far(detail: CampaignDetail | None) -> str:
    if detail is None:
        return ""
    best = _best(detail)
    if best is not None:
        return f"{detail.spec.get('metric', '')} {fmt.figure(best.outcome['value'])} so far"
    at = next((step.name for step in detail.steps if step.state in (*ACTIVE, "stopping")), "")
    return f"at {at}" if at else ""


def _outcome(view: CampaignView) -> str:
    summary = view.summary
    if view.problem is not None:
        return view.problem.code
    if view.state != "succeeded":
        return view.state
    match view.kind:
        case "search" if isinstance(summary.get("value"), float):
            return f"trial {summary['best']}: {fmt.figure(summary['value'])}"
        case "kfold" if summary.get("metrics"):
            name, one = next(iter(summary["metrics"].items()))
            return f"{name} {fmt.figure(one['mean'])}"
        case "rerun" if "identical" in summary:
            return "identical" if summary["identical"] else "DIFFERENT"
        case "pipeline":
            refs = [one["ref"] for one in summary.values() if isinstance(one, dict) and "ref" in one]
            return refs[-1] if refs else "done"
    return "done"
