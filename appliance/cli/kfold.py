"""`intramuros kfold …`: cross-validate a recipe, from a file or told in flags."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from appliance.api import calls
from appliance.api import types as t
from appliance.cli import campaigns
from appliance.cli.quantities import figure_text
from appliance.cli.session import Session, verb
from appliance.cli.train import recipe_verb
from appliance.kernel.terminal import table
from appliance.kernel.text_file import read_text
from appliance.training.recipes.registry import RECIPES

_FOLDS = click.option(
    "-k", "folds", default=5, show_default=True, help="Parts of the training rows; each is held out once."
)

_FIGURES = 3
"""of each fold in its row; the table below has the spread of all"""


@click.group()
def kfold() -> None:
    """Cross-validate a recipe."""


@kfold.command()
@click.argument("file", type=click.Path(path_type=Path))
@_FOLDS
@campaigns.DETACH
@verb
def run(session: Session, file: Path, folds: int, detach: bool) -> None:
    """Train the recipe file FILE once for each part of its training rows."""
    body = t.SubmitKfold(text=read_text(file), name=file.name, folds=folds)
    _follow(session, session.send(calls.submit_kfold(body)), detach=detach)


@kfold.command("list")
@verb
def list_(session: Session) -> None:
    """List cross-validations, newest first."""
    campaigns.show_list(session, "kfold", empty="None yet. Start one with `intramuros kfold run FILE -k 5`.")


@kfold.command()
@click.argument("id")
@verb
def show(session: Session, id: str) -> None:
    """Show the folds and the spread of each figure."""
    campaigns.show_one(session, id, fold_lines)


@kfold.command()
@click.argument("id")
@verb
def cancel(session: Session, id: str) -> None:
    """Stop a cross-validation and its jobs."""
    campaigns.show_cancel(session, id)


@kfold.command()
@click.argument("id")
@click.option("--detach", is_flag=True, help="Return at once.")
@verb
def resume(session: Session, id: str, detach: bool) -> None:
    """Try the folds again that failed or were cancelled."""
    _follow(session, session.send(calls.resume_campaign(id)), detach=detach)


def _of_flags(session: Session, body: t.SubmitJob, *, folds: int, detach: bool) -> None:
    planned = session.send(calls.plan_training(msgspec.structs.replace(body, folded=True)))
    view = session.send(calls.submit_kfold(t.SubmitKfold(text=planned.file, folds=folds)))
    _follow(session, view, detach=detach)


def _follow(session: Session, view: t.CampaignView, *, detach: bool) -> None:
    if detach:
        campaigns.show_started(session, view)
        return
    detail = campaigns.follow(session, view)
    session.show(detail, lambda: "\n".join([*campaigns.head(detail), *fold_lines(detail)]))


def fold_lines(detail: t.CampaignDetail) -> list[str]:
    """Return the folds with what each measured, then the spread of each figure."""
    lines = ["", campaigns.steps_table(detail, ("FIGURES",), _cells)]
    if figures := detail.campaign.summary.get("metrics"):
        rows = [
            (name, f"{one['mean']:.6g}", f"{one['deviation']:.3g}", f"{one['low']:.6g} to {one['high']:.6g}")
            for name, one in figures.items()
        ]
        lines += ["", table(("FIGURE", "MEAN", "DEVIATION", "95 % INTERVAL"), rows, empty="no figures")]
    return lines


def _cells(step: t.CampaignStepView) -> tuple[str, ...]:
    if step.problem is not None:
        return (step.problem.message,)
    figures = list(step.outcome.get("metrics", {}).items())[:_FIGURES]
    return ("  ".join(f"{name} {figure_text(name, value)}" for name, value in figures),)


for _name, _kind in RECIPES.items():
    kfold.add_command(recipe_verb(_name, _kind, _of_flags, _FOLDS, campaigns.DETACH))
