"""systemd's part: units, its settings, how exposed a unit is, and who listens on the network."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from installer.evidence.checks.finding import Finding, finding, in_words, listed, meets
from installer.evidence.control import Listeners, SystemdSetting, Unit, UnitScore
from installer.evidence.machine import CannotTell, DoesNotApply, Machine

_TUNNEL = "the kernel's WireGuard"
_ENABLED = {"enabled", "enabled-runtime", "static", "alias", "indirect", "generated"}


def unit(check: Unit, machine: Machine) -> Finding:
    """Compare whether a unit is enabled and whether it runs."""
    argv = ("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", check.name)
    answer = machine.run(*argv)
    state = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    wanted = [
        "" if check.enabled is None else "enabled" if check.enabled else "not enabled",
        "" if check.active is None else "active" if check.active else "not active",
    ]
    expected = ", ".join(word for word in wanted if word)
    load, file_state, active = state.get("LoadState", ""), state.get("UnitFileState", ""), state.get("ActiveState", "")
    if not load:
        raise CannotTell(f"systemctl: {answer.stderr.strip() or 'no answer'}")
    if load in {"not-found", "masked"}:
        off = check.absent_is_fine or (not check.enabled and not check.active)
        return finding(ok=off, observed=load, expected=expected, source=argv)
    ok = (check.enabled is None or (file_state in _ENABLED) is check.enabled) and (
        check.active is None or (active in {"active", "reloading"}) is check.active
    )
    return finding(ok=ok, observed=f"{file_state or 'no unit file'}, {active}", expected=expected, source=argv)


def systemd_setting(check: SystemdSetting, machine: Machine) -> Finding:
    """Resolve a key of one of systemd's files with its drop-ins; the last one wins."""
    argv = ("systemd-analyze", "cat-config", check.file)
    section, value = "", None
    for line in machine.run(*argv).stdout.splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
        elif section == check.section and "=" in text and text[0] not in "#;":
            key, _, given = text.partition("=")
            value = given.strip() if key.strip() == check.key else value
    return finding(
        ok=meets(value, check.value),
        observed="not set" if value is None else f"{check.key}={value}",
        expected=f"{check.key}={in_words(check.value)}",
        source=argv,
    )


def unit_score(check: UnitScore, machine: Machine) -> Finding:
    """Compare the exposure of those of the units that are loaded here."""
    argv = ("systemd-analyze", "security", "--json=short", "--no-pager")
    answer = machine.run(*argv)
    try:
        table: list[dict[str, Any]] = json.loads(answer.stdout)
        scores = {each["unit"]: float(each["exposure"]) for each in table}
    except (ValueError, KeyError, TypeError) as error:
        raise CannotTell(f"systemd-analyze security: {answer.stderr.strip() or error}") from error
    found = {name: score for name, score in scores.items() if _named(name, check.units)}
    if not found:
        raise DoesNotApply(f"none of {', '.join(check.units)} is loaded here")
    return finding(
        ok=all(score <= check.at_most for score in found.values()),
        observed=listed(f"{name} {score}" for name, score in sorted(found.items())),
        expected=f"at most {check.at_most}",
        source=argv,
    )


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.fullmatch(re.escape(each).replace(r"\*", ".*"), name) for each in patterns)


def listeners(check: Listeners, machine: Machine) -> Finding:
    """Name the unit behind each socket that others can reach."""
    argv = ("ss", "-H", "-t", "-u", "-l", "-n", "-p")
    answer = machine.run(*argv)
    if answer.status != 0:
        raise CannotTell(f"ss: {answer.stderr.strip()}")
    tunnel = _tunnel_port(machine.read(check.tunnel) if check.tunnel else None)
    seen, foreign = [], []
    for line in answer.stdout.splitlines():
        fields = line.split()
        if len(fields) < 6 or _is_loopback(fields[4]):
            continue
        process = re.search(r'\(\("([^"]*)",pid=(\d+)', line)
        owner = _unit_of(process[2], machine) if process else "unknown"
        if process is None and tunnel and fields[0] == "udp" and fields[4].endswith(f":{tunnel}"):
            owner = _TUNNEL
        said = f"{fields[0]} {fields[4]} {owner}"
        seen.append(said)
        if owner not in {*check.programs, _TUNNEL}:
            foreign.append(said)
    return finding(
        ok=not foreign,
        observed=listed(foreign or seen) or "nobody listens",
        expected=f"nobody but {', '.join(check.programs)}",
        source=argv,
    )


def _tunnel_port(settings: str | None) -> str:
    """Return the port that WireGuard was told, or nothing."""
    told = re.search(r"^ListenPort\s*=\s*([0-9]+)$", settings or "", flags=re.MULTILINE)
    return told[1] if told else ""


def _is_loopback(local: str) -> bool:
    address, _, _ = local.rpartition(":")
    bare, _, interface = address.strip("[]").partition("%")
    bare = bare.strip("[]")
    if interface.strip("[]") == "lo":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False  # "*" is every address


def _unit_of(pid: str, machine: Machine) -> str:
    """Return the unit of a process, from its control group."""
    for line in (machine.read(f"/proc/{pid}/cgroup") or "").splitlines():
        parts = [
            part for part in line.rpartition(":")[2].split("/") if part.endswith((".service", ".scope", ".socket"))
        ]
        if parts:
            return parts[-1]
    return "unknown"
