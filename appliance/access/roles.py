"""Roles from Unix groups, and the one table that says which role may do what.

Knows no sessions, no sockets and no objects: separation of duties between two people (an author does not approve
their own model) is the service's rule. Invariant: what is not in the table is allowed to nobody.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from appliance.kernel.errors import InternalError


class Role(StrEnum):
    """What somebody is on this appliance; one person may hold several."""

    ADMIN = "admin"
    OPERATOR = "operator"
    DATA_SCIENTIST = "data_scientist"
    APPROVER = "approver"
    AUDITOR = "auditor"


GROUPS: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "intramuros-admin": Role.ADMIN,
        "intramuros-operator": Role.OPERATOR,
        "intramuros-datascientist": Role.DATA_SCIENTIST,
        "intramuros-approver": Role.APPROVER,
        "intramuros-auditor": Role.AUDITOR,
    }
)
"""Unix group -> role."""

ALL_ROLES: Final = frozenset(Role)
_RUNS = frozenset({Role.ADMIN, Role.OPERATOR})
_BUILDS = frozenset({Role.ADMIN, Role.OPERATOR, Role.DATA_SCIENTIST})
_READS_AUDIT = frozenset({Role.ADMIN, Role.AUDITOR})

PERMISSIONS: Final[Mapping[str, frozenset[Role]]] = MappingProxyType(
    {
        "read": ALL_ROLES,
        "model.import": _BUILDS,
        "dataset.import": _BUILDS,
        "dataset.check": _BUILDS,
        "dataset.split": _BUILDS,
        "dataset.generate": _BUILDS,
        "dataset.read": _BUILDS,
        "dataset.remove": _RUNS,
        "suite.import": _BUILDS,
        "suite.remove": _BUILDS,
        "job.submit": _BUILDS,
        "job.cancel": _BUILDS,
        "campaign.submit": _BUILDS,
        "campaign.cancel": _BUILDS,
        "model.register": _BUILDS,
        "model.export": _BUILDS,
        "model.promote": _BUILDS,
        "model.approve": frozenset({Role.APPROVER}),  # not the administrator: two people, or it is no approval
        "model.remove": _RUNS,
        "deployment.deploy": _RUNS,
        "deployment.override": frozenset({Role.ADMIN}),
        "deployment.rollback": _RUNS,
        "key.create": _RUNS,
        "key.revoke": _RUNS,
        "approver.enrol": frozenset({Role.ADMIN}),
        "audit.read": _READS_AUDIT,
        "audit.export": _READS_AUDIT,
        "backup.create": _RUNS,
        "backup.verify": _RUNS | {Role.AUDITOR},
        "appliance.shutdown": frozenset({Role.ADMIN}),
    }
)
"""Action -> the roles that may do it."""


def roles_of(uid: int, embedded_owner_uid: int | None = None, *, on_box: bool = False) -> frozenset[Role]:
    """Return the roles of a Unix user; the owner of an embedded run holds every role, a stranger none.

    On a box root administers: it could take any role anyway, and so the trail says what it did. It approves nothing.
    """
    if embedded_owner_uid is not None and uid == embedded_owner_uid:
        return ALL_ROLES
    roles = roles_of_groups(group_names(uid))
    return roles | {Role.ADMIN} if on_box and uid == 0 else roles


def role_group_ids(lookup: Callable[[str], grp.struct_group] = grp.getgrnam) -> frozenset[int]:
    """Return the ids of those role groups that exist here."""
    found = set()
    for name in GROUPS:
        try:
            found.add(lookup(name).gr_gid)
        except KeyError:
            continue
    return frozenset(found)


def roles_of_groups(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles that membership in these groups gives."""
    return frozenset(GROUPS[name] for name in names if name in GROUPS)


def group_names(uid: int, *, lookup: Callable[[str], grp.struct_group] = grp.getgrnam) -> frozenset[str]:
    """Return those of our groups a user belongs to, primary group included, as the system's databases say it now."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    member_of = set(os.getgrouplist(account.pw_name, account.pw_gid))
    found = set()
    for name in GROUPS:
        try:
            group = lookup(name)
        except KeyError:
            continue
        if group.gr_gid in member_of:
            found.add(name)
    return frozenset(found)


def roles_for(action: str) -> frozenset[Role]:
    """Return the roles that may do `action`. Raises InternalError for an action that is not in the table."""
    try:
        return PERMISSIONS[action]
    except KeyError:
        raise InternalError("access.unknown_action", f"No permission is defined for the action {action!r}.") from None


def may(roles: frozenset[Role], action: str) -> bool:
    """Tell whether somebody with these roles may do `action`. Raises InternalError for an unknown action."""
    return not roles.isdisjoint(roles_for(action))
