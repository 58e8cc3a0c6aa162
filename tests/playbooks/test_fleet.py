"""The fleet's files, rendered with a site's answers: who is in it, what WireGuard is told, and which units hold it."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.quality.sources import ROOT

_ROLES = ROOT / "playbooks" / "roles"
_BETA = {"name": "beta", "address": "10.77.0.2", "endpoint": "192.0.2.12", "public_key": "B" * 43 + "="}
_FLEET = {"fleet_name": "alpha", "fleet_address": "10.77.0.1/24", "fleet_boxes": [_BETA]}
_UNITS = [f"intramuros-fleet-{name}.service" for name in ("space", "link", "network")]


def test_box_alone_names_itself_on_the_loopback() -> None:
    told = tomllib.loads(_render("fleet", "fleet.toml.j2", fleet_name="alpha"))
    assert told == {
        "own": "alpha",
        "interface": "lo",
        "port": 7600,
        "boxes": [{"name": "alpha", "address": "127.0.0.1"}],
    }


def test_fleet_names_every_box_by_its_address_inside() -> None:
    told = tomllib.loads(_render("fleet", "fleet.toml.j2", **_FLEET))
    assert (told["own"], told["interface"]) == ("alpha", "wg-fleet")
    assert told["boxes"] == [{"name": "alpha", "address": "10.77.0.1"}, {"name": "beta", "address": "10.77.0.2"}]


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("192.0.2.12", "192.0.2.12:51820"),
        ("192.0.2.12:443", "192.0.2.12:443"),
        ("2001:db8::12", "[2001:db8::12]:51820"),
        ("[2001:db8::12]:443", "[2001:db8::12]:443"),
    ],
)
def test_endpoint_without_a_port_gets_this_box_s(endpoint: str, told: str) -> None:
    text = _render("fleet", "wireguard.conf.j2", **_FLEET | {"fleet_boxes": [_BETA | {"endpoint": endpoint}]})
    assert re.findall(r"^Endpoint = (.*)$", text, re.MULTILINE) == [told]


@pytest.mark.parametrize(("address", "told"), [("10.77.0.2", "10.77.0.2/32"), ("fd00::2", "fd00::2/128")])
def test_a_box_sends_from_its_own_address_alone(address: str, told: str) -> None:
    text = _render("fleet", "wireguard.conf.j2", **_FLEET | {"fleet_boxes": [_BETA | {"address": address}]})
    assert re.findall(r"^AllowedIPs = (.*)$", text, re.MULTILINE) == [told]


def test_private_key_is_in_no_template_and_no_argument() -> None:
    texts = [path.read_text() for path in (_ROLES / "fleet").rglob("*.j2")]
    assert not [text for text in texts if re.search(r"^PrivateKey", text, re.MULTILINE)]
    commands = yaml.safe_load((_ROLES / "fleet" / "tasks" / "key.yml").read_text())
    made = next(task for task in commands if "genkey" in str(task))
    assert made["no_log"] is True
    assert "> {{ __fleet_private_key }}.new" in made["ansible.builtin.shell"]["cmd"]


@pytest.mark.parametrize("joined", [True, False])
def test_rank_host_joins_the_fleet_s_namespace_only_in_a_fleet(joined: bool) -> None:
    unit = _unit(_render("app", "intramuros-ranks.service.j2", app_fleet=joined))
    assert unit["Unit"].get("JoinsNamespaceOf") == (_UNITS[0] if joined else None)
    assert unit["Unit"].get("Requires") == unit["Unit"].get("After") == (_UNITS[2] if joined else None)
    assert unit["Service"]["User"] == "intramuros-ranks"


def test_one_unit_stands_for_the_whole_network() -> None:
    space, link, network = (_unit(_render("fleet", f"{name}.j2", **_FLEET)) for name in _UNITS)
    assert space["Unit"]["PartOf"].split() == _UNITS[1:]
    assert link["Unit"]["PartOf"] == _UNITS[2]
    assert network["Unit"]["Requires"].split() == network["Unit"]["After"].split() == _UNITS[:2]
    assert network["Unit"]["JoinsNamespaceOf"] == link["Unit"]["Requires"] == _UNITS[0]
    assert space["Service"]["Type"] == "exec", "its process must be in the namespace when the interface is made"


def test_sandboxes_of_the_fleet_have_one_capability_at_most_and_no_way_out() -> None:
    address = {"sandbox_fleet_addresses": ["10.77.0.1", "10.77.0.2"], "sandbox_fleet_networks": ["192.0.2.12"]}
    seen = {name: _sandbox(name, **address) for name in ("intramuros-ranks.service", *_UNITS)}
    assert [sandbox["CapabilityBoundingSet"] for sandbox in seen.values()] == ["", "", *["CAP_NET_ADMIN"] * 2]
    assert [sandbox.get("PrivateNetwork") for sandbox in seen.values()] == ["yes", "yes", None, "yes"]
    assert {sandbox["IPAddressDeny"] for sandbox in seen.values()} == {"any"}
    assert seen["intramuros-ranks.service"]["IPAddressAllow"] == "localhost 10.77.0.1 10.77.0.2"
    assert seen[_UNITS[1]]["IPAddressAllow"] == "192.0.2.12"


def test_sandbox_of_a_rank_host_alone_allows_the_loopback_alone() -> None:
    assert _sandbox("intramuros-ranks.service")["IPAddressAllow"] == "localhost"


def test_what_joins_a_namespace_has_its_own_private_tmp_nowhere_else() -> None:
    """Units in one namespace share /tmp too, so that of the rank host must not be the box's."""
    for name in ("intramuros-ranks.service", _UNITS[0], _UNITS[2]):
        assert _sandbox(name)["PrivateTmp"] == "yes"


def _render(role: str, template: str, **given: Any) -> str:
    values: dict[str, Any] = yaml.safe_load((_ROLES / role / "defaults" / "main.yml").read_text())
    values |= yaml.safe_load((_ROLES / role / "vars" / "main.yml").read_text())
    environment = _environment()
    for name, value in list(values.items()):
        if isinstance(value, str) and "{{ __fleet" in value:
            values[name] = environment.from_string(value).render(values)
    return environment.from_string((_ROLES / role / "templates" / template).read_text()).render(values | given)


def _sandbox(unit: str, **given: Any) -> dict[str, str]:
    environment = _environment()
    defaults: dict[str, Any] = yaml.safe_load((_ROLES / "sandbox" / "defaults" / "main.yml").read_text())
    units = yaml.safe_load((_ROLES / "sandbox" / "vars" / "main.yml").read_text())["__sandbox_units"]
    item = {"key": unit, "value": units[unit] | {"tunnel_device": False}}
    template = (_ROLES / "sandbox" / "templates" / "sandbox.conf.j2").read_text()
    return dict(_unit(environment.from_string(template).render(defaults | given | {"item": item}))["Service"])


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.tests["match"] = lambda value, pattern: re.match(pattern, value) is not None
    environment.filters["basename"] = lambda path: Path(path).name
    environment.filters["regex_replace"] = lambda value, pattern, new: re.sub(pattern, new, value)
    return environment


def _unit(text: str) -> ConfigParser:
    """Read a unit; of a key that is given several times the last one counts here."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(text)
    return parser
