"""The backups' folder is there before the daemon that writes to it; what answers no longer ask for is taken away."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.quality.sources import ROOT

_PLAYBOOKS = ROOT / "playbooks"


def test_folder_of_the_backups_is_made_before_any_daemon_may_write_to_it_alone() -> None:
    """systemd.exec(5): without a dash a path in ReadWritePaths= must exist, or the unit does not start."""
    steps = _steps()
    folder = steps.index(("backup", "folder"))
    assert steps.index(("app", "ground")) < folder < steps.index(("sandbox", "main")) < steps.index(("app", "service"))
    assert "when" not in _play()["tasks"][_indices()[folder]], "the settings name it, whether a timer asks or not"
    template = (_PLAYBOOKS / "roles" / "sandbox" / "templates" / "sandbox.conf.j2").read_text()
    assert "ReadWritePaths={{ item.value.writes | join(' ') }}" in template


@pytest.mark.parametrize("role", ["backup", "monitor"])
def test_role_that_the_answers_no_longer_ask_for_takes_all_its_units_away(role: str) -> None:
    (made, left) = (_when(role, "main"), _when(role, "leave"))
    assert (made, left) == (f"answers.{role}.enabled", f"not answers.{role}.enabled")
    tasks = _PLAYBOOKS / "roles" / role / "tasks"
    texts = [path.read_text() for path in tasks.glob("*.yml") if path.name != "leave.yml"]
    written = set(re.findall(r"/etc/systemd/system/([\w@.-]+):", "".join(texts)))
    looked, stopped, removed, _ = yaml.safe_load((tasks / "leave.yml").read_text())
    assert set(removed["loop"]) == written
    assert looked["ansible.builtin.stat"]["path"] == f"/etc/systemd/system/{removed['loop'][-1]}"
    units = str(stopped["loop"]) + str(stopped.get("vars"))
    assert all(name in units for name in written if not name.endswith(".service"))
    assert (
        stopped["ansible.builtin.systemd_service"]["enabled"],
        stopped["ansible.builtin.systemd_service"]["state"],
    ) == (
        False,
        "stopped",
    )


def _when(role: str, tasks_from: str) -> str:
    step = _steps().index((role, tasks_from))
    return str(_play()["tasks"][_indices()[step]]["when"])


def _play() -> dict[str, Any]:
    play: dict[str, Any] = yaml.safe_load((_PLAYBOOKS / "phase-appliance.yml").read_text())[0]
    return play


def _indices() -> list[int]:
    return [number for number, task in enumerate(_play()["tasks"]) if "ansible.builtin.import_role" in task]


def _steps() -> list[tuple[str, str]]:
    roles = [_play()["tasks"][number]["ansible.builtin.import_role"] for number in _indices()]
    return [(role["name"], role.get("tasks_from", "main")) for role in roles]
