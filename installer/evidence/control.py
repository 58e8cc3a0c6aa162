"""A control: one requirement that our roles implement, and the live check that shows whether it is in effect.

Knows nothing of machines and files. Invariant: every control names how to look for oneself.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Status(StrEnum):
    """Verdict on one control."""

    PASS = "pass"  # noqa: S105  a verdict, no password
    FAIL = "fail"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"
    ERROR = "error"


class Profile(StrEnum):
    """How far hardening goes."""

    BASELINE = "baseline"
    STRICT = "strict"


class References(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the requirement comes from."""

    cis: tuple[str, ...] = ()
    """numbers of CIS Debian Linux 12 Benchmark 1.1.0"""
    anssi: tuple[str, ...] = ()
    """recommendations of ANSSI-BP-028 2.0"""
    ssg: tuple[str, ...] = ()
    """rules of the ssg-debian12 datastream that ask for the same"""


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a value must be. Every part that is given must hold; an empty expectation asks for any value at all."""

    equals: str | None = None
    one_of: tuple[str, ...] = ()
    at_least: int | None = None
    at_most: int | None = None
    includes: tuple[str, ...] = ()
    """words that a list of words must have"""
    excludes: tuple[str, ...] = ()
    """words that it must not have"""
    within: tuple[str, ...] = ()
    """the only words that it may have"""
    absent: bool = False
    """no value at all is fine, too"""


class _Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class Sysctl(_Check, tag="sysctl", frozen=True, kw_only=True):
    """The running kernel's parameter; in a container those of the host cannot be ours."""

    key: str
    value: Expectation


class Sshd(_Check, tag="sshd", frozen=True, kw_only=True):
    """A setting as sshd resolves it for a login, by `sshd -T -C`."""

    key: str
    value: Expectation
    user: str = "root"


class Unit(_Check, tag="unit", frozen=True, kw_only=True):
    """A systemd unit's state."""

    name: str
    enabled: bool | None = None
    active: bool | None = None
    absent_is_fine: bool = False


class Mount(_Check, tag="mount", frozen=True, kw_only=True):
    """A mount point and its options as init sees them."""

    path: str
    options: tuple[str, ...] = ()


class File(_Check, tag="file", frozen=True, kw_only=True):
    """Owner, group and the most permissions that files may have."""

    paths: tuple[str, ...]
    """names or shell patterns; `{state}` is the folder of the appliance's data"""
    mode: str
    owner: tuple[str, ...] = ("root",)
    group: tuple[str, ...] = ("root",)
    absent_is_fine: bool = True


class Content(_Check, tag="content", frozen=True, kw_only=True):
    """Lines of files: all of `has` somewhere, none of `lacks` anywhere. Regular expressions, comments left out."""

    paths: tuple[str, ...]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    absent_is_fine: bool = False


class Absent(_Check, tag="absent", frozen=True, kw_only=True):
    """Files that must not exist."""

    paths: tuple[str, ...]


class Setting(_Check, tag="setting", frozen=True, kw_only=True):
    """A value in files of `key = value` or `key value` lines, read in order; `first` says that the first one wins."""

    paths: tuple[str, ...]
    key: str
    value: Expectation
    first: bool = False


class SystemdSetting(_Check, tag="systemd-setting", frozen=True, kw_only=True):
    """A setting of one of systemd's own files with its drop-ins, as `systemd-analyze cat-config` puts them together."""

    file: str
    section: str
    key: str
    value: Expectation


class Pam(_Check, tag="pam", frozen=True, kw_only=True):
    """A line of a PAM stack."""

    service: str
    stage: str
    module: str
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    absent: bool = False
    """the module must not be there"""


class AuditRules(_Check, tag="audit", frozen=True, kw_only=True):
    """Rules that the kernel's audit has loaded, by `auditctl -l`. Each one is a set of words in one rule."""

    rules: tuple[str, ...] = ()
    immutable: bool = False


class Module(_Check, tag="module", frozen=True, kw_only=True):
    """A kernel module that cannot be loaded and is not."""

    name: str


class Packages(_Check, tag="packages", frozen=True, kw_only=True):
    """Packages that are installed, or must not be."""

    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


class Firewall(_Check, tag="firewall", frozen=True, kw_only=True):
    """A base chain of our table: hook and policy, no rule that accepts nearly everything, and one for the loopback."""

    hook: str
    policy: str = "drop"
    interface: str = ""
    """a rule must accept this loopback interface"""


class Listeners(_Check, tag="listeners", frozen=True, kw_only=True):
    """Programs that listen on an address which is not a loopback."""

    programs: tuple[str, ...]
    tunnel: str = ""
    """file of `wg setconf`: its UDP port may be the kernel's, which has no process"""


class UnitScore(_Check, tag="unit-score", frozen=True, kw_only=True):
    """The exposure of a unit by `systemd-analyze security`: 0 is best, 10 worst."""

    units: tuple[str, ...]
    at_most: float


class KernelArgument(_Check, tag="kernel-argument", frozen=True, kw_only=True):
    """An argument of the running kernel's command line."""

    argument: str


class Sudo(_Check, tag="sudo", frozen=True, kw_only=True):
    """Sudo's rules, parsed by cvtsudoers: defaults that are set, and a tag that no rule may have."""

    default: str = ""
    value: Expectation = Expectation()
    no_tag: str = ""


class Accounts(_Check, tag="accounts", frozen=True, kw_only=True):
    """A rule on the accounts of this machine."""

    rule: str


class Command(_Check, tag="command", frozen=True, kw_only=True):
    """What a program prints."""

    argv: tuple[str, ...]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    status: int = 0
    any_status: bool = False
    """find(1) ends with 1 when a file vanished meanwhile, findmnt(8) when there is none; any other failure is told"""


Check = (
    Sysctl
    | Sshd
    | Unit
    | Mount
    | File
    | Content
    | Absent
    | Setting
    | SystemdSetting
    | Pam
    | AuditRules
    | Module
    | Packages
    | Firewall
    | Listeners
    | UnitScore
    | KernelArgument
    | Sudo
    | Accounts
    | Command
)


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One requirement with its check."""

    id: str
    title: str
    why: str
    role: str
    """the role of the playbooks that sees to it"""
    refs: References
    check: Check
    strict: Check | None = None
    """what the strict profile asks instead"""
    profiles: tuple[Profile, ...] = (Profile.BASELINE, Profile.STRICT)
    unless: tuple[str, ...] = ()
    """conditions of the machine under which the control says nothing, by name (applicability.py)"""

    def check_for(self, profile: Profile) -> Check:
        """Return the check that this profile asks for."""
        return self.strict if self.strict is not None and profile is Profile.STRICT else self.check
