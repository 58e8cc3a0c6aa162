"""The firewall as the kernel has it, parsed from nft's JSON.

Only our table counts: a drop in any base chain is final, so what other tables accept opens nothing.
"""

from __future__ import annotations

import json
from typing import Any

from installer.evidence.checks.finding import Finding, finding, listed
from installer.evidence.control import Firewall
from installer.evidence.machine import CannotTell, Machine

TABLE = ("inet", "intramuros")
_ARGV = ("nft", "-j", "list", "ruleset")
_PROTOCOLS = frozenset({"nfproto", "l4proto", "protocol", "nexthdr", "version"})
_ALL_PORTS = ([0, 65535], [1, 65535])


def firewall(check: Firewall, machine: Machine) -> Finding:
    """Look for our base chain of this hook with this policy, no rule that undoes it, and the loopback's rule in it."""
    answer = machine.run(*_ARGV)
    if answer.status != 0:
        raise CannotTell(f"nft: {answer.stderr.strip()}")
    try:
        objects: list[dict[str, Any]] = json.loads(answer.stdout)["nftables"]
    except (ValueError, KeyError) as error:
        raise CannotTell("nft printed no JSON") from error
    chains = [each["chain"] for each in objects if "chain" in each]
    rules = [each["rule"] for each in objects if "rule" in each and _is_ours(each["rule"])]
    base = [each for each in chains if each.get("type") == "filter" and each.get("hook") == check.hook]
    ours = [each for each in base if _is_ours(each)]
    fine = [each for each in ours if each.get("policy") == check.policy]
    open_to_all = [each["name"] for each in ours if _accepts_all(each["name"], rules)]
    expected = f"a filter chain of the table {' '.join(TABLE)} on {check.hook} with policy {check.policy}"
    expected += " and no rule that accepts nearly everything"
    if check.interface:
        expected += f", that accepts {check.interface}"
        fine = [chain for chain in fine if any(_accepts(rule, chain["name"], check.interface) for rule in rules)]
    seen = listed(
        [
            *(f"{name} has a rule that accepts nearly everything" for name in open_to_all),
            *(f"{each['family']} {each['table']} {each['name']} policy {each.get('policy')}" for each in base),
        ]
    )
    return finding(ok=bool(fine) and not open_to_all, observed=seen or "no such chain", expected=expected, source=_ARGV)


def _is_ours(named: dict[str, Any]) -> bool:
    return (named.get("family"), named.get("table")) == TABLE


def _accepts_all(chain: str, rules: list[dict[str, Any]], seen: tuple[str, ...] = ()) -> bool:
    """Tell whether a rule of the chain accepts without asking for much, itself or by the chain that it leads to."""
    for rule in rules:
        expression = rule.get("expr", [])
        if rule.get("chain") != chain or any("vmap" in each or _is_narrow(each.get("match")) for each in expression):
            continue
        if any("accept" in each for each in expression):
            return True
        led = [each[verb]["target"] for each in expression for verb in ("jump", "goto") if verb in each]
        if any(_accepts_all(name, rules, (*seen, chain)) for name in led if name not in {*seen, chain}):
            return True
    return False


def _is_narrow(match: dict[str, Any] | None) -> bool:
    """Tell whether a match leaves most packets out: no bare protocol, no network of everybody, no new connection."""
    if match is None or match["op"] == "!=":
        return False
    left, right = match["left"], match["right"]
    if {left.get("meta", {}).get("key"), left.get("payload", {}).get("field")} & _PROTOCOLS:
        return False
    within = right.get("set", right) if isinstance(right, dict) else right
    values = within if isinstance(within, list) else [within]
    if left.get("ct", {}).get("key") == "state":
        return "new" not in values
    return not any(_is_everything(value) for value in values)


def _is_everything(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("prefix", {}).get("len") == 0 or value.get("range") in _ALL_PORTS


def _accepts(rule: dict[str, Any], chain: str, interface: str) -> bool:
    expression = rule.get("expr", [])
    names = [
        each["match"].get("right")
        for each in expression
        if "match" in each and str(each["match"].get("left", {}).get("meta", {}).get("key", ""))[1:].startswith("if")
    ]
    return rule.get("chain") == chain and names == [interface] and any("accept" in each for each in expression)
