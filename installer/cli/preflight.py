"""`intramuros preflight`: everything that is missing or in the way on this machine, at once, and nothing changed."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.kernel.errors import Conflict
from installer.answers import read_answers
from installer.cli.bundle_option import bundle_option, open_bundle
from installer.cli.output import findings_document, findings_table, json_option, show
from installer.facts import gather
from installer.findings import failures, in_the_way


@click.command()
@click.option(
    "--answers", "answers_file", type=click.Path(path_type=Path), help="Answer file to check this machine for."
)
@bundle_option
@click.option("--force-admin", is_flag=True, help="Only warn when your own address is in no network of administrators.")
@json_option
def preflight(answers_file: Path | None, bundle: Path | None, force_admin: bool, as_json: bool) -> None:
    """Check this machine, the answers and the bundle; change nothing."""
    from installer.preflight import preflight as judge

    answers = read_answers(answers_file) if answers_file is not None else None
    opened = open_bundle(bundle)
    version = opened.version if opened is not None else None
    findings = judge(gather(answers), answers, bundle_version=version, force_admin=force_admin)
    show(findings_document(findings), lambda: findings_table(findings), as_json=as_json)
    if bad := failures(findings):
        raise Conflict("preflight.failed", f"{in_the_way(bad)}.", hint="Each line with FAIL says what to do.")
