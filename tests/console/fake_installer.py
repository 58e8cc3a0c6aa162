"""An installer in memory: the wizard's backend for tests, and as a program for tests in a terminal."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from appliance.kernel.errors import IntramurosError
from installer import handover
from installer.answers import Answers, check_answers, parse_answers
from installer.events import (
    Failed,
    Note,
    PhaseDone,
    PhaseSkipped,
    PhaseStarted,
    Progress,
    StepEvent,
    TaskDone,
    TaskStarted,
)
from installer.findings import Finding, Level
from installer.storage import recovery_key
from tui.install.backend import Machine, PlannedStep, Problem, Report, Unfinished

KEY = recovery_key.generate(lambda count: bytes(range(count)))
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcasR/hKYBVePRKeeQB9cPh/Xq69bzLOXy+g1tU5EEt pat@desk"
DISK = "/dev/disk/by-id/virtio-data"
SUGGESTIONS = {
    "hostname": ("box-7",),
    "timezone": ("Europe/Vienna",),
    "admin.authorized_keys": (SSH_KEY,),
    "network.admin": ("192.0.2.0/24",),
    "network.dns": ("192.0.2.53",),
    "storage.device": (DISK, "/dev/disk/by-id/virtio-other"),
    "app.seed_model": ("seed-chat",),
}
FINE = (
    Finding(level=Level.OK, what="system", found="Debian 12.11, x86-64"),
    Finding(level=Level.OK, what="memory", found="8.0 GiB"),
    Finding(level=Level.WARN, what="clock", found="no time server answers", hint="Check the date: 2026-07-01 12:03."),
)
BROKEN = Finding(level=Level.FAIL, what="disk", found="2.1 GiB free below /", hint="Free 10 GiB and check again.")
PHASES = (("ground", "Packages and accounts"), ("access", "Firewall, SSH and PAM"), ("storage", "Encrypted data"))
REPORT = Report(
    facts=(
        ("address", "https://box-7:8443/v1"),
        ("authority", "SHA-256 9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15"),
        ("its file", "/etc/intramuros/tls/ca.crt"),
        ("first key", "/etc/intramuros/first-api-key (root alone can read it)"),
        ("evidence", "99.3 % of what applies passes: 266 pass, 2 fail, 97 not-applicable"),
        ("login", "ssh pat@box-7"),
        ("journal", "/var/lib/intramuros/runs/0001-20260701T120300Z"),
    ),
    next=tuple(
        handover.steps(
            check_answers(
                {
                    "hostname": "box-7",
                    "admin": {"user": "pat", "authorized_keys": [SSH_KEY]},
                    "network": {"admin": ["192.0.2.0/24"]},
                    "app": {"seed_model": "seed-chat"},
                },
                name="answers.toml",
            )
        )
    ),
    changed=3,
)


class FakeInstaller:
    """Implements `tui.install.backend.Backend`."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.findings: tuple[Finding, ...] = FINE
        self.suggestions: dict[str, tuple[str, ...]] = dict(SUGGESTIONS)
        self.before: Unfinished | None = None
        self.installed = ""
        self.secrets: dict[str, str] = {}
        self.begun: list[tuple[Answers, str]] = []
        self.laid: str | None = None
        self.stopped = False
        self.armed: float | None = None
        self.problem: Problem | None = None
        self.failures: dict[str, IntramurosError] = {}
        self.gate = threading.Event()
        """the run waits for it before its second phase"""
        self.gate.set()
        self._stop_after = stop_after

    def machine(self) -> Machine:
        self._fail("machine")
        return Machine(
            host="box-7",
            release="0.1.0",
            suggestions=self.suggestions,
            bundle="/media/stick/intramuros",
            installed=self.installed,
        )

    def examine(self, answers: Answers | None) -> tuple[Finding, ...]:
        self._fail("examine")
        return self.findings

    def plan(self, answers: Answers) -> tuple[PlannedStep, ...]:
        self._fail("plan")
        luks = answers.storage.mode == "luks"
        told = {
            "ground": "49 tasks: base, evidence",
            "access": "75 tasks: lifeline, kernel, base, ssh, firewall",
            "storage": answers.storage.device if luks else "storage.mode is none",
        }
        return tuple(
            PlannedStep(name=name, title=title, detail=told[name], skipped=name == "storage" and not luks)
            for name, title in PHASES
        )

    def secrets_wanted(self, answers: Answers) -> tuple[str, ...]:
        password = answers.admin.sudo == "password" and not answers.admin.password_hash_file
        disk = "passphrase" in answers.storage.unlock and not answers.storage.passphrase_file
        return (*(["admin_password_hash"] if password else []), *(["storage_passphrase"] if disk else []))

    def secrets_kept(self) -> frozenset[str]:
        return frozenset(self.secrets)

    def keep_secret(self, name: str, secret: str) -> None:
        self.secrets[name] = secret

    def unfinished(self) -> Unfinished | None:
        return self.before

    def begin(self, answers: Answers, text: str) -> None:
        self._fail("begin")
        assert parse_answers(text.encode(), name="answers") == answers
        self.begun.append((answers, text))

    def follow(self) -> Iterator[StepEvent]:
        for number, (name, title) in enumerate(PHASES, 1):
            if name == "storage" and not self._encrypts:
                yield PhaseSkipped(phase=name, reason="storage.mode is none")
                continue
            yield PhaseStarted(phase=name, title=title, number=number, phases=len(PHASES), tasks=2)
            self.armed = 142.0 if name == "access" else None
            yield TaskStarted(phase=name, role="base", task="Install packages")
            if number > 1 and not self.gate.wait(20):
                return
            if self.stopped:
                self.problem = Problem(code="run.stopped", message=f"Phase {name}: it was cancelled.", hint="")
                yield Failed(phase=name, line="it was cancelled")
                return
            yield TaskDone(phase=name, role="base", task="Install packages", outcome="changed")
            if self._stop_after == number:
                self.problem = Problem(code="run.failed", message=f"Phase {name} failed: no.", hint="Run it again.")
                yield Failed(phase=name, role="base", task="Install packages", line="no such package")
                return
            yield Progress(phase=name, fraction=number / len(PHASES), eta_seconds=60.0)
            yield PhaseDone(phase=name, seconds=2.0, ok=4, changed=1, skipped=0)
        self.armed = None
        yield Note(text="The box is done.")

    @property
    def _encrypts(self) -> bool:
        return bool(self.begun) and self.begun[-1][0].storage.mode == "luks"

    def stop(self) -> None:
        self.stopped = True
        self.gate.set()

    def report(self) -> Report:
        self._fail("report")
        if self.problem:
            return Report(facts=(("log", "/var/lib/intramuros/runs/1/events.jsonl"),), next=(), problem=self.problem)
        return REPORT

    def new_recovery_key(self, answers: Answers) -> str | None:
        self._fail("new_recovery_key")
        return KEY if answers.storage.mode == "luks" and self.laid is None else None

    def lay_recovery_key(self, key: str) -> None:
        self.laid = key

    def lifeline(self) -> float | None:
        return self.armed

    def _fail(self, name: str) -> None:
        if name in self.failures:
            raise self.failures[name]


def main() -> int:
    """Run the wizard over the fake on this terminal."""
    from tui.install.main import run_wizard

    parser = argparse.ArgumentParser()
    parser.add_argument("draft", type=Path)
    parser.add_argument("--line", action="store_true")
    parser.add_argument("--tier", default=None)
    parser.add_argument("--hold", action="store_true", help="the run stops at its second phase")
    given = parser.parse_args()
    fake = FakeInstaller()
    if given.hold:
        fake.gate.clear()
    return run_wizard(fake, draft=given.draft, tier=given.tier, line=given.line)


if __name__ == "__main__":
    sys.exit(main())
