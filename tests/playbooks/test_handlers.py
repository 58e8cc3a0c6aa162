"""Handlers of roles that a phase imports more than once: the one that Ansible runs is the role's own."""

from __future__ import annotations

import yaml

from tests.quality.sources import ROOT

_PLAYBOOKS = ROOT / "playbooks"


def test_a_role_s_own_import_is_the_last_one_where_imports_have_conditions() -> None:
    """Of two imports of a role the later one's handlers are found by name, and they inherit the import's `when`."""
    seen = 0
    for file in sorted(_PLAYBOOKS.glob("phase-*.yml")):
        for play in yaml.safe_load(file.read_text()):
            imports = [task for task in play.get("tasks") or [] if "ansible.builtin.import_role" in task]
            last = {task["ansible.builtin.import_role"]["name"]: task for task in imports}
            for role, task in last.items():
                conditions = {str(each.get("when")) for each in imports
                              if each["ansible.builtin.import_role"]["name"] == role}  # fmt: skip
                if len(conditions) > 1 and (_PLAYBOOKS / "roles" / role / "handlers").is_dir():
                    seen += 1
                    assert "tasks_from" not in task["ansible.builtin.import_role"], (file.name, role)
    assert seen, "no role is imported under different conditions any more: this test can go"
