"""The firewall's ruleset, rendered with a site's answers and loaded by nft in a network namespace of its own.

What is compared is what the kernel says it loaded, parsed, not the text of the template.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from installer.evidence.control import Firewall
from installer.evidence.examine import examine
from tests.factories.evidence import RecordedMachine, said
from tests.quality.sources import ROOT

_ROLE = ROOT / "playbooks" / "roles" / "firewall"
_PASSWD = {
    "root": ["x", "0", "0", "root", "/root", "/bin/bash"],
    "_chrony": ["x", "105", "112", "", "/var/lib/chrony", "/usr/sbin/nologin"],
    "intramuros": ["x", "990", "990", "", "/nonexistent", "/usr/sbin/nologin"],
    "intramuros-ranks": ["x", "988", "988", "", "/nonexistent", "/usr/sbin/nologin"],
    "intramuros-gw": ["x", "989", "989", "", "/nonexistent", "/usr/sbin/nologin"],
}
_SITE = {
    "firewall_admin": ["10.0.1.0/24", "2001:db8:1::/64"],
    "firewall_clients": ["10.0.2.0/24"],
    "firewall_fleet": ["10.0.3.7"],
    "firewall_dns": ["10.0.9.53"],
    "firewall_ntp": ["10.0.9.123"],
    "firewall_egress": [{"to": "10.0.9.22", "port": 22, "protocol": "tcp", "user": "root"}],
}
_LINK = {"prefix": {"addr": "fe80::", "len": 10}}
_DHCP = {(None, 68), (json.dumps(_LINK), 546)}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft to load a ruleset"
)


@pytest.fixture
def ruleset(tmp_path: Path) -> list[dict[str, Any]]:
    return _load(_render(_SITE), tmp_path)


def test_three_chains_drop_by_default(ruleset: list[dict[str, Any]]) -> None:
    chains = {item["chain"]["name"]: item["chain"] for item in ruleset if "chain" in item}
    hooked = {
        name: (chain["hook"], chain["prio"], chain["policy"]) for name, chain in chains.items() if "hook" in chain
    }
    assert hooked == {
        "input": ("input", 0, "drop"),
        "forward": ("forward", 0, "drop"),
        "output": ("output", 0, "drop"),
    }
    assert {item["table"]["name"] for item in ruleset if "table" in item} == {"intramuros"}


def test_zones_are_sets_of_both_families(ruleset: list[dict[str, Any]]) -> None:
    sets = {item["set"]["name"]: item["set"] for item in ruleset if "set" in item}
    zones = ("admin", "clients", "fleet", "dns", "ntp", "syslog", "tang")
    assert sets.keys() == {f"{zone}{family}" for zone in zones for family in "46"}
    assert sets["admin4"]["elem"] == [{"prefix": {"addr": "10.0.1.0", "len": 24}}]
    assert sets["admin6"]["elem"] == [{"prefix": {"addr": "2001:db8:1::", "len": 64}}]
    assert sets["fleet4"]["elem"] == ["10.0.3.7"]
    assert "elem" not in sets["tang4"]


def test_ports_open_to_declared_zones_alone(ruleset: list[dict[str, Any]]) -> None:
    assert _accepted(ruleset, "input", "tcp") == {
        ("@admin4", 22),
        ("@admin6", 22),
        *((f"@{zone}{family}", 8443) for zone in ("admin", "clients", "fleet") for family in "46"),
    }
    assert _accepted(ruleset, "input", "udp") == _DHCP  # its answers


def test_dhcp_of_both_families_begins_and_renews(ruleset: list[dict[str, Any]]) -> None:
    out = {
        (json.dumps(_match(rule, "saddr")), _match(rule, "sport"), _match(rule, "dport"))
        for rule in _rules(ruleset, "output")
        if _verdict(rule) == "accept" and _match(rule, "dport") in [67, 547]
    }
    assert out == {("null", 68, 67), (json.dumps(_LINK), 546, 547)}


def test_without_dhcp_neither_family_has_it(tmp_path: Path) -> None:
    ruleset = _load(_render(_SITE | {"firewall_dhcp": False}), tmp_path)
    assert _accepted(ruleset, "input", "udp") == set()
    assert not [rule for rule in _rules(ruleset, "output") if _match(rule, "dport") in [67, 547]]


def test_switches_learn_which_groups_the_box_listens_to(ruleset: list[dict[str, Any]]) -> None:
    """Neighbour discovery is multicast: a switch that hears no reports stops passing it on (RFC 4890, 4.4.1)."""
    (query,) = [rule for rule in _rules(ruleset, "input") if "mld-listener-query" in json.dumps(rule)]
    assert (_match(query, "saddr"), _match(query, "hoplimit"), _verdict(query)) == (_LINK, 1, "accept")
    (said,) = [_match(rule, "type") for rule in _rules(ruleset, "output") if "listener" in json.dumps(rule)]
    assert set(said["set"]) == {"mld-listener-report", "mld-listener-done", "mld2-listener-report"}


def test_answers_go_out_before_the_silent_accounts_are_stopped(ruleset: list[dict[str, Any]]) -> None:
    verdicts = [_verdict(rule) for rule in _rules(ruleset, "output")]
    assert verdicts[:5] == ["drop", "accept", *["jump silent"] * 3]  # invalid, answers, then the accounts
    silent = [_match(rule, "skuid") for rule in _rules(ruleset, "output") if _verdict(rule) == "jump silent"]
    assert sorted(silent) == [988, 989, 990]
    assert _verdict(_rules(ruleset, "silent")[-1]) == "reject"


def test_only_infrastructure_is_reached_and_only_by_its_accounts(ruleset: list[dict[str, Any]]) -> None:
    allowed = set()
    for rule in _rules(ruleset, "output"):
        target = _match(rule, "daddr")
        if target is not None and _verdict(rule) == "accept" and _match(rule, "sport") is None:
            allowed.add((str(target), json.dumps(_match(rule, "dport")), json.dumps(_match(rule, "skuid"))))
    of_both_families = {
        (f"@{zone}{family}", port, accounts)
        for family in "46"
        for zone, port, accounts in (
            ("dns", "53", "null"),
            ("ntp", "123", '{"set": [0, 105]}'),
            ("syslog", "6514", "0"),
            ("tang", '{"set": [80, 7500]}', "0"),
        )
    }
    assert allowed == of_both_families | {("10.0.9.22", "22", "0")}


def test_sessions_older_than_the_rules_may_answer_administrators(ruleset: list[dict[str, Any]]) -> None:
    """Connection tracking begins with the first load, so it does not know them; a new connection is no answer."""
    answers = [
        rule for rule in _rules(ruleset, "output") if _match(rule, "sport") is not None and _match(rule, "daddr")
    ]
    assert [(_match(rule, "daddr"), _match(rule, "sport"), _verdict(rule)) for rule in answers] == [
        ("@admin4", 22, "accept"),
        ("@admin6", 22, "accept"),
    ]
    assert all('"syn"' in json.dumps(rule) and '"ack"' in json.dumps(rule) for rule in answers)


def test_last_rule_of_each_chain_counts_and_ends(ruleset: list[dict[str, Any]]) -> None:
    assert _verdict(_rules(ruleset, "input")[-1]) == "drop"
    assert _verdict(_rules(ruleset, "forward")[-1]) == "drop"
    assert _verdict(_rules(ruleset, "output")[-1]) == "reject"


def test_neighbour_discovery_stays_and_only_from_the_link(ruleset: list[dict[str, Any]]) -> None:
    rule = next(rule for rule in _rules(ruleset, "input") if "nd-neighbor-solicit" in json.dumps(rule))
    assert _match(rule, "hoplimit") == 255


def test_without_the_gateway_ssh_alone_is_open(tmp_path: Path) -> None:
    ruleset = _load(_render(_SITE | {"firewall_gateway": False}), tmp_path)
    assert _accepted(ruleset, "input", "tcp") == {("@admin4", 22), ("@admin6", 22)}


def test_the_fleet_s_port_is_open_to_other_boxes_alone(tmp_path: Path) -> None:
    ruleset = _load(_render(_SITE | {"firewall_fleet_port": 51820}), tmp_path)
    assert _accepted(ruleset, "input", "udp") == _DHCP | {("@fleet4", 51820), ("@fleet6", 51820)}
    out = {
        (_match(rule, "daddr"), _match(rule, "sport"), _match(rule, "dport"))
        for rule in _rules(ruleset, "output")
        if _verdict(rule) == "accept" and "@fleet" in json.dumps(rule)
    }
    assert out == {("@fleet4", 51820, None), ("@fleet6", 51820, None)}


def test_without_a_fleet_nothing_names_it_but_its_set_and_the_gateway(ruleset: list[dict[str, Any]]) -> None:
    named = [rule for chain in ("input", "output") for rule in _rules(ruleset, chain) if "@fleet" in json.dumps(rule)]
    assert [(_match(rule, "saddr"), _match(rule, "dport")) for rule in named] == [("@fleet4", 8443), ("@fleet6", 8443)]


@pytest.mark.parametrize(
    ("added", "ok"),
    [
        ("", True),
        ("tcp dport 9100 accept", True),
        ("ip saddr 0.0.0.0/0 accept", False),
        ("ct state { established, new } accept", False),
        ("meta l4proto tcp accept", False),
        ("tcp dport 1-65535 accept", False),
    ],
)
def test_the_evidence_passes_what_is_loaded_and_sees_a_hole_in_it(added: str, ok: bool, tmp_path: Path) -> None:
    chain = "type filter hook input priority filter; policy drop;\n"
    text = _render(_SITE)
    assert text.count(chain) == 1
    loaded = _load(text.replace(chain, f"{chain}{added}\n"), tmp_path)
    machine = RecordedMachine(programs={("nft", "-j", "list", "ruleset"): said(json.dumps({"nftables": loaded}))})
    for check in (Firewall(hook="input", interface="lo"), Firewall(hook="output"), Firewall(hook="forward")):
        assert examine(check, machine).ok is (ok or check.hook != "input"), check


def test_loading_twice_over_an_older_version_is_the_same(tmp_path: Path) -> None:
    older = _render(_SITE | {"firewall_admin": ["10.99.0.0/16"], "firewall_ssh_port": 2222})
    assert _load(older + _render(_SITE), tmp_path) == _load(_render(_SITE), tmp_path)


def test_no_other_table_is_touched() -> None:
    statements = [line for line in _render(_SITE).splitlines() if line and not line.startswith((" ", "#", "}"))]
    assert statements == ["table inet intramuros", "delete table inet intramuros", "table inet intramuros {"]


def _render(site: dict[str, Any]) -> str:
    defaults = yaml.safe_load((_ROLE / "defaults" / "main.yml").read_text())
    facts = {"getent_passwd": _PASSWD}
    values: dict[str, Any] = {**defaults, **site, "ansible_facts": facts}
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.tests["search"] = lambda value, pattern: re.search(pattern, value) is not None
    values["__firewall_zones"] = {
        zone: values[f"firewall_{zone}"] for zone in ("admin", "clients", "fleet", "dns", "ntp", "syslog", "tang")
    }
    values["__firewall_time_users"] = [0, 105]
    return environment.from_string((_ROLE / "templates" / "intramuros.nft.j2").read_text()).render(values)


def _load(text: str, folder: Path) -> list[dict[str, Any]]:
    file = folder / "ruleset.nft"
    file.write_text(text)
    script = f"nft -f {file} && nft -j list ruleset"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [_without_handles(item) for item in json.loads(done.stdout)["nftables"] if "metainfo" not in item]


def _without_handles(item: Any) -> Any:
    if isinstance(item, dict):
        return {
            key: _without_handles(value) for key, value in item.items() if key not in {"handle", "packets", "bytes"}
        }
    return [_without_handles(each) for each in item] if isinstance(item, list) else item


def _rules(ruleset: list[dict[str, Any]], chain: str) -> list[list[dict[str, Any]]]:
    return [item["rule"]["expr"] for item in ruleset if "rule" in item and item["rule"]["chain"] == chain]


def _verdict(rule: list[dict[str, Any]]) -> str:
    last = next(expression for expression in reversed(rule) if "counter" not in expression and "log" not in expression)
    (name, value), *_ = last.items()
    return f"jump {value['target']}" if name == "jump" else name


def _match(rule: list[dict[str, Any]], field: str) -> Any:
    for expression in rule:
        left = expression.get("match", {}).get("left", {})
        for kind in ("payload", "meta", "th"):
            part = left.get(kind, {})
            if part.get("field") == field or part.get("key") == field:
                return expression["match"]["right"]
    return None


def _accepted(ruleset: list[dict[str, Any]], chain: str, protocol: str) -> set[tuple[Any, Any]]:
    found = set()
    port = {"protocol": protocol, "field": "dport"}
    for rule in _rules(ruleset, chain):
        ports = [
            expression["match"]["right"]
            for expression in rule
            if expression.get("match", {}).get("left", {}).get("payload") == port
        ]
        if ports and _verdict(rule) == "accept":
            source = _match(rule, "saddr")
            found.add((source if isinstance(source, str) else source and json.dumps(source), ports[0]))
    return found
