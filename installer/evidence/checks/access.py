"""Who gets in and how far: sshd, PAM, sudo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from installer.evidence.checks.finding import Finding, finding, in_words, listed, meets
from installer.evidence.control import Pam, Sshd, Sudo
from installer.evidence.machine import CannotTell, DoesNotApply, Machine


def sshd(check: Sshd, machine: Machine) -> Finding:
    """Ask sshd itself what it would do for this user's login."""
    argv = ("sshd", "-T", "-C", f"user={check.user},host=localhost,addr=127.0.0.1")
    answer = machine.run(*argv)
    if answer.status != 0:
        raise CannotTell(f"sshd -T: {answer.stderr.strip()}")
    values = [
        rest
        for line in answer.stdout.splitlines()
        for key, _, rest in [line.partition(" ")]
        if key.lower() == check.key.lower()
    ]
    value = " ".join(values) if values else None
    return finding(
        ok=meets(value, check.value),
        observed="not set" if value is None else f"{check.key} {value}",
        expected=f"{check.key} {in_words(check.value)}",
        source=argv,
    )


def pam(check: Pam, machine: Machine) -> Finding:
    """Look for a module in a stack, its includes followed."""
    lines = [line for line in _stack(check.service, machine) if line.stage == check.stage]
    if not lines:
        raise DoesNotApply(f"PAM has no service {check.service} here")
    found = [line for line in lines if line.module.rpartition("/")[2] == check.module]
    source = f"cat /etc/pam.d/{check.service}"
    if check.absent:
        return finding(
            ok=not found, observed=listed(line.text for line in found) or "not there", expected="absent", source=source
        )
    parts = [check.module, *check.includes, *(f"no {each}" for each in check.excludes)]
    fine = [
        line
        for line in found
        if all(_has(line, each) for each in check.includes) and not any(_has(line, each) for each in check.excludes)
    ]
    clean = not any(_has(line, each) for line in found for each in check.excludes)
    seen = listed(line.text for line in fine or found) or "not there"
    return finding(ok=bool(fine) and clean, observed=seen, expected=" ".join(parts), source=source)


class _PamLine:
    __slots__ = ("control", "module", "stage", "text", "words")

    def __init__(self, stage: str, control: str, module: str, words: list[str]) -> None:
        self.stage, self.control, self.module, self.words = stage, control, module, words
        self.text = " ".join([stage, control, module, *words])


_PAM = re.compile(r"^-?(auth|account|password|session)\s+(\[[^\]]*\]|\S+)\s+(\S+)\s*(.*)$")


def _stack(service: str, machine: Machine, depth: int = 0) -> Iterator[_PamLine]:
    text = machine.read(f"/etc/pam.d/{service}")
    if text is None or depth > 8:
        return
    for line in text.splitlines():
        bare = line.split("#")[0].strip()
        if bare.startswith("@include"):
            yield from _stack(bare.split()[1], machine, depth + 1)
        elif found := _PAM.match(bare):
            if found[2] in {"include", "substack"}:
                yield from (each for each in _stack(found[3], machine, depth + 1) if each.stage == found[1])
            else:
                yield _PamLine(found[1], found[2], found[3], found[4].split())


def _has(line: _PamLine, word: str) -> bool:
    return word in line.words or (word.endswith("=") and any(each.startswith(word) for each in line.words))


def sudo(check: Sudo, machine: Machine) -> Finding:
    """Read sudo's rules as its own parser sees them."""
    argv = ("cvtsudoers", "-f", "json", "/etc/sudoers")
    answer = machine.run(*argv)
    if answer.status != 0:
        raise CannotTell(f"cvtsudoers: {answer.stderr.strip()}")
    try:
        rules: dict[str, Any] = json.loads(answer.stdout)
    except ValueError as error:
        raise CannotTell("cvtsudoers printed no JSON") from error
    if check.no_tag:
        holders = [
            " ".join(str(value) for user in spec.get("User_List", []) for value in user.values())
            for spec in rules.get("User_Specs", [])
            for command in spec.get("Cmnd_Specs", [])
            for option in command.get("Options", [])
            if option.get(check.no_tag) is False
        ]
        return finding(
            ok=not holders,
            observed=f"rules without {check.no_tag} for {listed(holders)}" if holders else "no such rule",
            expected=f"no rule turns {check.no_tag} off",
            source=argv,
        )
    values = [
        option[check.default]
        for entry in rules.get("Defaults", [])
        for option in entry.get("Options", [])
        if check.default in option
    ]
    value = None if not values else "yes" if values[-1] is True else "no" if values[-1] is False else str(values[-1])
    return finding(
        ok=meets(value, check.value),
        observed="not set" if value is None else f"{check.default} {value}",
        expected=f"{check.default} {in_words(check.value)}",
        source=argv,
    )
