"""The installer of this box behind the wizard. The run is a process of its own: it outlives the wizard and its SSH
connection, and the next wizard finds it by its journal and its lock."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.kernel import process
from appliance.kernel.durable import write_file
from appliance.kernel.errors import storage_errors
from appliance.kernel.problem import Problem as Told
from appliance.kernel.terminal import counted
from installer import handover, run_journal, secrets
from installer.answers import Answers
from installer.cli.bundle_option import open_bundle
from installer.cli.prepare import OpenedBundle, find_playbooks
from installer.events import StepEvent
from installer.facts import Facts, gather
from installer.findings import Finding
from installer.following import tail
from installer.harden import lifeline
from installer.harden.probe_source import session_of_caller
from installer.in_effect import volume_is_ready
from installer.lock import holder
from installer.password import has_password, hash_password
from installer.places import Places
from installer.plan import make_plan
from installer.playbooks import digest_playbooks, read_book
from installer.preflight import preflight
from installer.storage import recovery_key
from tui.install.answer_file import save_answers
from tui.install.backend import Machine, PlannedStep, Problem, Report, Unfinished
from tui.install.offers import offers

_BOOK = "site"
_PATIENCE = 30.0
_POLL = 0.1
_SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "day": 86400.0}


class ThisBox:
    """Implements `tui.install.backend.Backend` on the machine it runs on."""

    def __init__(self, bundle: Path | None, *, places: Places | None = None) -> None:
        self._bundle_folder = bundle
        self._places = places if places is not None else Places()
        self._bundle: OpenedBundle | None = None
        self._facts: Facts | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._before: tuple[str, int] = ("", 0)

    @property
    def draft(self) -> Path:
        """Where the answers are kept while they are given."""
        return self._places.state / "wizard" / "draft.toml"

    @property
    def _log(self) -> Path:
        return self._places.state / "wizard" / "install.log"

    # Looking.

    def machine(self) -> Machine:
        """Verify the bundle, then look at the box. Raises what verification raises."""
        self._bundle = open_bundle(self._bundle_folder, required=True)
        self._facts = gather(None, places=self._places)
        assert self._bundle is not None
        return Machine(
            host=platform.node() or "this box",
            release=self._bundle.version,
            suggestions=offers(self._facts, self._bundle.root),
            bundle=str(self._bundle.root),
            installed=self._installed(),
        )

    def examine(self, answers: Answers | None) -> tuple[Finding, ...]:
        """Pre-flight."""
        facts = gather(answers, places=self._places)
        return tuple(preflight(facts, answers, bundle_version=self._bundle.version if self._bundle else None))

    def plan(self, answers: Answers) -> tuple[PlannedStep, ...]:
        """Every phase with its roles and the number of their tasks."""
        folder = find_playbooks(self._bundle)
        plan = make_plan(
            book=_BOOK,
            phases=read_book(folder, _BOOK),
            answers=answers,
            bundle=self._bundle.digest if self._bundle else "",
            playbooks_digest=digest_playbooks(folder),
        )
        return tuple(
            PlannedStep(
                name=step.phase.name,
                title=step.phase.title,
                detail=step.skipped or _work([(role.name, len(role.tasks)) for role in step.phase.roles]),
                skipped=bool(step.skipped),
            )
            for step in plan.steps
        )

    # Secrets.

    def secrets_wanted(self, answers: Answers) -> tuple[str, ...]:
        """The passphrase of the disk, and the password for sudo of an account that has none."""
        wanted = []
        if answers.admin.sudo == "password" and not answers.admin.password_hash_file and not self._has(answers):
            wanted.append(secrets.ADMIN_PASSWORD_HASH)
        asked = "passphrase" in answers.storage.unlock and not answers.storage.passphrase_file
        if asked and not volume_is_ready(self._places):
            wanted.append(secrets.STORAGE_PASSPHRASE)
        return tuple(wanted)

    def secrets_kept(self) -> frozenset[str]:
        """Those that lie in memory already, of this visit or of one that was killed."""
        return frozenset(secrets.laid(self._places.secrets))

    def keep_secret(self, name: str, secret: str) -> None:
        """Write it to memory; a password as its hash."""
        kept = hash_password(secret) if name == secrets.ADMIN_PASSWORD_HASH else secret
        secrets.lay(self._places.secrets, name, kept.encode() + b"\n")

    def new_recovery_key(self, answers: Answers) -> str | None:
        """A key for a volume that is not made yet and for which none was confirmed."""
        if answers.storage.mode != "luks" or secrets.STORAGE_RECOVERY_KEY in secrets.laid(self._places.secrets):
            return None
        return None if volume_is_ready(self._places) else recovery_key.generate()

    def lay_recovery_key(self, key: str) -> None:
        """Lay it down for the storage phase, which takes it and removes it."""
        secrets.lay(self._places.secrets, secrets.STORAGE_RECOVERY_KEY, key.encode() + b"\n")

    # The run.

    def unfinished(self) -> Unfinished | None:
        """The newest run, when it goes on or did not end well."""
        run = run_journal.latest_that_changed(self._places.runs)
        alive = holder(self._places.lock) is not None
        if run is None or run.head.book != _BOOK or ((run.state == "done" or run.taken_back) and not alive):
            return None
        phase = next((entry.phase for entry in reversed(run.entries) if entry.phase), "the beginning")
        return Unfinished(run=run.head.run, since=run.head.at, phase=phase, alive=alive)

    def begin(self, answers: Answers, text: str) -> None:
        """Start the installer in a session of its own, with a file that no other wizard writes to."""
        file = self._places.memory / f"answers-of-{os.getpid()}.toml"
        save_answers(file, text)
        run = run_journal.latest(self._places.runs)
        self._before = (run.head.run, len(run.entries)) if run else ("", 0)
        assert self._bundle is not None
        with storage_errors("starting the installation"):
            write_file(self._log, b"", mode=0o600)
            self._process = process.start(
                [
                    str(Path(sys.prefix) / "bin" / "intramuros"),
                    "install",
                    "--answers",
                    str(file),
                    "--bundle",
                    str(self._bundle.root),
                    "--yes",
                    "--json",
                ],
                log=self._log,
                extra_environment=_connection(),
            )

    def follow(self) -> Iterator[StepEvent]:
        """Every event of the run."""
        run = self._found()
        if run is not None:
            yield from tail(run.events, self._over)

    def stop(self) -> None:
        """Ask it to end in order."""
        number = self._process.pid if self._process else holder(self._places.lock)
        identity = process.identify(number) if number else None
        if identity is not None:
            process.send_signal(identity, signal.SIGTERM, group=False)

    def report(self) -> Report:
        """What the run's folder and the installed box say."""
        problem = self._problem()
        run = run_journal.latest(self._places.runs)
        result = run_journal.read_result(run) if run else None
        facts: list[tuple[str, str]] = []
        if problem is None:
            facts += handover.facts(self._answers())
        if run is not None:
            facts.append(("journal", str(run.directory)))
        if problem is not None:
            facts.append(("log", str(self._log)))
            return Report(facts=tuple(facts), next=(), problem=problem)
        steps = tuple(handover.steps(self._answers()))
        return Report(facts=tuple(facts), next=steps, changed=result.changed if result else 0)

    def lifeline(self) -> float | None:
        """Seconds that systemd's timer has left."""
        latest = lifeline.latest()
        if latest is None or latest.state is not lifeline.State.ARMED:
            return None
        shown = process.run(
            ("systemctl", "show", lifeline.TIMER, "--property=NextElapseUSecMonotonic"), timeout=_PATIENCE
        )
        due = span(shown.stdout.partition("=")[2])
        return max(0.0, due - time.clock_gettime(time.CLOCK_MONOTONIC)) if due else None

    # Private.

    def _installed(self) -> str:
        run = run_journal.latest_that_changed(self._places.runs)
        done = run is not None and run.head.book == _BOOK and run.state == "done" and not run.taken_back
        return run.entries[-1].at if run is not None and done else ""

    def _has(self, answers: Answers) -> bool:
        try:
            return has_password(Path("/etc/shadow").read_text(errors="replace"), answers.admin.user)
        except OSError:
            return False

    def _over(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        return holder(self._places.lock) is None

    def _found(self) -> run_journal.Run | None:
        """Wait for the run that was begun or taken up again; None when the installer ended before it began one."""
        while True:
            over = self._over()
            run = run_journal.latest(self._places.runs)
            if run is not None and (self._process is None or (run.head.run, len(run.entries)) > self._before):
                return run
            if over:
                return None
            time.sleep(_POLL)

    def _problem(self) -> Problem | None:
        run = run_journal.latest(self._places.runs)
        result = run_journal.read_result(run) if run else None
        status = self._process.poll() if self._process else None
        begun = run is not None and (self._process is None or (run.head.run, len(run.entries)) > self._before)
        if begun and result is not None and run is not None and run.state != "unfinished":
            if result.outcome == "done":
                return None
            told = result.problem
        else:
            told = _last_problem(self._log)
        if told is None:
            told = Told(
                code="wizard.no_result",
                message=f"The installer ended without a result{f' (status {status})' if status else ''}.",
                hint="Begin again: it goes on with the first phase that did not end.",
            )
        return Problem(code=told.code, message=told.message, hint=told.hint)

    def _answers(self) -> Answers:
        from installer.answers import read_answers

        return read_answers(self._places.answers)


def _work(roles: list[tuple[str, int]]) -> str:
    """Say how much a phase does; a role in several parts, such as `app (slot)`, is named once."""
    names = dict.fromkeys(name.partition(" (")[0] for name, _ in roles)
    return f"{counted(sum(tasks for _, tasks in roles), 'task')}: {', '.join(names)}"


def span(text: str) -> float:
    """Return the seconds of systemd's way of writing a span (systemd.time(7)): `1h 2min 3.5s`; 0 for none."""
    found = re.findall(r"([0-9.]+)([a-z]+)", text)
    return sum(float(number) * _SPANS.get(unit, 0.0) for number, unit in found)


def _connection() -> dict[str, str]:
    """The SSH session this wizard runs in, for the installer's proof of a new login; sudo has dropped it."""
    session = session_of_caller(os.getpid())
    if session is None:
        return {}
    return {"SSH_CONNECTION": f"{session.client} {session.client_port} {session.server} {session.server_port}"}


def _last_problem(log: Path) -> Told | None:
    try:
        lines = log.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(line, type=Told)
    return None
