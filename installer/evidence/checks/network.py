"""The firewall as the kernel has it, parsed from nft's JSON."""

from __future__ import annotations

import json
from typing import Any

from installer.evidence.checks.finding import Finding, finding, listed
from installer.evidence.control import Firewall
from installer.evidence.machine import CannotTell, Machine

_ARGV = ("nft", "-j", "list", "ruleset")


def firewall(check: Firewall, machine: Machine) -> Finding:
    """Look for a base chain of this hook with this policy, and for the loopback's rule in it."""
    answer = machine.run(*_ARGV)
    if answer.status != 0:
        raise CannotTell(f"nft: {answer.stderr.strip()}")
    try:
        objects: list[dict[str, Any]] = json.loads(answer.stdout)["nftables"]
    except (ValueError, KeyError) as error:
        raise CannotTell("nft printed no JSON") from error
    chains = [each["chain"] for each in objects if "chain" in each]
    base = [each for each in chains if each.get("type") == "filter" and each.get("hook") == check.hook]
    fine = [each for each in base if each.get("policy") == check.policy and each.get("family") == "inet"]
    expected = f"a filter chain of family inet on {check.hook} with policy {check.policy}"
    if check.interface:
        expected += f" that accepts {check.interface}"
        rules = [each["rule"] for each in objects if "rule" in each]
        fine = [chain for chain in fine if any(_accepts(rule, chain, check.interface) for rule in rules)]
    seen = listed(f"{each['family']} {each['table']} {each['name']} policy {each.get('policy')}" for each in base)
    return finding(ok=bool(fine), observed=seen or "no such chain", expected=expected, source=_ARGV)


def _accepts(rule: dict[str, Any], chain: dict[str, Any], interface: str) -> bool:
    same = all(rule.get(key) == chain.get(key) for key in ("family", "table")) and rule.get("chain") == chain["name"]
    expression = rule.get("expr", [])
    names = [
        each["match"].get("right")
        for each in expression
        if "match" in each and str(each["match"].get("left", {}).get("meta", {}).get("key", ""))[1:].startswith("if")
    ]
    return same and names == [interface] and any("accept" in each for each in expression)
