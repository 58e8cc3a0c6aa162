"""`intramuros answers …`: an example of the answer file, and a check of one, on any machine."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.kernel.terminal import table
from installer.answer_example import EXAMPLE
from installer.answer_rules import doubts
from installer.answers import read_answers
from installer.cli.output import json_option, show


@click.group()
def answers() -> None:
    """Write and check the answer file of an unattended installation."""


@answers.command()
@json_option
def example(as_json: bool) -> None:
    """Print a complete answer file to begin with."""
    show({"toml": EXAMPLE}, lambda: EXAMPLE.rstrip("\n"), as_json=as_json)


@answers.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check an answer file; nothing of this machine is looked at."""
    found = doubts(read_answers(file))
    document = {"file": str(file), "doubts": [{"key": doubt.key, "text": doubt.text} for doubt in found]}
    rows = [(doubt.key, doubt.text) for doubt in found]
    show(
        document,
        lambda: f"{file} can be used" + (f"\n{table(('KEY', 'DOUBT'), rows, empty='')}" if rows else ""),
        as_json=as_json,
    )
