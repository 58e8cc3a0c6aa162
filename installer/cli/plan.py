"""`intramuros plan`: every step of an installation, without running any."""

from __future__ import annotations

from pathlib import Path

import click

from installer.cli.bundle_option import bundle_option, open_bundle
from installer.cli.output import json_option, show
from installer.cli.prepare import prepare
from installer.plan import plan_document, plan_text


@click.command()
@click.option("--answers", "answers_file", type=click.Path(path_type=Path), required=True, help="Answer file.")
@bundle_option
@click.option("--book", type=click.Choice(["site", "harden"]), default="site", show_default=True, help="What to plan.")
@click.option("--roles-only", is_flag=True, help="Leave the tasks out.")
@json_option
def plan(answers_file: Path, bundle: Path | None, book: str, roles_only: bool, as_json: bool) -> None:
    """Print every step of an installation without running it."""
    prepared = prepare(answers_file, book=book, bundle=open_bundle(bundle))
    show(plan_document(prepared.plan), lambda: plan_text(prepared.plan, tasks=not roles_only), as_json=as_json)
