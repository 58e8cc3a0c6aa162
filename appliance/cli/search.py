"""`intramuros search …`: look for the best values of a recipe's fields, from a file or told in flags."""

from __future__ import annotations

import json
from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.api.search_text import search_text
from appliance.cli import campaigns
from appliance.cli.quantities import figure_text
from appliance.cli.session import Session, verb
from appliance.cli.train import recipe_verb
from appliance.kernel.text_file import read_text
from appliance.training.recipes.registry import RECIPES


@click.group()
def search() -> None:
    """Look for the best values of a recipe's fields."""


@search.command()
@click.argument("file", type=click.Path(path_type=Path))
@campaigns.DETACH
@verb
def run(session: Session, file: Path, detach: bool) -> None:
    """Carry out the search file FILE."""
    body = t.SubmitSearch(text=read_text(file), name=file.name)
    _follow(session, session.send(calls.submit_search(body)), detach=detach)


@search.command("list")
@verb
def list_(session: Session) -> None:
    """List searches, newest first."""
    campaigns.show_list(session, "search", empty="No searches yet. Start one with `intramuros search run FILE`.")


@search.command()
@click.argument("id")
@verb
def show(session: Session, id: str) -> None:
    """Show a search with its trials and the best recipe."""
    campaigns.show_one(session, id, _lines)


@search.command()
@click.argument("id")
@verb
def cancel(session: Session, id: str) -> None:
    """Stop a search and its trials."""
    campaigns.show_cancel(session, id)


@search.command()
@click.argument("id")
@click.option("--detach", is_flag=True, help="Return at once.")
@verb
def resume(session: Session, id: str, detach: bool) -> None:
    """Go on with a search that failed or was cancelled."""
    _follow(session, session.send(calls.resume_campaign(id)), detach=detach)


def _of_flags(
    session: Session,
    body: t.SubmitJob,
    *,
    vary: tuple[str, ...],
    trials: int,
    batch: int,
    metric: str | None,
    direction: str | None,
    detach: bool,
) -> None:
    planned = session.send(calls.plan_training(body))
    fixed = tuple(body.parameters)
    text = search_text(planned.file, vary, trials=trials, batch=batch, fixed=fixed, metric=metric, direction=direction)
    _follow(session, session.send(calls.submit_search(t.SubmitSearch(text=text, name=""))), detach=detach)


def _follow(session: Session, view: t.CampaignView, *, detach: bool) -> None:
    if detach:
        campaigns.show_started(session, view)
        return
    detail = campaigns.follow(session, view)
    session.show(detail, lambda: "\n".join([*campaigns.head(detail), *_lines(detail)]))


def _lines(detail: t.CampaignDetail) -> list[str]:
    found = detail.campaign.summary
    lines = []
    if "best" in found:
        figure, direction = detail.spec["metric"], detail.spec["direction"]
        best = f"trial {found['best']}: {figure} {figure_text(figure, found['value'])}"
        lines += [
            f"  best        {best} ({direction}), run:{found['job']}",
            f"  values      {json.dumps(found['values'], ensure_ascii=False)}",
        ]
        if found["importance"]:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in found["importance"].items())
            lines.append(f"  decided by  {shares}")
    lines += ["", campaigns.steps_table(detail, ("VALUE", "VALUES"), _cells)]
    if "recipe" in found:
        lines += ["", "The best recipe, for `intramuros train run FILE`:", "", str(found["recipe"]).rstrip()]
        lines += ["", f"Register its model with `intramuros model register run:{found['job']} --name NAME`."]
    return lines


def _cells(step: t.CampaignStepView) -> tuple[str, ...]:
    value = step.outcome.get("value")
    if step.state == "pruned":
        told = f"stopped at step {step.outcome['pruned_at']}"
    elif step.problem is not None:
        told = step.problem.message
    else:
        told = f"{value:.6g}" if isinstance(value, float) else ""
    return told, json.dumps(step.spec, ensure_ascii=False)


_OWN = (
    click.option(
        "--vary", multiple=True, required=True, metavar="FIELD=VALUES", help="LOW..HIGH, LOW..HIGH:log, or A,B,C."
    ),
    click.option("--trials", default=20, show_default=True, help="Runs to make."),
    click.option("--batch", default=2, show_default=True, help="Trials asked for together."),
    click.option("--metric", help="Figure of a run that is compared (default: the recipe's own)."),
    click.option(
        "--direction",
        type=click.Choice(["minimize", "maximize"]),
        help="Which of two figures is better (default: the figure's own).",
    ),
    campaigns.DETACH,
)
for _name, _kind in RECIPES.items():
    search.add_command(recipe_verb(_name, _kind, _of_flags, *_OWN))
