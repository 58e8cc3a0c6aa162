"""`intramuros train …`: queue a run and follow it, from flags or from a recipe file.

There is one verb for each recipe; its inputs are options. `run FILE` and `plan FILE` take the same from a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.quantities import figure_text
from appliance.cli.session import Session, verb
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import size_text
from appliance.training.recipe_file import read_recipe_file
from appliance.training.recipes.registry import RECIPES, RecipeKind
from appliance.training.recipes.schema import fields_of

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What `click.option` returns."""
_INPUT_HELP: Final[Mapping[str, str]] = {
    "base": "Model to start from: name@version or run:ID.",
    "data": "Data set to learn from.",
    "corpus": "Data set of form text, or of form chat.",
    "teacher": "Model to learn from: name@version or run:ID.",
}


@click.group()
def train() -> None:
    """Train from nothing, fine-tune, and plan both; one verb for each recipe."""


@train.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def run(session: Session, file: Path, detach: bool) -> None:
    """Run the recipe file FILE."""
    _run(session, _of_file(file), detach=detach)


@train.command()
@click.argument("file", type=click.Path(path_type=Path))
@verb
def plan(session: Session, file: Path) -> None:
    """Print all that the recipe file FILE says and leaves to defaults, and what it needs; nothing is queued."""
    _plan(session, _of_file(file))


@train.command("recipes")
@click.argument("name", required=False, default="")
@verb
def recipes_(session: Session, name: str) -> None:
    """List the recipes, or print every field of the recipe NAME: type, default, range and meaning."""
    found = [one for one in session.send(calls.recipes()) if not name or one.name == name]
    if not found:
        raise BadInput("recipe.unknown", f"There is no recipe {name!r}.", hint=f"Recipes: {', '.join(RECIPES)}.")
    if name:
        session.show(found[0], lambda: recipe_text(found[0]))
    else:
        session.show(tuple(found), lambda: "\n".join(f"{one.name:<10}{one.purpose}" for one in found))


def recipe_text(recipe: t.RecipeView) -> str:
    """A recipe for people: what it takes, then its fields."""
    words = [f"--{given.word}{'' if given.required else ' (optional)'}" for given in recipe.inputs]
    lines = [f"{recipe.name}: {recipe.purpose}", f"  inputs: {', '.join(words)}", ""]
    for field in recipe.fields:
        takes = f"; {field.range_text}" if field.range_text else ""
        lines.append(f"  {field.name:<30}{field.type:<8}default {_value(field.default)}{takes}")
        lines.append(f"      {field.meaning}")
    return "\n".join(lines)


def parameters_of(pairs: tuple[str, ...], *, lists: Collection[str] = ()) -> dict[str, Any]:
    """Parse KEY=VALUE pairs; a value is JSON where it can be, else text.

    `lists` names the keys whose values are lists: those may also be written with commas alone.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise BadInput("recipe.pair", f"{pair!r} is not KEY=VALUE.", hint="Write it like learning_rate=0.001.")
        bare_list = key in lists and not text.lstrip().startswith("[")
        found[key] = [_json_or_text(part.strip()) for part in text.split(",")] if bare_list else _json_or_text(text)
    return found


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def plan_text(plan: t.TrainingPlanView) -> str:
    """A plan for people: inputs, recipe, work and memory."""
    memory = plan.memory
    lines = [f"{plan.kind}  run id {plan.run_id[:12]}  seed {plan.seed}  {plan.threads} threads"]
    for given in plan.inputs:
        rows = f"  {given.form}, {given.train_rows} rows, {given.heldout_rows} held out" if given.form else ""
        lines.append(f"  {given.word:<30}{given.ref} ({given.digest[:12]}){rows}")
    lines.append("")
    for name, value in plan.recipe.items():
        mark = "" if name in plan.given else "  (default)"
        lines.append(f"  {name:<30}{_value(value)}{mark}")
    lines += [
        "",
        f"  {'steps':<30}{'known once the rows are packed' if plan.steps is None else plan.steps}",
        f"  {'tokens at most':<30}{'-' if plan.tokens is None else f'{plan.tokens:,}'}",
        "",
        f"  {'memory: weights':<30}{size_text(memory.weights)}",
        f"  {'  gradients and optimiser':<30}{size_text(memory.training_state)}",
        f"  {'  activations':<30}{size_text(memory.activations)}",
        f"  {'  rows':<30}{size_text(memory.data)}",
        f"  {'  process':<30}{size_text(memory.process)}",
        *([f"  {'  more for the merge':<30}{size_text(memory.merging)}"] if memory.merging else ()),
        f"  {'  together':<30}{size_text(memory.total)} of {size_text(memory.available)} available"
        f"{'' if memory.fits else ': it does not fit'}",
        *(f"  {'  instead':<30}{proposal}" for proposal in plan.proposals),
    ]
    if plan.equal_job:
        lines += ["", f"  An equal run is already there ({plan.equal_job}); its result would be used."]
    return "\n".join(lines)


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _of_file(file: Path) -> t.SubmitJob:
    run = read_recipe_file(file)
    return t.SubmitJob(kind=run.kind, inputs=dict(run.inputs), parameters=dict(run.given), seed=run.seed)


def _run(session: Session, body: t.SubmitJob, *, detach: bool) -> None:
    job = session.send(calls.submit_job(body))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: result_text(job))


def _plan(session: Session, body: t.SubmitJob) -> None:
    planned = session.send(calls.plan_training(body))
    session.show(planned, lambda: plan_text(planned))


def result_text(job: t.JobView) -> str:
    """What came of a run, for people: its name, its state, and a line for each figure."""
    lines = [f"run:{job.id}  {job.state}"]
    figures = job.summary.get("metrics") or job.summary
    for name, value in figures.items():
        if isinstance(value, int | float | str):
            shown = value if isinstance(value, str) else figure_text(name, value)
            lines.append(f"  {name:<24}{shown}")
    return "\n".join(lines)


def recipe_verb(name: str, kind: RecipeKind, act: Callable[..., None], *own: Option) -> click.Command:
    """Return a verb of a recipe: an option for each input, --set for its fields, and the verb's own options.

    `act` gets the session, the run, and the own options by name.
    """

    def recipe(session: Session, given: tuple[str, ...], seed: int, **words: Any) -> None:
        refs = {word: words.pop(word) for word in kind.inputs}
        inputs = {kind.inputs[word]: ref for word, ref in refs.items() if ref is not None}
        lists = {field.name for field in fields_of(kind.form) if field.type == "list"}
        parameters = parameters_of(given, lists=lists)
        body = t.SubmitJob(kind=f"train.{name}", inputs=inputs, parameters=parameters, seed=seed)
        act(session, body, **words)

    recipe.__doc__ = kind.purpose
    wrapped: Callable[..., Any] = verb(recipe)
    options: list[Option] = [
        *(
            click.option(f"--{word}", required=word not in kind.optional, help=_INPUT_HELP.get(word, "Input."))
            for word in kind.inputs
        ),
        click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="A field; docs/operators/recipes.md."),
        click.option("--seed", default=0, show_default=True, help="Seed of every random choice."),
        *own,
    ]
    for option in reversed(options):
        wrapped = option(wrapped)
    return click.command(name)(wrapped)


def _run_or_plan(session: Session, body: t.SubmitJob, *, planned: bool, detach: bool) -> None:
    if planned:
        _plan(session, body)
    else:
        _run(session, body, detach=detach)


_OWN: Final[tuple[Option, ...]] = (
    click.option("--plan", "planned", is_flag=True, help="Print what it would be and need; queue nothing."),
    click.option("--detach", is_flag=True, help="Queue it and return."),
)
for _name, _kind in RECIPES.items():
    train.add_command(recipe_verb(_name, _kind, _run_or_plan, *_OWN))
