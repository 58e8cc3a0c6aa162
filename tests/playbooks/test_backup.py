"""The backups' folder and timers: there before the daemon that writes to it."""

from __future__ import annotations

from typing import Any

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


def _play() -> dict[str, Any]:
    play: dict[str, Any] = yaml.safe_load((_PLAYBOOKS / "phase-appliance.yml").read_text())[0]
    return play


def _indices() -> list[int]:
    return [number for number, task in enumerate(_play()["tasks"]) if "ansible.builtin.import_role" in task]


def _steps() -> list[tuple[str, str]]:
    roles = [_play()["tasks"][number]["ansible.builtin.import_role"] for number in _indices()]
    return [(role["name"], role.get("tasks_from", "main")) for role in roles]
