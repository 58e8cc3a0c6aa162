"""`intramuros answers …`: an example of the answer file, a check of one, and a password's hash, on any machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from appliance.kernel.errors import BadInput, Conflict, storage_errors
from appliance.kernel.private import write_private
from appliance.kernel.terminal import table
from installer.answer_example import EXAMPLE
from installer.answer_rules import doubts
from installer.answers import read_answers
from installer.cli.output import json_option, show
from installer.password import KINDS, LEAST, hash_password, weakness


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


@answers.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def password(file: Path, as_json: bool) -> None:
    """Ask for the administrator's password and write its hash to a new FILE, for admin.password_hash_file."""
    if not sys.stdin.isatty():
        raise BadInput("password.no_terminal", "This is no terminal to ask for the password on.")
    if file.exists() or file.is_symlink():
        raise Conflict("password.file_exists", f"{file} exists already; a hash never replaces a file.")
    text: str = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    if fault := weakness(text):
        raise BadInput(
            "password.weak", f"The password {fault}.", hint=f"The box wants at least {LEAST} characters: {KINDS}."
        )
    with storage_errors(f"writing the hash to {file}"):
        write_private(file, f"{hash_password(text)}\n".encode())
    show({"file": str(file)}, lambda: f"{file} holds the hash; the answer file names it.", as_json=as_json)
