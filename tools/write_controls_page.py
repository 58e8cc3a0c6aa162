"""`make docs`: write docs/security/controls.md from the catalogue of controls."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from installer.evidence.catalogue import load_catalogue, load_rules
from installer.evidence.control import Control

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security" / "controls.md"
_RULER = "| --- | --- | --- | --- |"


def page() -> str:
    """Return the page as it should be."""
    catalogue, table = load_catalogue(), load_rules()
    level1 = {name for name, rule in table.rules.items() if "cis1" in rule.profiles}
    enhanced = {name for name, rule in table.rules.items() if "anssi-enhanced" in rule.profiles}
    covered = set(catalogue.by_rule())
    lines = [
        "# Controls",
        "",
        "Written by `make docs` from `installer/evidence/controls/`. Do not edit.",
        "",
        f"{len(catalogue.controls)} controls, each checked on the running box by `intramuros evidence collect`; "
        "`intramuros evidence show ID` prints what was asked for, what was seen and the command that shows it. "
        "`{state}` is the folder of the appliance's data.",
        "",
        f"Numbers are those of {table.benchmarks['cis']} and {table.benchmarks['anssi']}, taken from {table.source}. "
        f"Our controls stand for {len(covered & level1)} of the {len(level1)} rules of its profile `cis_level1_server` "
        f"and {len(covered & enhanced)} of the {len(enhanced)} of `anssi_bp28_enhanced`. The others are for desktops, "
        "for programs a box does not have, or for another way to the same (ufw and iptables beside nftables); OpenSCAP "
        "judges them anyway, and the report lists those that fail without a control of ours.",
    ]
    for topic in catalogue.topics:
        lines += [
            "",
            f"## {topic.topic}",
            "",
            "| control | what, and why | asked of | references |",
            "| --- | --- | --- | --- |",
        ]
        lines += [_row(control) for control in topic.control]
    return "\n".join([*lines, ""])


def _row(control: Control) -> str:
    profiles = "" if len(control.profiles) == 2 else f" *{control.profiles[0]} alone.*"
    refs = [*(f"CIS {number}" for number in control.refs.cis), *(f"ANSSI {number}" for number in control.refs.anssi)]
    cells = (
        f"{control.id}",
        f"**{control.title}.** {control.why}{profiles}",
        _check(control),
        ", ".join(refs) or "our own",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _check(control: Control) -> str:
    """Name what is looked at, in the check's own words."""
    said = msgspec.to_builtins(control.check)
    kind = str(said.pop("kind")).replace("-", " ")
    parts = [f"{key} {_value(value)}" for key, value in said.items() if value not in ({}, [], (), "", None, False)]
    hidden = {"absent_is_fine", "any_status", "status", "user"}
    return f"{kind}: `{'; '.join(part for part in parts if part.split()[0] not in hidden)}`"


def _value(value: object) -> str:
    match value:
        case dict():
            return " and ".join(
                f"{key} {_value(each)}" for key, each in value.items() if each not in ([], (), None, False)
            )
        case list() | tuple():
            return " ".join(str(each) for each in value[:6]) + (" …" if len(value) > 6 else "")
        case _:
            return str(value)


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
