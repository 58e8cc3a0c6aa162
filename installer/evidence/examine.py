"""Applies a check to a machine: one function, every kind."""

from __future__ import annotations

from installer.evidence import control as kinds
from installer.evidence.checks.access import pam, sshd, sudo
from installer.evidence.checks.accounts import accounts
from installer.evidence.checks.audit import audit
from installer.evidence.checks.files import absent, content, file, setting
from installer.evidence.checks.finding import Finding
from installer.evidence.checks.kernel import kernel_argument, module, mount, sysctl
from installer.evidence.checks.network import firewall
from installer.evidence.checks.services import listeners, systemd_setting, unit, unit_score
from installer.evidence.checks.software import command, packages
from installer.evidence.machine import Machine


def examine(check: kinds.Check, machine: Machine) -> Finding:
    """Look at one value. Raises CannotTell or DoesNotApply."""
    match check:
        case kinds.Sysctl():
            return sysctl(check, machine)
        case kinds.Sshd():
            return sshd(check, machine)
        case kinds.Unit():
            return unit(check, machine)
        case kinds.Mount():
            return mount(check, machine)
        case kinds.File():
            return file(check, machine)
        case kinds.Content():
            return content(check, machine)
        case kinds.Absent():
            return absent(check, machine)
        case kinds.Setting():
            return setting(check, machine)
        case kinds.SystemdSetting():
            return systemd_setting(check, machine)
        case kinds.Pam():
            return pam(check, machine)
        case kinds.AuditRules():
            return audit(check, machine)
        case kinds.Module():
            return module(check, machine)
        case kinds.Packages():
            return packages(check, machine)
        case kinds.Firewall():
            return firewall(check, machine)
        case kinds.Listeners():
            return listeners(check, machine)
        case kinds.UnitScore():
            return unit_score(check, machine)
        case kinds.KernelArgument():
            return kernel_argument(check, machine)
        case kinds.Sudo():
            return sudo(check, machine)
        case kinds.Accounts():
            return accounts(check, machine)
        case kinds.Command():
            return command(check, machine)
