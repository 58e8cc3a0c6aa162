"""`intramuros evidence waive|unwaive|waivers`: exceptions with a reason, an owner and an end."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import click

from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import table
from installer.cli.output import json_option, require_root, show
from installer.evidence import waivers as store
from installer.evidence.applicability import reason_against
from installer.evidence.catalogue import load_catalogue, load_rules
from installer.evidence.collect import known_names
from installer.evidence.machine import ThisMachine

file_option = click.option("--file", "path", type=click.Path(path_type=Path), default=store.PATH, show_default=True)


@click.command()
@click.argument("control", default="")
@click.option("--reason", default="", help="Why it is not met.")
@click.option("--owner", required=True, help="Who answers for it.")
@click.option("--expiry", default="", help="Last day on which it counts, as 2027-06-30.")
@click.option("--shipped", is_flag=True, help="Write the waivers that every box starts with, unless there is a file.")
@file_option
@json_option
def waive(control: str, reason: str, owner: str, expiry: str, shipped: bool, path: Path, as_json: bool) -> None:
    """Accept that CONTROL (an id of ours, or a rule of the datastream) is not met."""
    require_root("waive a control")
    today = datetime.now(UTC).date()
    if shipped:
        machine = ThisMachine()
        written = store.write_shipped(
            path, today=today, owner=owner, holds=lambda name: reason_against((name,), machine) != ""
        )
        show(
            {"file": str(path), "changed": written},
            lambda: f"{path} was {'written' if written else 'there already; nothing was changed'}",
            as_json=as_json,
        )
        return
    waiver = store.Waiver(control=control, reason=reason, owner=owner, expiry=_day(expiry))
    store.add_waiver(path, waiver, today=today, known=known_names(load_catalogue(), load_rules()))
    show(waiver, lambda: f"{control} is waived until {waiver.expiry}; the next collection shows it", as_json=as_json)


@click.command()
@click.argument("control")
@file_option
@json_option
def unwaive(control: str, path: Path, as_json: bool) -> None:
    """Take the waiver of CONTROL away."""
    require_root("take a waiver away")
    store.remove_waiver(path, control)
    show({"control": control}, lambda: f"{control} is waived no longer", as_json=as_json)


@click.command()
@file_option
@json_option
def waivers(path: Path, as_json: bool) -> None:
    """List the waivers of this box, the expired ones marked."""
    today = datetime.now(UTC).date()
    found = store.load_waivers(path, today=today, known=known_names(load_catalogue(), load_rules()))
    show(
        {"valid": found.valid, "expired": found.expired},
        lambda: table(
            ("STATE", "UNTIL", "CONTROL", "OWNER", "REASON"),
            [
                (state, each.expiry.isoformat(), each.control, each.owner, each.reason)
                for state, listed in (("valid", found.valid), ("EXPIRED", found.expired))
                for each in listed
            ],
            empty="Nothing is waived.",
        ),
        as_json=as_json,
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadInput(
            "waivers.refused", f"{text!r} is not a day.", hint="Name the last day on which it counts, as 2027-06-30."
        ) from error
