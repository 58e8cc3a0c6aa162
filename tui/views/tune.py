"""Tune: the recipes, one recipe's fields, a run being filled in, and the plan that is shown before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.api.types import RecipeField, RecipeView, TrainingPlanView
from tui import format as fmt
from tui.draft import SEED, Draft, typed
from tui.text import Column, Line, Look, Row, Span, Table, Tone, fact, heading, hint, line, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run and what the appliance says it would be."""

    draft: Draft
    plan: TrainingPlanView


def recipes_table(recipes: tuple[RecipeView, ...], look: Look) -> Table:
    """The kinds of training, in the appliance's order."""
    return Table(
        columns=(
            Column(title="Recipe", width=9),
            Column(title="Takes", width=18),
            Column(title="What it makes"),
            Column(title="Fields", width=6, right=True, wide=True),
        ),
        rows=tuple(
            Row(
                key=one.name,
                cells=(
                    Span(one.name, Tone.STRONG),
                    Span(", ".join(given.word for given in one.inputs)),
                    Span(one.purpose),
                    Span(str(len(one.fields))),
                ),
            )
            for one in recipes
        ),
    )


def recipe_lines(recipe: RecipeView, look: Look) -> list[Line]:
    """What a recipe takes, and every field: type, default, range, meaning."""
    room = max(20, look.width - 8)
    lines = [line(f"   {part}") for part in fmt.wrap(recipe.purpose, room)]
    lines.append(heading("Inputs"))
    lines += [fact(one.word, "needed" if one.required else "may be left out") for one in recipe.inputs]
    lines.append(heading("Fields"))
    for field in recipe.fields:
        default, takes = typed(field.default) or "nothing", f"; {field.range_text}" if field.range_text else ""
        told = f"   {field.name}", f"  {field.type}, default {default}{takes}"
        lines.append(line(Span(fmt.clean(told[0]), Tone.STRONG), Span(fmt.clean(told[1]), Tone.FAINT)))
        lines += [line(f"     {part}") for part in fmt.wrap(field.meaning, room)]
    return lines


def draft_table(draft: Draft, look: Look) -> Table:
    """A run being filled in: inputs, seed, fields. What differs from the default stands out."""
    rows = []
    for name in draft.names:
        known = draft.field_of(name)
        value = draft.value(name)
        if draft.is_input(name):
            needed = name in draft.missing
            shown = Span(value or "choose one", Tone.WARN if needed else Tone.STRONG if value else Tone.FAINT)
            rest = Span("needed" if needed else ""), Span("")
        elif known is None:
            shown, rest = Span(value, Tone.STRONG if draft.seed else Tone.PLAIN), (Span("0"), Span(""))
        else:
            shown = Span(value, Tone.STRONG if name in draft.given else Tone.PLAIN)
            rest = Span(typed(known.default)), Span(_takes(known), Tone.FAINT)
        cells = (Span(name), shown, *rest, Span(meaning_of(draft, name), Tone.FAINT))
        rows.append(Row(key=name, cells=cells))
    return Table(
        columns=(
            Column(title="Field", width=28),
            Column(title="Value"),
            Column(title="Default", width=10),
            Column(title="Takes", width=19),
            Column(title="Meaning", width=34, wide=True),
        ),
        rows=tuple(rows),
    )


def meaning_of(draft: Draft, name: str) -> str:
    """One sentence about a row of the form."""
    known = draft.field_of(name)
    if known is not None:
        return known.meaning
    return "Seed of every random choice." if name == SEED else f"The {name} it learns with."


def explained(draft: Draft, name: str) -> tuple[str, ...]:
    """What the dialog says about a row of the form."""
    known = draft.field_of(name)
    if known is None:
        return (meaning_of(draft, name),)
    default = typed(known.default) or "nothing"
    return known.meaning, f"It takes {_takes(known)}. Left empty, it is {default}, the default."


def plan_lines(planned: Planned, look: Look) -> list[Line]:
    """What the run would be and need; whether it fits comes first."""
    plan, memory = planned.plan, planned.plan.memory
    room = max(20, look.width - 20)
    lines = [
        fact(
            "memory",
            state("ok" if memory.fits else "failed", look),
            f"  {fmt.size(memory.total)} of {fmt.size(memory.available)} available",
            Span("" if memory.fits else ": it does not fit", Tone.BAD),
        ),
        *(fact("instead" if i == 0 else "", part) for i, part in enumerate(_proposals(plan, room))),
        fact(" weights", fmt.size(memory.weights)),
        fact(" training", f"{fmt.size(memory.training_state)} gradients and optimiser"),
        fact(" activations", fmt.size(memory.activations)),
        fact(" process", f"{fmt.size(memory.process)}   rows {fmt.size(memory.data)}"),
        *([fact(" merge", f"{fmt.size(memory.merging)} more")] if memory.merging else ()),
        fact("steps", "known once the rows are packed" if plan.steps is None else fmt.count(plan.steps)),
        fact("tokens", "-" if plan.tokens is None else f"{fmt.count(plan.tokens)} at most"),
        fact("run", fmt.short(plan.run_id), f"   seed {plan.seed}   {plan.threads} threads"),
    ]
    if plan.equal_job:
        lines.append(fact("equal run", Span(f"{plan.equal_job}: its result would be used", Tone.WARN)))
    lines.append(heading("Inputs"))
    for given in plan.inputs:
        rows = f"  {given.form}, {fmt.count(given.train_rows)} rows, {fmt.count(given.heldout_rows)} held out"
        lines.append(fact(given.word, Span(fmt.clean(given.ref), Tone.STRONG), rows if given.form else ""))
    lines.append(heading("Recipe"))
    for name, value in sorted(plan.recipe.items(), key=lambda item: item[0] not in plan.given):
        own = name in plan.given
        told = f"{fmt.fit(name, 30)}{fmt.clean(typed(value)) or '-'}"
        tone = Tone.STRONG if own else Tone.PLAIN
        lines.append(line("   ", Span(told, tone), Span("" if own else "  (default)", Tone.FAINT)))
    lines += [heading("From a shell"), *(hint(part) for part in fmt.wrap(planned.draft.command(), room))]
    return lines


def _proposals(plan: TrainingPlanView, room: int) -> list[str]:
    return [part for proposal in plan.proposals for part in fmt.wrap(proposal, room)]


def _takes(field: RecipeField) -> str:
    """What a field takes, briefly: `1 to 256`, `cosine, linear`, `yes or no`."""
    low, high = field.minimum, field.maximum
    if field.choices:
        return ", ".join(field.choices)
    if low is not None and high is not None:
        return f"{low:.10g} to {high:.10g}"
    words: dict[str, Any] = {"bool": "yes or no", "list": "words", "text": "text", "any": "number or word"}
    return field.limits or str(words.get(field.type, "a number"))
