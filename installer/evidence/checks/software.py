"""Packages that are installed, and what programs print."""

from __future__ import annotations

import re

from appliance.kernel.process import Outcome
from installer.evidence.checks.finding import Finding, finding, listed
from installer.evidence.control import Command, Packages
from installer.evidence.machine import CannotTell, Machine

_ARGV = ("dpkg-query", "-W", "-f", r"${Package} ${Version} ${db:Status-Status}\n")


def installed(machine: Machine) -> dict[str, str]:
    """Return every installed package with its version."""
    answer = machine.run(*_ARGV)
    if answer.status != 0:
        raise CannotTell(f"dpkg-query: {answer.stderr.strip()}")
    fields = [line.split(" ") for line in answer.stdout.splitlines()]
    return {parts[0]: parts[1] for parts in fields if len(parts) == 3 and parts[2] == "installed"}


def packages(check: Packages, machine: Machine) -> Finding:
    """Compare with dpkg's database."""
    found = installed(machine)
    missing = [name for name in check.present if name not in found]
    unwanted = [name for name in check.absent if name in found]
    names = [*check.present, *check.absent]
    seen = [*(f"{name} is missing" for name in missing), *(f"{name} {found[name]}" for name in unwanted)]
    return finding(
        ok=not seen,
        observed=listed(seen) or listed(f"{name} {found[name]}" for name in check.present) or "none is installed",
        expected="; ".join(
            part
            for part in (
                f"installed: {', '.join(check.present)}" if check.present else "",
                f"not installed: {', '.join(check.absent)}" if check.absent else "",
            )
            if part
        ),
        source=["dpkg-query", "-W", *names],
    )


def command(check: Command, machine: Machine) -> Finding:
    """Compare what a program prints with patterns, line by line."""
    answer = machine.run(*check.argv)
    lines = answer.stdout.splitlines()
    if _says_nothing(answer) if check.any_status else answer.status != check.status:
        raise CannotTell(
            f"{check.argv[0]} ended with {answer.status}: {answer.stderr.strip() or answer.stdout.strip()}"
        )
    missing = [each for each in check.has if not any(re.search(each, line) for line in lines)]
    bad = [line for each in check.lacks for line in lines if re.search(each, line)]
    shown = [line for each in check.has for line in lines if re.search(each, line)]
    return finding(
        ok=not missing and not bad,
        observed=listed(bad) or listed(shown) or "nothing",
        expected="; ".join([*(f"a line {each}" for each in check.has), *(f"no line {each}" for each in check.lacks)]),
        source=check.argv,
    )


def _says_nothing(answer: Outcome) -> bool:
    """Tell whether a program failed and printed nothing, so that its silence is no finding.

    1 without a word is findmnt's "none"; a file that vanished while find(1) looked is not there, which is fine.
    """
    if answer.status == 0 or answer.stdout.strip():
        return False
    told = [line for line in answer.stderr.splitlines() if not line.endswith(": No such file or directory")]
    return bool(told) or answer.status != 1
