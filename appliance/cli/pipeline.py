"""`intramuros pipeline …`: one file from data to deployment."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.api import calls
from appliance.api import types as t
from appliance.cli import campaigns
from appliance.cli.session import Session, verb
from appliance.kernel.text_file import read_text


@click.group()
def pipeline() -> None:
    """Carry out a file of steps from data to deployment."""


@pipeline.command()
@click.argument("file", type=click.Path(path_type=Path))
@campaigns.DETACH
@click.option("--wait", is_flag=True, help="Stay while it waits for an approval.")
@verb
def run(session: Session, file: Path, detach: bool, wait: bool) -> None:
    """Carry out the pipeline file FILE; relative sources in it lie beside it."""
    body = t.SubmitPipeline(text=read_text(file), name=file.name, folder=str(file.absolute().parent))
    _follow(session, session.send(calls.submit_pipeline(body)), detach=detach, wait=wait)


@pipeline.command("list")
@verb
def list_(session: Session) -> None:
    """List pipelines, newest first."""
    campaigns.show_list(session, "pipeline", empty="None yet. Start one with `intramuros pipeline run FILE`.")


@pipeline.command()
@click.argument("id")
@verb
def show(session: Session, id: str) -> None:
    """Show a pipeline's steps and what each brought."""
    campaigns.show_one(session, id, _lines)


@pipeline.command()
@click.argument("id")
@verb
def cancel(session: Session, id: str) -> None:
    """Stop a pipeline and the job that it waits for."""
    campaigns.show_cancel(session, id)


@pipeline.command()
@click.argument("id")
@click.option("--detach", is_flag=True, help="Return at once.")
@click.option("--wait", is_flag=True, help="Stay while it waits for an approval.")
@verb
def resume(session: Session, id: str, detach: bool, wait: bool) -> None:
    """Go on with the step that failed; what was done is not done again."""
    _follow(session, session.send(calls.resume_campaign(id)), detach=detach, wait=wait)


def _follow(session: Session, view: t.CampaignView, *, detach: bool, wait: bool) -> None:
    if detach:
        campaigns.show_started(session, view)
        return
    detail = campaigns.follow(session, view, patient=wait)
    session.show(detail, lambda: "\n".join([*campaigns.head(detail), *_lines(detail)]))


def _lines(detail: t.CampaignDetail) -> list[str]:
    return ["", campaigns.steps_table(detail, ("VERB", "OUTCOME"), _cells)]


def _cells(step: t.CampaignStepView) -> tuple[str, ...]:
    told = (
        step.problem.message
        if step.problem
        else " ".join(str(step.outcome[name]) for name in ("run", "ref", "stage", "name") if name in step.outcome)
    )
    return str(step.spec["verb"]), told
