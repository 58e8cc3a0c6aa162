"""What every role keeps to: a short main file, described variables, tags that name controls, no way to lock out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quality.sources import ROOT

_ROLES = ROOT / "playbooks" / "roles"
_HARDENING = ("audit", "base", "firewall", "integrity", "kernel", "lifeline", "logging", "ssh", "time")
_TAG = re.compile(r"cis_\d+(_\d+)+|anssi_r\d+|ssg_[a-z0-9_]+|[a-z_]+")


@pytest.mark.parametrize("role", _HARDENING)
def test_variables_are_described_and_prefixed(role: str) -> None:
    defaults = yaml.safe_load((_ROLES / role / "defaults" / "main.yml").read_text())
    specs = yaml.safe_load((_ROLES / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"]["options"]
    assert set(defaults) <= set(options)
    assert all(name.startswith(f"{role}_") for name in options)
    assert all(option.get("description") for option in options.values())


@pytest.mark.parametrize("role", _HARDENING)
def test_main_file_only_names_topics(role: str) -> None:
    tasks = yaml.safe_load((_ROLES / role / "tasks" / "main.yml").read_text())
    assert len(tasks) <= 8
    assert (_ROLES / role / "README.md").is_file()


@pytest.mark.parametrize("role", _HARDENING)
def test_tags_are_control_ids_or_topics(role: str) -> None:
    for task in _tasks(role):
        for tag in task.get("tags", ()):
            assert _TAG.fullmatch(tag), f"{role}: {task['name']} has the tag {tag}"


@pytest.mark.parametrize("role", _HARDENING)
def test_commands_say_when_they_change(role: str) -> None:
    for task in _tasks(role):
        if any(action in task for action in ("ansible.builtin.command", "ansible.builtin.script")):
            action = task.get("ansible.builtin.command", {})
            assert "changed_when" in task or "creates" in action, f"{role}: {task['name']}"


def test_trial_port_of_ssh_is_none_that_an_outgoing_connection_is_given() -> None:
    port = yaml.safe_load((_ROLES / "ssh" / "defaults" / "main.yml").read_text())["ssh_trial_port"]
    (given,) = re.findall(
        r'net\.ipv4\.ip_local_port_range: "(\d+) \d+"', (_ROLES / "kernel" / "vars" / "main.yml").read_text()
    )
    assert 1024 < port < int(given)


def test_risky_roles_run_between_arming_and_proof() -> None:
    play = yaml.safe_load((ROOT / "playbooks" / "phase-access.yml").read_text())[0]
    entries = [
        (task["ansible.builtin.import_role"]["name"], task["ansible.builtin.import_role"].get("tasks_from", "main"))
        for task in play["tasks"]
        if "ansible.builtin.import_role" in task
    ]
    assert entries[0] == ("lifeline", "arm")
    assert entries[-1] == ("lifeline", "prove")
    between = [entry for entry in entries[1:-1] if entry != ("lifeline", "extend")]
    assert between == [("kernel", "main"), ("base", "access"), ("ssh", "main"), ("firewall", "main")]


def test_no_task_edits_the_pam_stacks_by_hand() -> None:
    for task in _tasks("base"):
        assert "/etc/pam.d/common-" not in str({key: value for key, value in task.items() if key != "loop"})


def test_audit_never_halts_the_box() -> None:
    text = (_ROLES / "audit" / "tasks" / "daemon.yml").read_text()
    assert not re.search(r"_action: (HALT|SINGLE|SUSPEND)", text, re.IGNORECASE)


def _tasks(role: str) -> list[dict[str, Any]]:
    files: list[Path] = sorted((_ROLES / role / "tasks").glob("*.yml"))
    return [task for file in files for task in yaml.safe_load(file.read_text()) or []]
