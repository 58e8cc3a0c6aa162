"""Rules that the kernel's audit has loaded."""

from __future__ import annotations

import shlex
from itertools import pairwise

from installer.evidence.checks.finding import Finding, finding, listed
from installer.evidence.control import AuditRules
from installer.evidence.machine import CannotTell, Machine

_LIST = ("auditctl", "-l")
_STATE = ("auditctl", "-s")


def audit(check: AuditRules, machine: Machine) -> Finding:
    """Each asked rule is a set of words; one loaded rule must have them all."""
    if check.immutable:
        state = _ask(machine, _STATE)
        enabled = next((line.split()[1] for line in state.splitlines() if line.startswith("enabled ")), "unknown")
        return finding(ok=enabled == "2", observed=f"enabled {enabled}", expected="enabled 2", source=_STATE)
    loaded = [words_of(line) for line in _ask(machine, _LIST).splitlines()]
    missing = [rule for rule in check.rules if not any(set(rule.split()) <= words for words in loaded)]
    return finding(
        ok=not missing,
        observed=f"no rule with {listed(missing)}" if missing else f"all {len(check.rules)} rules are loaded",
        expected="; ".join(check.rules),
        source=_LIST,
    )


def _ask(machine: Machine, argv: tuple[str, ...]) -> str:
    answer = machine.run(*argv)
    if answer.status != 0:
        raise CannotTell(f"auditctl: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout


def words_of(line: str) -> set[str]:
    """Return a loaded rule as words: `path=…`, `perm=…`, `syscall=…`, `key=…`, and each field as it stands.

    auditctl prints the same rule in two ways, `-w PATH -p wa -k KEY` and `-a always,exit -F …`, so both become words.
    """
    words: set[str] = set()
    parts = shlex.split(line)
    for option, value in pairwise(parts):
        match option:
            case "-w":
                words.add(f"path={value}")
            case "-p":
                words.update(f"perm={letter}" for letter in value)
            case "-k":
                words.add(f"key={value}")
            case "-S":
                words.update(f"syscall={name}" for name in value.split(","))
            case "-F" if value.startswith("perm="):
                words.update(f"perm={letter}" for letter in value[5:])
            case "-F" if value.startswith("dir="):
                words.add(f"path={value[4:]}")
            case "-F" | "-C":
                words.add(value)
            case _:
                continue
    return words
