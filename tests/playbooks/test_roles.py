"""What every role keeps to: a short main file, described variables, tags that name controls, no way to lock out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks.evaluated import evaluated
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


def test_age_of_a_password_never_turns_a_key_away() -> None:
    """pam_unix(8): without the option sshd refuses a key, in a batch, as soon as the account's password is old."""
    profile = (_ROLES / "base" / "files" / "pam-configs" / "intramuros-unix").read_text()
    account = profile.partition("Account-Type:")[2].partition("Session-Type:")[0]
    lines = [line for line in account.splitlines() if "pam_unix.so" in line]
    assert len(lines) == 2
    assert all(line.endswith("pam_unix.so no_pass_expiry") for line in lines)


def test_passwords_age_after_the_proof_alone() -> None:
    ageing = "password_expire"
    files = [path for path in _ROLES.glob("*/tasks/*.yml") if ageing in path.read_text()]
    assert [path.relative_to(_ROLES) for path in files] == [Path("base/tasks/ageing.yml")]
    books = [path.name for path in (ROOT / "playbooks").glob("*.yml") if "tasks_from: ageing" in path.read_text()]
    assert books == ["phase-record.yml"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("Let the present passwords age too", ["root", "ada", "eve", "soon"]),
        ("Let present accounts lapse too", ["eve"]),
    ],
)
def test_administrator_and_root_never_lapse(task: str, expected: list[str]) -> None:
    (loop,) = [each["loop"] for each in _tasks("base") if each["name"] == task]
    day, year, none = "20000", "365", ""
    shadow = {
        "root": ["$y$", day, "1", year, "7", none, none, none],
        "ada": ["$y$", day, "1", year, "7", none, none, none],
        "eve": ["$y$", day, "1", year, "7", none, none, none],
        "soon": ["$y$", day, "1", year, "7", "14", none, none],
        "locked": ["!", day, "1", year, "7", none, none, none],
    }
    variables = {"ansible_facts": {"getent_shadow": shadow}, "base_admin_user": "ada"}
    assert [each["key"] for each in evaluated(loop, variables)] == expected


def test_no_task_edits_the_pam_stacks_by_hand() -> None:
    for task in _tasks("base"):
        assert "/etc/pam.d/common-" not in str({key: value for key, value in task.items() if key != "loop"})


def test_evidence_waits_for_the_time() -> None:
    unit = (_ROLES / "evidence" / "templates" / "intramuros-evidence.service.j2").read_text()
    assert "\nAfter=time-sync.target\n" in unit


def test_monitor_sees_every_unit_that_a_role_writes_or_starts() -> None:
    text = (_ROLES / "monitor" / "vars" / "main.yml").read_text()
    (expression,) = re.findall(r"--collector\.systemd\.unit-include=(\S+)", text)
    watched = re.compile(expression.replace("\\\\", "\\"))
    tasks = "".join(path.read_text() for path in sorted(_ROLES.glob("*/tasks/*.yml")))
    written = set(re.findall(r"/etc/systemd/system/([\w@.-]+\.(?:service|timer|target)):", tasks))
    assert {"aidecheck.service", "intramuros-evidence.service", "intramuros-backup.service"} <= written
    others = {"dailyaidecheck.service", "nftables.service", "auditd.service", "chrony.service", "ssh.service"}
    assert not sorted(name for name in written | others if not watched.fullmatch(name))
    assert not watched.fullmatch("cron.service")


def test_audit_never_halts_the_box() -> None:
    text = (_ROLES / "audit" / "tasks" / "daemon.yml").read_text()
    assert not re.search(r"_action: (HALT|SINGLE|SUSPEND)", text, re.IGNORECASE)


def _tasks(role: str) -> list[dict[str, Any]]:
    files: list[Path] = sorted((_ROLES / role / "tasks").glob("*.yml"))
    return [task for file in files for task in yaml.safe_load(file.read_text()) or []]
