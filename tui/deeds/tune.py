"""Tune: what a row of the form asks, and what a planned run becomes: a job, a k-fold or a search."""

from __future__ import annotations

import asyncio

from appliance.api import calls
from appliance.api import types as t
from appliance.api.search_text import search_text
from appliance.kernel.errors import BadInput
from tui.campaign_file import look_at
from tui.deed import Action, Answers, Choices, Deed, Field, Question, Target, quoted
from tui.deeds.answers import count
from tui.deeds.choices import dataset_refs_of, fixed, model_refs_that
from tui.deeds.destinations import to_campaign, to_job
from tui.deeds.previews import each_run, said
from tui.deeds.roles import BUILDERS
from tui.draft import Draft
from tui.session import Session
from tui.text import Line
from tui.views.tune import Planned, explained

_BATCH = 2
"""Trials asked for together, unless a file says otherwise; that of the verb."""


def draft_target(draft: Draft) -> Target:
    """Name a run that is being filled in."""
    return Target(name=draft.recipe.name, item=draft, words={"name": draft.recipe.name})


def draft_question(draft: Draft, name: str) -> Question:
    """What a person is asked to change one row of the form."""

    def with_answers(answers: Answers) -> Draft:
        return draft.changed(name, answers.get("value", ""))

    def refused(answers: Answers) -> str:
        try:
            with_answers(answers)
        except BadInput as error:
            return f"{error.message} {error.hint}"
        return ""

    return Question(
        cli=lambda _, answers: (draft if refused(answers) else with_answers(answers)).command(),
        refused=refused,
        consequences=explained(draft, name),
        fields=(
            Field(
                name="value",
                label=name,
                default=lambda _: draft.value(name),
                choices=_choices_of(draft, name),
                required=draft.is_input(name) and any(one.required for one in draft.recipe.inputs if one.word == name),
            ),
        ),
    )


def _choices_of(draft: Draft, name: str) -> Choices | None:
    known = draft.field_of(name)
    if draft.is_input(name):
        given = next(one for one in draft.recipe.inputs if one.word == name)
        return dataset_refs_of(given.forms) if given.forms else model_refs_that(given.does)
    if known is None or known.type not in ("choice", "bool"):
        return None
    return fixed(*(known.choices or ("yes", "no")))


def _planned(target: Target) -> Planned:
    assert isinstance(target.item, Planned)
    return target.item


def _does_not_fit(target: Target) -> str:
    return "" if _planned(target).plan.memory.fits else "it does not fit in memory"


def _start_line(target: Target, _: Answers) -> str:
    return target.item.draft.command() if isinstance(target.item, Planned) else "intramuros train recipes"


def _text_of(target: Target, answers: Answers) -> str:
    trials = count("Trials", answers["trials"])
    planned = _planned(target)
    fixed = tuple(planned.draft.given)
    return search_text(planned.plan.file, answers["vary"].split(), trials=trials, batch=_BATCH, fixed=fixed)


def _range_of_rate(target: Target) -> str:
    """A search that makes sense of most recipes, which also shows how values are written."""
    if "learning_rate" in _planned(target).draft.given:
        return ""  # it has one value, so it does not vary
    rate = _planned(target).plan.recipe.get("learning_rate")
    return f"learning_rate={rate / 10:g}..{rate * 10:g}:log" if isinstance(rate, float) else ""


async def _preview_of_run(session: Session, target: Target, answers: Answers) -> tuple[Line, ...]:
    try:
        seen = await asyncio.to_thread(lambda: look_at(_text_of(target, answers)))
    except BadInput:
        return ()  # half typed; it is refused when one agrees to it
    return (*said("holds", seen.told[:1]), *(await each_run(session, _planned(target).draft.body(), seen.highest)))


def _search_of_run(target: Target, answers: Answers) -> str:
    vary = "".join(f" --vary {quoted(part)}" for part in answers.get("vary", "").split())
    trials = f" --trials {quoted(answers['trials'])}" if answers.get("trials") else ""
    return f"{_planned(target).draft.command('search')}{vary}{trials}"


def _kfold_of_run(target: Target, answers: Answers) -> str:
    folds = f" -k {quoted(answers['folds'])}" if answers.get("folds") else ""
    return f"{_planned(target).draft.command('kfold')}{folds}"


DEEDS: tuple[Action, ...] = (
    Action(
        id="train.start",
        keys=("s",),
        label="start",
        help="Queue this run and follow it.",
        places=("plan",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, _: calls.submit_job(_planned(target).draft.body()),
            cli=_start_line,
            done="The run is queued.",
            consequences=("It waits for its turn, seals checkpoints on the way, and can be stopped and resumed.",),
            ready=_does_not_fit,
            then=to_job,
        ),
    ),
    Action(
        id="train.kfold",
        keys=("f",),
        label="k-fold",
        help="Train it once for each part held out.",
        places=("plan",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.submit_kfold(
                t.SubmitKfold(text=_planned(target).plan.file, folds=count("Folds", answers["folds"]))
            ),
            cli=_kfold_of_run,
            done="The k-fold is under way.",
            consequences=("Each fold is a job of this recipe; their figures stay, their models go.",),
            fields=(Field(name="folds", label="Folds", default=lambda _: "5", faults=("",)),),
            ready=_does_not_fit,
            then=to_campaign,
        ),
    ),
    Action(
        id="train.search",
        keys=("v",),
        label="vary",
        help="Look for the best values of some of its fields.",
        places=("plan",),
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=lambda target, answers: calls.submit_search(t.SubmitSearch(text=_text_of(target, answers), name="")),
            cli=_search_of_run,
            done="The search is under way.",
            consequences=("Fields and their values: epochs=2..6 learning_rate=1e-4..1e-2:log rank=4,8,16.",),
            fields=(
                Field(name="vary", label="Vary", default=_range_of_rate, faults=("",)),
                Field(name="trials", label="Trials", default=lambda _: "20", faults=("console.field",)),
            ),
            preview=_preview_of_run,
            then=to_campaign,
        ),
    ),
)
