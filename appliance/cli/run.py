"""`intramuros run …`: everything about a run, and proof that it can be repeated."""

from __future__ import annotations

import json

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli import campaigns
from appliance.cli.follow import follow
from appliance.cli.quantities import figure_text
from appliance.cli.session import Session, verb
from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.terminal import size_text, when


@click.group()
def run() -> None:
    """Show everything about a run, or prove that it can be repeated."""


@run.command()
@click.argument("id")
@click.option("--recipe", "part", flag_value="recipe", help="Print only the recipe file that makes it again.")
@click.option("--lock", "part", flag_value="lock", help="Print only its packages, as a requirements file.")
@verb
def show(session: Session, id: str, part: str | None) -> None:
    """Show a run: recipe, inputs, environment, figures, outputs, and what was made of it."""
    detail = session.send(calls.run(id))
    match part:
        case "recipe":
            session.show(detail.recipe_file, lambda: detail.recipe_file.rstrip())
        case "lock":
            session.show(detail.requirements, lambda: detail.requirements)
        case _:
            session.show(detail, lambda: _text(detail))


@run.command()
@click.argument("id")
@click.option("--verify", is_flag=True, help="Repeat it to the bit and compare every output file.")
@campaigns.DETACH
@verb
def rerun(session: Session, id: str, verify: bool, detach: bool) -> None:
    """Do a run again: in today's environment, or with --verify in its own, refused where that is gone."""
    if not verify:
        job = session.send(calls.repeat_run(id))
        ended = job if detach else follow(session, job)
        session.show(ended, lambda: f"run:{ended.id}  {ended.state}")
        return
    view = session.send(calls.verify_run(id))
    if detach:
        campaigns.show_started(session, view)
        return
    found = campaigns.follow(session, view).campaign.summary
    if not found["identical"]:
        raise IntegrityFailure(
            "rerun.different",
            f"run:{found['run']} gave other bytes in run:{found['job']}: {', '.join(found['differing'])}.",
            hint="Something that decides its bytes is not in its specification; both runs are kept.",
        )
    session.show(found, lambda: f"run:{found['run']}  identical: all {found['files']} files have the same SHA-256")


def verification_text(item: t.VerificationView) -> str:
    """Return one repetition as a line."""
    verdict = f"identical, {item.files} files" if item.identical else f"DIFFERENT: {', '.join(item.differing)}"
    return f"run:{item.run} {verdict}, by {item.by} at {when(item.at)}"


def _text(detail: t.RunDetail) -> str:
    job, there = detail.job, detail.environment
    lines = [
        f"run:{job.id}  {job.told_state}  {job.kind}  {job.title}",
        *([f"  part of     {campaigns.part_text(job)}"] if job.parent else []),
        f"  run id      {job.run_id}",
        f"  by          {job.created_by} at {when(job.created_at)}",
        f"  ran         {when(job.started_at)} to {when(job.finished_at)}, attempt {job.attempt}",
        f"  seed        {detail.seed}",
    ]
    lines += [f"  input       {item.name}: {item.ref} {item.digest} ({size_text(item.size)})" for item in detail.inputs]
    if detail.fold:
        lines.append(f"  fold        {detail.fold['index'] + 1} of {detail.fold['of']} of {detail.fold['input']}")
    lines += [f"  recipe      {name}: {json.dumps(value)}" for name, value in sorted(detail.parameters.items())]
    lines += [
        f"  threads     {there['threads']} on {there['device']}, {there['cpu']}",
        f"  code        {there['code']}",
        "  packages    " + ", ".join(f"{name} {number}" for name, number in sorted(there["packages"].items())),
        f"  lock        {detail.lock or 'none: the run is older than locks'}",
        f"  events      {detail.events.events}, checkpoints {detail.events.checkpoints}"
        f" ({detail.events.skipped_checkpoints} not valid)",
    ]
    lines += [f"  note        {note}" for note in detail.events.notes]
    lines += [f"  figure      {name} {figure_text(name, value)}" for name, value in sorted(detail.metrics.items())]
    lines += [f"  output      {entry.path} {entry.digest} ({size_text(entry.size)})" for entry in detail.outputs]
    lines += [f"  from        {ref}" for ref in detail.parents]
    lines += [f"  used by     {ref}" for ref in detail.children]
    lines += [f"  version     {ref}" for ref in detail.versions]
    lines += [f"  repeats     run:{job.repeats}"] if job.repeats else []
    lines += [f"  verified    {verification_text(item)}" for item in detail.verifications]
    lines += [f"  different   {text}" for text in detail.differences]
    if job.problem:
        lines.append(f"  problem     {job.problem.message} [{job.problem.code}] {job.problem.hint}")
    return "\n".join(lines)
