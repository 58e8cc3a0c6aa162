"""Reading playbooks and planning over them; the real playbooks are read too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.kernel.errors import IntegrityFailure, NotFound
from installer.answers import Answers, check_answers
from installer.plan import Plan, make_plan, plan_document, plan_text
from installer.playbooks import digest_playbooks, read_book
from tests.quality.sources import ROOT
from tests.unit.installer.complete_answers import complete_answers

_PLAYBOOKS = ROOT / "playbooks"


def planned(answers: Answers, **more: Any) -> Plan:
    given: dict[str, Any] = {
        "book": "site",
        "phases": read_book(_PLAYBOOKS, "site"),
        "answers": answers,
        "bundle": "b" * 64,
        "playbooks_digest": "p" * 64,
    }
    return make_plan(**(given | more))


def test_site_in_its_order(answers: Answers) -> None:
    plan = planned(answers)
    names = [step.phase.name for step in plan.steps]
    assert names == ["packages", "ground", "storage", "hardening", "access", "appliance", "record"]
    assert {step.phase.name: step.skipped for step in plan.steps if step.skipped} == {
        "storage": "storage.mode is not luks"
    }


def test_risky_roles_stand_between_arm_and_prove() -> None:
    (access,) = [phase for phase in read_book(_PLAYBOOKS, "site") if phase.name == "access"]
    roles = [role.name for role in access.roles]
    for risky in ("kernel", "base (access)", "ssh", "firewall"):
        assert roles.index("lifeline (arm)") < roles.index(risky) < roles.index("lifeline (prove)")


@pytest.mark.parametrize("book", ["site", "harden"])
def test_every_phase_ends_with_the_mark(book: str) -> None:
    for phase in read_book(_PLAYBOOKS, book):
        plays = yaml.safe_load(phase.file.read_text())
        assert plays[-1]["post_tasks"][-1]["ansible.builtin.import_tasks"] == "tasks/mark_end.yml", phase.name
        assert all(play["hosts"] == "box" for play in plays), phase.name


def test_conditions_of_the_book_are_the_plan_s(answers: Answers) -> None:
    """Who runs site.yml with plain ansible-playbook gets what the installer does."""
    conditions = {
        entry["ansible.builtin.import_playbook"].removeprefix("phase-").removesuffix(".yml"): entry.get("when")
        for entry in yaml.safe_load((_PLAYBOOKS / "site.yml").read_text())
    }
    off = check_answers(complete_answers(app={"enabled": False}), name="a")
    assert {name for name, condition in conditions.items() if condition} == {
        step.phase.name for step in planned(off).steps if step.skipped
    }


def test_the_digest_follows_what_is_done(answers: Answers, tmp_path: Path) -> None:
    plan = planned(answers)
    assert plan == planned(answers)
    other = check_answers(complete_answers(profile="strict"), name="a")
    digests = {
        plan.digest,
        planned(other).digest,
        planned(answers, bundle="").digest,
        planned(answers, playbooks_digest="q").digest,
        planned(answers, only=["ground"]).digest,
    }
    assert len(digests) == 5
    (tmp_path / "a").write_text("x")
    first = digest_playbooks(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_playbooks(tmp_path) != first


def test_plan_for_people_and_programs(answers: Answers) -> None:
    plan = planned(answers)
    text = plan_text(plan)
    assert "not run: storage.mode is not luks" in text
    assert "cis_" in text
    short = plan_text(plan, tasks=False)
    assert len(short.splitlines()) < len(text.splitlines()) / 2
    document = plan_document(plan)
    assert sum(len(role["tasks"]) for phase in document["phases"] for role in phase["roles"]) > 100


@pytest.mark.parametrize(
    ("content", "error"),
    [("- hosts: all\n", IntegrityFailure), ("a: [\n", IntegrityFailure), ("just text\n", IntegrityFailure)],
)
def test_playbooks_that_are_not_ours(tmp_path: Path, content: str, error: type[Exception]) -> None:
    (tmp_path / "site.yml").write_text(content)
    with pytest.raises(error):
        read_book(tmp_path, "site")


def test_missing_phase_is_named(tmp_path: Path) -> None:
    (tmp_path / "site.yml").write_text("- import_playbook: phase-none.yml\n")
    with pytest.raises(NotFound, match=r"phase-none\.yml"):
        read_book(tmp_path, "site")


def test_blocks_and_files_are_followed(tmp_path: Path) -> None:
    tasks = tmp_path / "roles" / "r" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(
        "- import_tasks: more.yml\n"
        "- block:\n    - name: In a block\n      debug:\n"
        "  rescue:\n    - name: In rescue\n      debug: {msg: !unsafe '{{ x }}'}\n"
        "- meta: flush_handlers\n"
    )
    (tasks / "more.yml").write_text("- name: In a file\n  tags: [cis_1_1_1]\n  debug:\n")
    (tmp_path / "site.yml").write_text("- import_playbook: phase-a.yml\n")
    (tmp_path / "phase-a.yml").write_text("- name: A\n  hosts: box\n  roles: [r]\n")
    (phase,) = read_book(tmp_path, "site")
    (role,) = phase.roles
    assert [task.name for task in role.tasks] == ["In a file", "In a block", "In rescue"]
    assert role.tasks[0].tags == ("cis_1_1_1",)
