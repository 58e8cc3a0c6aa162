"""Campaigns: start a search, a k-fold or a pipeline from its file. Resume, cancel and register are those of `jobs`.

A file is read here, with the rights of the person at the console, and judged by the appliance alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.api.calls import Call
from appliance.kernel.text_file import read_text
from tui.campaign_file import files_of, look_into, path_of
from tui.deed import Action, Answers, Deed, Field, Preview, Target, quoted
from tui.deeds.answers import count
from tui.deeds.destinations import to_campaign
from tui.deeds.previews import each_run, said
from tui.deeds.roles import BUILDERS
from tui.session import Session
from tui.text import Line, Span, Tone, fact

_PLACES = ("campaigns",)
_HELD = {"search": "search", "kfold": "recipe", "pipeline": "pipeline"}
"""kind of campaign -> what its file holds"""


def _file(kind: str) -> Field:
    async def choices(_: Session) -> tuple[str, ...]:
        return await asyncio.to_thread(files_of, kind, Path.cwd())

    # Whatever else the appliance refuses is about what stands in the file.
    return Field(name="file", label="File", choices=choices, faults=("",))


def _search(_: Target, answers: Answers) -> Call[t.CampaignView]:
    file = path_of(answers["file"])
    return calls.submit_search(t.SubmitSearch(text=read_text(file), name=file.name))


def _kfold(_: Target, answers: Answers) -> Call[t.CampaignView]:
    file, folds = path_of(answers["file"]), count("Folds", answers["folds"])
    return calls.submit_kfold(t.SubmitKfold(text=read_text(file), name=file.name, folds=folds))


def _pipeline(_: Target, answers: Answers) -> Call[t.CampaignView]:
    file = path_of(answers["file"])
    folder = str(file.absolute().parent)
    return calls.submit_pipeline(t.SubmitPipeline(text=read_text(file), name=file.name, folder=folder))


def _line(verb: str) -> Callable[[Target, Answers], str]:
    def command(_: Target, answers: Answers) -> str:
        file = answers.get("file", "")
        folds = f" -k {quoted(answers['folds'])}" if answers.get("folds") else ""
        return f"intramuros {verb} run {quoted(str(path_of(file))) if file else 'FILE'}{folds}"

    return command


def _preview(kind: str) -> Preview:
    async def preview(session: Session, _: Target, answers: Answers) -> tuple[Line, ...]:
        seen = await asyncio.to_thread(look_into, path_of(answers["file"])) if answers["file"] else None
        if seen is None:
            return ()
        if seen.kind != kind:
            other = f"a {_HELD[seen.kind]}, not" if seen.kind else "nothing known here, and not"
            return (fact("holds", Span(f"{other} a {_HELD[kind]}", Tone.WARN)),)
        body = await _run_of(session, seen.recipe) if seen.recipe else None
        if body is not None:
            body = msgspec.structs.replace(body, folded=kind == "kfold")
        return (*said("holds", seen.told), *(await each_run(session, body, seen.highest) if body else ()))

    return preview


async def _run_of(session: Session, recipe: Mapping[str, Any]) -> t.SubmitJob | None:
    """The run that a recipe file's content describes; None for what is no whole recipe."""
    known = next((one for one in await session.send(calls.recipes()) if one.name == recipe.get("recipe")), None)
    given, seed = recipe.get("with") or {}, recipe.get("seed", 0)
    if known is None or not isinstance(given, dict) or not isinstance(seed, int):
        return None
    inputs = {one.name: recipe[one.word] for one in known.inputs if isinstance(recipe.get(one.word), str)}
    if any(one.required and one.name not in inputs for one in known.inputs):
        return None
    return t.SubmitJob(kind=known.kind, inputs=inputs, parameters=given, seed=seed)


DEEDS: tuple[Action, ...] = (
    Action(
        id="search.start",
        keys=("n",),
        label="new search",
        help="Look for the best values of a recipe's fields.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_search,
            cli=_line("search"),
            done="The search is under way.",
            consequences=("Each trial is a job that waits for its turn. C stops all, u goes on.",),
            fields=(_file("search"),),
            preview=_preview("search"),
            needs_target=False,
            then=to_campaign,
        ),
    ),
    Action(
        id="kfold.start",
        keys=("f",),
        label="k-fold",
        help="Train a recipe once for each part held out.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_kfold,
            cli=_line("kfold"),
            done="The k-fold is under way.",
            consequences=("Cross-validates a recipe file. Each fold is a job; their figures stay, their models go.",),
            fields=(
                _file("kfold"),
                Field(name="folds", label="Folds", default=lambda _: "5", faults=("kfold.folds", "console.field")),
            ),
            preview=_preview("kfold"),
            needs_target=False,
            then=to_campaign,
        ),
    ),
    Action(
        id="pipeline.start",
        keys=("p",),
        label="pipeline",
        help="Carry out a file from data to deployment.",
        places=_PLACES,
        roles=BUILDERS,
        danger=1,
        bar=True,
        deed=Deed(
            call=_pipeline,
            cli=_line("pipeline"),
            done="The pipeline is under way.",
            consequences=("It acts in your name, stops at a gate that does not pass, and waits for approvals.",),
            fields=(_file("pipeline"),),
            preview=_preview("pipeline"),
            needs_target=False,
            then=to_campaign,
        ),
    ),
)
