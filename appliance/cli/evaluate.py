"""`intramuros eval`: measure a model on a suite or data set, and compare two models."""

from __future__ import annotations

from typing import Any

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli.follow import follow
from appliance.cli.session import Session, verb
from appliance.cli.train import parameters_of
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import table


class _WithDefault(click.Group):
    """`eval REF …` is `eval run REF …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("eval", cls=_WithDefault)
def evaluate() -> None:
    """Measure a model: `eval REF --suite NAME` or `--data NAME`. Compare two: `eval compare A B --suite NAME`."""


@evaluate.command("run")
@click.argument("ref")
@click.option("--suite", default="", help="Suite that is asked.")
@click.option("--data", default="", help="Data set whose held-out part is asked.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Parameter of an evaluation on chat data.")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb
def run_(session: Session, ref: str, suite: str, data: str, given: tuple[str, ...], detach: bool) -> None:
    """Measure a model (name@version or run:ID) on a suite, or on a data set's held-out part."""
    job = _submit(session, ref, suite, data, parameters_of(given))
    if not detach:
        job = follow(session, job)
    session.show(job, lambda: evaluation_text(job))


@evaluate.command()
@click.argument("first")
@click.argument("second")
@click.option("--suite", default="", help="Suite that both are asked.")
@click.option("--data", default="", help="Data set whose held-out part both are asked.")
@verb
def compare(session: Session, first: str, second: str, suite: str, data: str) -> None:
    """Say by how much SECOND differs from FIRST, and whether that is more than chance. Evaluates what is missing."""
    for ref in (first, second):
        follow(session, _submit(session, ref, suite, data, {}))
    found = session.send(calls.compare(t.Compare(first=first, second=second, suite=suite, dataset=data)))
    session.show(found, lambda: comparison_text(found))


def _submit(session: Session, ref: str, suite: str, data: str, parameters: dict[str, Any]) -> t.JobView:
    if bool(suite) == bool(data):
        raise BadInput("evaluation.on", "Name what the model is asked.", hint="Give --suite NAME or --data NAME.")
    inputs = {"model": ref} | ({"suite": suite} if suite else {"dataset": data})
    return session.send(calls.submit_job(t.SubmitJob(kind="evaluate", inputs=inputs, parameters=parameters)))


def evaluation_text(job: t.JobView) -> str:
    """Figures with their intervals, speeds apart from them, and what was taken for what."""
    lines = [f"run:{job.id}  {job.state}"]
    intervals = job.summary.get("intervals", {})
    metrics, informative = job.summary.get("metrics", {}), job.summary.get("informative", {})
    width = 2 + max((len(name) for name in (*metrics, *informative)), default=22)
    for name, value in metrics.items():
        span = f"   {intervals[name][0]:.4f} to {intervals[name][1]:.4f}" if name in intervals else ""
        lines.append(f"  {name:<{width}}{value:.4f}{span}")
    for name, value in informative.items():
        lines.append(f"  {name:<{width}}{value:.4g}   (this machine, now)")
    if left_out := job.summary.get("too_long", 0):
        lines.append(f"  {left_out} rows are longer than the model's context and were left out")
    for task, report in job.summary.get("reports", {}).items():
        lines += [
            f"  {task}: {entry['rows']} x {entry['expected']!r} taken for {entry['got']!r}"
            for entry in report.get("most_confused", [])[:5]
        ]
    return "\n".join(lines)


def comparison_text(found: t.ComparisonView) -> str:
    """A table with one line for each metric."""
    rows = [
        (
            one.metric,
            f"{one.first:.4f}",
            f"{one.second:.4f}",
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            "-" if one.p is None else f"{one.p:.3g}",
            str(one.rows),
            one.verdict,
        )
        for one in found.differences
    ]
    head = ("METRIC", "FIRST", "SECOND", "DIFFERENCE", "95 % INTERVAL", "MCNEMAR P", "ROWS", "SECOND IS")
    return f"{found.second} against {found.first} on {found.on}\n\n" + table(head, rows, empty="nothing in common")
