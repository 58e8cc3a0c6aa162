"""Tune: what a row of the form asks, and the start of a planned run."""

from __future__ import annotations

from appliance.api import calls
from appliance.kernel.errors import BadInput
from tui.deed import Action, Answers, Choices, Deed, Field, Question, Target
from tui.deeds.choices import dataset_refs_of, fixed, model_refs
from tui.deeds.destinations import to_job
from tui.deeds.roles import BUILDERS
from tui.draft import Draft
from tui.views.tune import Planned, explained


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
        forms = next(one.forms for one in draft.recipe.inputs if one.word == name)
        return dataset_refs_of(forms) if forms else model_refs
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
)
