"""Rules on the accounts of this machine, each by a name that the catalogue uses.

Invariant: a finding names accounts and never a password's hash.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from installer.evidence.checks.finding import Finding, finding, listed
from installer.evidence.control import Accounts
from installer.evidence.machine import CannotTell, Machine
from installer.harden.other_access import ADMIN_GROUP

_NO_SHELL = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")
_FIRST_PERSON, _LAST_PERSON = 1000, 60000


@dataclass(frozen=True, slots=True, kw_only=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str
    shell: str
    secret: str  # second field of /etc/shadow; "" when there is no line
    last_change: str
    longest: str
    inactive: str

    @property
    def has_password(self) -> bool:
        return self.secret.startswith("$")

    @property
    def is_locked(self) -> bool:
        return self.secret.startswith(("!", "*"))

    @property
    def is_person(self) -> bool:
        return _FIRST_PERSON <= self.uid < _LAST_PERSON and self.shell not in _NO_SHELL


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Database:
    users: tuple[_User, ...]
    groups: tuple[_Group, ...]
    unshadowed: tuple[str, ...]
    machine: Machine


def accounts(check: Accounts, machine: Machine) -> Finding:
    """Apply one rule; what it names are the accounts that break it."""
    expected, source, rule = _RULES[check.rule]
    broken = list(rule(_read(machine)))
    return finding(ok=not broken, observed=listed(broken) or "none", expected=expected, source=source)


def rules() -> tuple[str, ...]:
    """Return the names of the rules that there are."""
    return tuple(_RULES)


def _read(machine: Machine) -> _Database:
    passwd = _table(machine, "/etc/passwd", 7)
    shadow = {line[0]: line for line in _table(machine, "/etc/shadow", 8)}
    none = [""] * 9
    users = tuple(
        _User(
            name=line[0],
            uid=int(line[2]),
            gid=int(line[3]),
            home=line[5],
            shell=line[6],
            secret=shadow.get(line[0], none)[1],
            last_change=shadow.get(line[0], none)[2],
            longest=shadow.get(line[0], none)[4],
            inactive=shadow.get(line[0], none)[6],
        )
        for line in passwd
    )
    groups = tuple(
        _Group(name=line[0], gid=int(line[2]), members=tuple(each for each in line[3].split(",") if each))
        for line in _table(machine, "/etc/group", 4)
    )
    return _Database(
        users=users, groups=groups, unshadowed=tuple(line[0] for line in passwd if line[1] != "x"), machine=machine
    )


def _table(machine: Machine, path: str, fields: int) -> list[list[str]]:
    text = machine.read(path)
    if text is None:
        raise CannotTell(f"{path} is not there")
    return [parts for line in text.splitlines() if len(parts := line.split(":")) >= fields]


def _twice(values: Iterable[str | int]) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]


def _people(data: _Database) -> list[_User]:
    return [user for user in data.users if user.is_person]


def _loose_homes(data: _Database) -> Iterable[str]:
    for user in _people(data):
        facts = data.machine.facts(user.home)
        if facts is None:
            yield f"{user.name}: {user.home} does not exist"
        elif facts.owner != user.name or facts.mode & 0o027:
            yield f"{user.name}: {user.home} {facts.owner} {facts.mode:04o}"


def _loose_dot_files(data: _Database) -> Iterable[str]:
    for user in [*_people(data), *(user for user in data.users if user.uid == 0)]:
        for name in data.machine.find(f"{user.home}/.[!.]*"):
            facts = data.machine.facts(name)
            if facts is None:
                continue
            private = name.endswith((".bash_history", ".netrc"))
            if facts.owner != user.name or facts.mode & (0o177 if private else 0o022):
                yield f"{name} {facts.owner} {facts.mode:04o}"
        for forbidden in (".forward", ".rhosts", ".shosts"):
            if data.machine.facts(f"{user.home}/{forbidden}") is not None:
                yield f"{user.home}/{forbidden}"


def _root_path(data: _Database) -> Iterable[str]:
    """Root's login shell puts PATH together from these; every folder of it must be root's alone."""
    answer = data.machine.run("env", "-i", "HOME=/root", "bash", "-lc", "echo $PATH")
    for folder in answer.stdout.strip().split(":"):
        facts = data.machine.facts(folder) if folder.startswith("/") else None
        if folder in {"", "."} or not folder.startswith("/"):
            yield f"the entry {folder!r}"
        elif facts is not None and (not facts.is_directory or facts.owner != "root" or facts.mode & 0o022):
            yield f"{folder} {facts.owner} {facts.mode:04o}"


def _su_members(data: _Database) -> Iterable[str]:
    found = re.search(r"^auth\s.*pam_wheel\.so.*\bgroup=(\S+)", data.machine.read("/etc/pam.d/su") or "", re.MULTILINE)
    if found is None:
        yield "/etc/pam.d/su names no group"
        return
    groups = [group for group in data.groups if group.name == found[1]]
    yield from (f"{name} in {group.name}" for group in groups for name in group.members)
    yield from (f"{user.name} in {group.name}" for group in groups for user in data.users if user.gid == group.gid)


def _future_changes(data: _Database) -> Iterable[str]:
    today = int(float((data.machine.run("date", "+%s").stdout or "0").strip() or 0)) // 86400
    return (user.name for user in data.users if user.last_change.isdigit() and int(user.last_change) > today)


def _aging(data: _Database) -> Iterable[str]:
    for user in data.users:
        if user.has_password and not (user.longest.isdigit() and 1 <= int(user.longest) <= 365):
            yield f"{user.name}: maximum {user.longest or 'not set'}"


def _inactive(data: _Database) -> Iterable[str]:
    """Root and administrators are left out: where theirs lapse nobody becomes root. OpenSCAP passes an empty field."""
    kept = {name for group in data.groups if group.name == ADMIN_GROUP for name in group.members}
    for user in data.users:
        if user.uid == 0 or (user.name in kept and not user.inactive):
            continue
        if user.has_password and not (user.inactive.isdigit() and int(user.inactive) <= 45):
            yield f"{user.name}: inactive {user.inactive or 'not set'}"


_Rule = Callable[[_Database], Iterable[str]]
_RULES: dict[str, tuple[str, str, _Rule]] = {
    "only-root-is-zero": (
        "no account but root has uid 0",
        "awk -F: '$3==0{print $1}' /etc/passwd",
        lambda data: (user.name for user in data.users if user.uid == 0 and user.name != "root"),
    ),
    "only-root-has-group-zero": (
        "root's primary group is 0, and nobody else's is",
        "awk -F: '$4==0{print $1}' /etc/passwd",
        lambda data: (
            user.name
            for user in data.users
            if (user.gid == 0) is not (user.name == "root") and user.name not in {"sync", "shutdown", "halt"}
        ),
    ),
    "only-root-group-is-zero": (
        "no group but root has gid 0",
        "awk -F: '$3==0{print $1}' /etc/group",
        lambda data: (group.name for group in data.groups if group.gid == 0 and group.name != "root"),
    ),
    "no-empty-passwords": (
        "no account without a password or a lock",
        "awk -F: '$2==\"\"{print $1}' /etc/shadow",
        lambda data: (user.name for user in data.users if not user.secret),
    ),
    "all-shadowed": (
        "every password is in /etc/shadow",
        "awk -F: '$2!=\"x\"{print $1}' /etc/passwd",
        lambda data: data.unshadowed,
    ),
    "strong-hashes": (
        "every password is stored by yescrypt or SHA-512",
        "cut -d: -f1,2 /etc/shadow | cut -c1-20",
        lambda data: (user.name for user in data.users if user.has_password and user.secret[:3] not in {"$y$", "$6$"}),
    ),
    "groups-exist": (
        "every account's primary group exists",
        "pwck -r",
        lambda data: (user.name for user in data.users if user.gid not in {group.gid for group in data.groups}),
    ),
    "shadow-group-empty": (
        "nobody is in the group shadow",
        "getent group shadow",
        lambda data: (
            [*(name for group in data.groups if group.name == "shadow" for name in group.members)]
            + [user.name for user in data.users if user.gid in {g.gid for g in data.groups if g.name == "shadow"}]
        ),
    ),
    "unique-uids": (
        "no uid twice",
        "cut -d: -f3 /etc/passwd | sort | uniq -d",
        lambda d: _twice(u.uid for u in d.users),
    ),
    "unique-gids": (
        "no gid twice",
        "cut -d: -f3 /etc/group | sort | uniq -d",
        lambda d: _twice(g.gid for g in d.groups),
    ),
    "unique-users": (
        "no user name twice",
        "cut -d: -f1 /etc/passwd | sort | uniq -d",
        lambda d: _twice(u.name for u in d.users),
    ),
    "unique-groups": (
        "no group name twice",
        "cut -d: -f1 /etc/group | sort | uniq -d",
        lambda d: _twice(g.name for g in d.groups),
    ),
    "no-system-shells": (
        "no system account has a login shell",
        "awk -F: '$3<1000' /etc/passwd",
        lambda data: (
            user.name
            for user in data.users
            if user.uid != 0
            and not _FIRST_PERSON <= user.uid < _LAST_PERSON
            and user.shell not in (*_NO_SHELL, "/bin/sync")
        ),
    ),
    "system-accounts-locked": (
        "every account without a login shell is locked",
        "passwd -S -a",
        lambda data: (user.name for user in data.users if user.shell in _NO_SHELL and not user.is_locked),
    ),
    "root-access-controlled": (
        "root has a password or is locked",
        "passwd -S root",
        lambda data: (user.name for user in data.users if user.uid == 0 and not (user.has_password or user.is_locked)),
    ),
    "su-group-empty": (
        "nobody is in the group that /etc/pam.d/su lets through",
        "grep pam_wheel /etc/pam.d/su; getent group GROUP",
        lambda data: _su_members(data),
    ),
    "homes-private": ("every person's home exists, is his own and private", "ls -ld /home/*", _loose_homes),
    "dot-files-private": (
        "no dot file that others may write, no .forward, no .rhosts",
        "ls -lA /home/*",
        _loose_dot_files,
    ),
    "root-path": ("root's PATH has only folders of root that nobody else writes", "bash -lc 'echo $PATH'", _root_path),
    "no-future-password-changes": ("no password was changed in the future", "chage -l USER", _future_changes),
    "passwords-age": ("every password ages within a year", "chage -l USER", _aging),
    "passwords-lapse": ("an account lapses at most 45 days after its password did", "chage -l USER", _inactive),
}
