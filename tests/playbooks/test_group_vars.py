"""What the answers become for the roles, as Ansible itself evaluates it."""

from __future__ import annotations

from typing import Any

import pytest

from installer.answers import as_document, check_answers
from tests.playbooks.evaluated import evaluated
from tests.quality.sources import ROOT
from tests.unit.installer.complete_answers import complete_answers

_THUMBPRINT = "Vuz2KD0aRg2Rpz2dQ7oFPuN1dHYg2D8HJxj8ZPVM0Wk"


@pytest.mark.parametrize(
    ("servers", "ports"),
    [
        ((), [80, 7500]),
        (("http://192.0.2.9",), [80]),
        (("http://192.0.2.9:7500",), [7500]),
        (("http://192.0.2.9:9090", "http://[2001:db8::9]", "http://192.0.2.8:9090/"), [80, 9090]),
    ],
)
def test_firewall_lets_the_box_reach_the_ports_that_tang_is_at(servers: tuple[str, ...], ports: list[int]) -> None:
    """Whatever port it is: the first unlocking happens before the firewall stands, the next after a restart."""
    storage: dict[str, Any] = {"mode": "luks", "device": "/dev/disk/by-id/data", "unlock": ["tang"]}
    tang = {
        "storage": storage | {"tang_servers": [{"url": url, "thumbprint": _THUMBPRINT} for url in servers]},
        "network": {"tang": ["192.0.2.0/24", "2001:db8::/64"]},
    }
    assert _evaluated("firewall_tang_ports", tang if servers else {}) == ports


@pytest.mark.parametrize(
    ("backup", "days"),
    [({}, 2), ({"schedule": "weekly"}, 8), ({"schedule": "*-*-01 03:00"}, 33), ({"schedule": "monthly"}, 33),
     ({"enabled": False}, 0)],
)  # fmt: skip
def test_a_backup_is_old_when_the_next_one_was_missed(backup: dict[str, Any], days: int) -> None:
    assert int(_evaluated("monitor_backup_days", {"backup": backup})) == days


def _evaluated(name: str, sections: dict[str, Any]) -> Any:
    answers = as_document(check_answers(complete_answers(**sections), name="answers.toml"))
    return evaluated(f"{{{{ {name} }}}}", {"answers": answers}, file=ROOT / "playbooks" / "group_vars" / "all.yml")
