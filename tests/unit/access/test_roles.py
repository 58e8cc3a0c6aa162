"""Roles and the permission table."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from appliance.access.roles import (
    ALL_ROLES,
    GROUPS,
    PERMISSIONS,
    Role,
    group_names,
    may,
    role_group_ids,
    roles_for,
    roles_of,
    roles_of_groups,
)
from appliance.kernel.errors import InternalError

ACTIONS = {
    "model.import",
    "dataset.import",
    "dataset.check",
    "dataset.split",
    "dataset.generate",
    "dataset.read",
    "dataset.remove",
    "suite.import",
    "suite.remove",
    "job.submit",
    "job.cancel",
    "campaign.submit",
    "campaign.cancel",
    "model.register",
    "model.export",
    "model.promote",
    "model.approve",
    "model.remove",
    "deployment.deploy",
    "deployment.override",
    "deployment.rollback",
    "key.create",
    "key.revoke",
    "approver.enrol",
    "audit.read",
    "audit.export",
    "backup.create",
    "backup.verify",
    "appliance.shutdown",
    "read",
}


def test_the_table_names_every_action_and_no_other() -> None:
    assert set(PERMISSIONS) == ACTIONS
    assert all(PERMISSIONS.values())


def test_every_role_has_its_group() -> None:
    assert set(GROUPS.values()) == set(Role)
    assert roles_of_groups(GROUPS) == ALL_ROLES
    assert roles_of_groups(["wheel", "intramuros-auditor"]) == {Role.AUDITOR}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.ADMIN, ACTIONS - {"model.approve"}),
        (
            Role.OPERATOR,
            ACTIONS
            - {
                "model.approve",
                "deployment.override",
                "approver.enrol",
                "audit.read",
                "audit.export",
                "appliance.shutdown",
            },
        ),
        (
            Role.DATA_SCIENTIST,
            {
                "read",
                "model.import",
                "dataset.import",
                "dataset.check",
                "dataset.split",
                "dataset.generate",
                "dataset.read",
                "suite.import",
                "suite.remove",
                "job.submit",
                "job.cancel",
                "campaign.submit",
                "campaign.cancel",
                "model.register",
                "model.export",
                "model.promote",
            },
        ),
        (Role.APPROVER, {"read", "model.approve"}),
        (Role.AUDITOR, {"read", "audit.read", "audit.export", "backup.verify"}),
    ],
)
def test_what_one_role_alone_may_do(role: Role, allowed: set[str]) -> None:
    assert {action for action in ACTIONS if may(frozenset({role}), action)} == allowed


def test_no_role_may_do_nothing_and_two_roles_add_up() -> None:
    assert not any(may(frozenset(), action) for action in ACTIONS)
    both = frozenset({Role.APPROVER, Role.AUDITOR})
    assert may(both, "model.approve")
    assert may(both, "audit.read")
    assert not may(both, "key.create")


def test_an_unknown_action_is_a_defect_not_a_permission() -> None:
    with pytest.raises(InternalError) as caught:
        may(ALL_ROLES, "model.delete")
    assert caught.value.code == "access.unknown_action"
    assert roles_for("read") == ALL_ROLES


def test_only_the_owner_of_an_embedded_run_has_every_role() -> None:
    uid = os.getuid()
    assert roles_of(uid, uid) == ALL_ROLES
    assert roles_of(uid + 1_000_000, uid) == frozenset()
    assert roles_of(uid + 1_000_000) == frozenset()


def test_groups_are_found_by_membership() -> None:
    own = pwd.getpwuid(os.getuid()).pw_gid

    def lookup(name: str) -> grp.struct_group:
        if name == "intramuros-operator":
            return grp.struct_group((name, "x", own, []))
        if name == "intramuros-admin":
            return grp.struct_group((name, "x", 1_000_000_007, []))
        raise KeyError(name)

    assert group_names(os.getuid(), lookup=lookup) == {"intramuros-operator"}


def test_root_administers_a_box_and_approves_nothing() -> None:
    assert Role.ADMIN in roles_of(0, on_box=True)
    assert Role.APPROVER not in roles_of(0, on_box=True)
    assert Role.ADMIN not in roles_of(0)
    assert roles_of(65534, on_box=True) == frozenset()


def test_only_role_groups_that_exist_are_named() -> None:
    def lookup(name: str) -> grp.struct_group:
        if name == "intramuros-operator":
            return grp.struct_group((name, "x", 4711, []))
        raise KeyError(name)

    assert role_group_ids(lookup) == {4711}
