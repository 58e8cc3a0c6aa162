"""`intramuros train …`: queue a run and follow it."""

from __future__ import annotations

import json
from typing import Any

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.session import Session, verb
from appliance.kernel.errors import BadInput


@click.group()
def train() -> None:
    """Train a seed model, or fine-tune one by LoRA."""


@train.command()
@click.option("--corpus", required=True, help="Data set of form text, or of form chat.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Recipe field; see docs/operators/recipes.md.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def seed(session: Session, corpus: str, given: tuple[str, ...], seed: int, detach: bool) -> None:
    """Train a small model and its tokenizer from nothing."""
    _run(session, "train.seed", {"corpus": corpus}, given, seed, detach)


@train.command()
@click.option("--base", required=True, help="Model to tune: name@version or run:ID.")
@click.option("--data", required=True, help="Data set of form chat.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Recipe field; see docs/operators/recipes.md.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def lora(session: Session, base: str, data: str, given: tuple[str, ...], seed: int, detach: bool) -> None:
    """Fine-tune by low-rank adapters; the loss counts answers only."""
    _run(session, "train.lora", {"base": base, "dataset": data}, given, seed, detach)


def parameters_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs; a value is JSON where it can be, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise BadInput("recipe.pair", f"{pair!r} is not KEY=VALUE.", hint="Write it like learning_rate=0.001.")
        try:
            found[key] = json.loads(text)
        except json.JSONDecodeError:
            found[key] = text
    return found


def _run(session: Session, kind: str, inputs: dict[str, str], given: tuple[str, ...], seed: int, detach: bool) -> None:
    body = t.SubmitJob(kind=kind, inputs=inputs, parameters=parameters_of(given), seed=seed)
    job = session.send(calls.submit_job(body))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: _text(job))


def _text(job: t.JobView) -> str:
    lines = [f"run:{job.id}  {job.state}"]
    figures = job.summary.get("metrics") or job.summary
    for name, value in figures.items():
        if isinstance(value, int | float | str):
            shown = f"{value:.4f}" if isinstance(value, float) else value
            lines.append(f"  {name:<24}{shown}")
    return "\n".join(lines)
