"""One person's way through the wizard: what was typed, what is wrong with it, and which stages there are.

Screens and line mode share it, so both ask the same. It holds no secret: those go straight to the backend.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.kernel.errors import IntramurosError
from installer import password
from installer.answer_rules import Fault
from installer.answers import Answers
from installer.findings import Finding, Level
from tui.install.answer_file import asked_fields, document_of, load, save, save_answers, to_toml
from tui.install.backend import Backend, Machine, PlannedStep, Problem, Report, Unfinished
from tui.install.fields import Field, Section, fields, sections, words
from tui.install.judge import Verdict, judge
from tui.install.progress import Running, planned

CHECKS, SECRETS, REVIEW, KEY, RUN, REPORT = "checks", "secrets", "review", "key", "run", "report"

_NEVER_FILLED_IN = frozenset({"storage.device", "lifeline.probe_from"})
"""What is destroyed is named by a person. The proof comes from where that person is when it is needed."""
_ANSWER_BEHIND = {"your address": "network.admin"}
"""The answer that a finding of another name is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that is typed twice and never shown."""

    name: str
    label: str
    help: str
    must: str
    """What it has to be, as a sentence."""


SECRET_TEXTS = {
    "storage_passphrase": Secret(
        name="storage_passphrase",
        label="Disk passphrase",
        help="Opens the data volume by hand. Write it down: nobody can read it out of the box.",
        must=f"At least {password.PASSPHRASE_LEAST} characters.",
    ),
    "admin_password_hash": Secret(
        name="admin_password_hash",
        label="Password for sudo",
        help="The administrator types it for sudo and at the console. SSH takes keys only.",
        must=f"At least {password.LEAST} characters: {password.KINDS}.",
    ),
}


class Visit:
    """What the stages read and write. `look` must have been called before anything else."""

    def __init__(self, backend: Backend, draft: Path) -> None:
        self.backend = backend
        self.draft = draft
        self.machine = Machine(host="", release="", suggestions={})
        self.texts: dict[str, str] = {}
        self.resumed = False
        self.unfinished: Unfinished | None = None
        self.findings: tuple[Finding, ...] = ()
        self.plan: tuple[PlannedStep, ...] = ()
        self.running = Running()
        self.report: Report | None = None
        self.touched: set[str] = set()
        self.focus: dict[str, str] = {}
        self.recovery_key: str | None = None
        """while it is shown and typed back"""
        self._wanted: tuple[Verdict, tuple[str, ...]] | None = None
        self._judged: tuple[dict[str, str], Verdict] | None = None

    def look(self) -> None:
        """Look at the box and at what an earlier visit left. Raises IntramurosError."""
        machine = self.backend.machine()
        self.unfinished = self.backend.unfinished()
        earlier = load(self.draft)
        self.machine = machine
        self.resumed = earlier is not None
        if earlier is None:
            self.texts = {key: self.first_text(field) for key, field in fields().items()}
        else:
            needed = {key: self.first_text(field) for key, field in fields().items() if field.required}
            self.texts = {key: field.default for key, field in fields().items()} | needed | earlier
            self.touched = set(earlier)

    def first_text(self, field: Field) -> str:
        """What an untouched field holds: what the box suggests, or else the default."""
        offered = self.machine.suggestions.get(field.key, ())
        return offered[0] if offered and field.key not in _NEVER_FILLED_IN else field.default

    def set(self, key: str, text: str) -> None:
        """Take over what was typed. The certificate's names follow the box's name until somebody changes them."""
        if key == "hostname" and self._names(self.texts[key]) == self.texts["tls.names"]:
            self.texts["tls.names"] = self._names(text)
        self.texts[key] = text
        self.touched.add(key)

    def save(self) -> None:
        """Keep what was typed; before the first look nothing was. Raises StorageFailure."""
        if self.texts:
            save(self.draft, dict(self.texts))

    @property
    def verdict(self) -> Verdict:
        """What is wrong at present."""
        if self._judged is None or self._judged[0] != self.texts:
            self._judged = (dict(self.texts), judge(self.texts))
        return self._judged[1]

    def shown_fault(self, key: str) -> str:
        """The fault of a field that was touched already; an empty form is not full of complaints."""
        return self.verdict.faults.get(key, "") if key in self.touched else ""

    def faults_in(self, section: Section) -> list[Field]:
        """The fields of a section that are wrong."""
        return [field for field in section.asked(self.texts) if field.key in self.verdict.faults]

    def asked_sections(self) -> list[Section]:
        """The sections that have a question with these answers."""
        return [section for section in sections() if section.asked(self.texts)]

    def stages(self) -> list[str]:
        """The stages in order; which there are depends on the answers."""
        asked = [section.id for section in self.asked_sections()]
        secrets = [SECRETS] if self.secrets() else []
        return [CHECKS, *asked, *secrets, REVIEW, RUN, REPORT]

    def steps(self) -> int:
        """How many stages there will be: until the answers are right, which secrets are missing is not known."""
        return len(self.stages()) + (self.verdict.answers is None)

    def after(self, stage: str) -> str:
        """The next stage."""
        order = self.stages()
        return order[min(order.index(stage) + 1, len(order) - 1)] if stage in order else REVIEW

    def before(self, stage: str) -> str:
        """The stage to go back to. From a run there is no way back."""
        order = self.stages()
        if stage in (RUN, REPORT):
            return stage
        if stage == KEY:
            return REVIEW
        return order[max(0, order.index(stage) - 1)] if stage in order else CHECKS

    def secrets(self) -> list[Secret]:
        """The secrets that these answers need from a person, whether typed already or not."""
        verdict = self.verdict
        if verdict.answers is None:
            return []
        if self._wanted is None or self._wanted[0] is not verdict:
            self._wanted = (verdict, self.backend.secrets_wanted(verdict.answers))
        return [SECRET_TEXTS[name] for name in self._wanted[1]]

    def secrets_missing(self) -> list[Secret]:
        """Those not typed yet."""
        kept = self.backend.secrets_kept()
        return [secret for secret in self.secrets() if secret.name not in kept]

    def keep_secret(self, name: str, first: str, second: str) -> str:
        """Hand a secret to the backend; return what is wrong with it, or nothing."""
        judge_secret = password.weakness if name == "admin_password_hash" else password.passphrase_weakness
        if fault := judge_secret(first):
            return fault
        if first != second:
            return "was not typed the same twice"
        self.backend.keep_secret(name, first)
        return ""

    @property
    def wiped(self) -> str:
        """The device whose content is destroyed, or nothing."""
        answers = self.verdict.answers
        return answers.storage.device if answers and answers.storage.mode == "luks" else ""

    def answers(self) -> Answers:
        """The judged answers; only to be asked for when there is no fault."""
        answers = self.verdict.answers
        assert answers is not None
        return answers

    @property
    def answers_file(self) -> Path:
        """The answer file that is used: what was asked, and nothing else."""
        return self.draft.with_name("answers.toml")

    def to_mend(self) -> str:
        """The first answer that is wrong, or that the box is not ready for; empty when it is none."""
        failed = {finding.what for finding in self.findings if finding.level is Level.FAIL}
        wrong = set(self.verdict.faults) or {_ANSWER_BEHIND.get(what, what) for what in failed}
        asked = (field.key for section in sections() for field in section.asked(self.texts))
        return next((key for key in asked if key in wrong), "")

    @property
    def command(self) -> str:
        """The same from a shell."""
        return f"intramuros install --bundle {self.machine.bundle or 'DIR'} --answers {self.answers_file}"

    def begin(self) -> None:
        """Start the run, with everything that was planned still to be done."""
        self.running = self._planned()
        text = self.answer_text()
        save_answers(self.answers_file, text)
        self.backend.begin(self.answers(), text)

    def take_up(self) -> None:
        """Before a run is followed that goes on already: name its phases, where the kept answers tell them."""
        if self.verdict.answers is not None:
            with suppress(IntramurosError):
                self.plan = self.backend.plan(self.answers())
                self.running = self._planned()

    def _planned(self) -> Running:
        return planned((step.name, step.title, step.detail if step.skipped else "") for step in self.plan)

    def answer_text(self) -> str:
        """The answer file as it will be used."""
        return to_toml(document_of(self.texts, asked_fields(self.texts)))

    def prepare(self) -> None:
        """Before the review: check the box against the answers, and plan. Raises IntramurosError."""
        self.findings, self.plan = (), ()
        if self.verdict.answers is not None:
            save_answers(self.answers_file, self.answer_text())
            self.findings = self.backend.examine(self.answers())
            self.plan = self.backend.plan(self.answers())

    def why_not_apply(self) -> str:
        """Why the plan cannot be applied now, in words; empty when it can."""
        faults = self.verdict.faults
        if faults:
            first = fields()[next(iter(faults))].label
            return f"{len(faults)} answer{'s are' if len(faults) > 1 else ' is'} not right yet, first: {first}"
        if missing := self.secrets_missing():
            return f"{missing[0].label} was not typed yet"
        if bad := [finding for finding in self.findings if finding.level is Level.FAIL]:
            return f"the box is not ready: {bad[0].what}"
        return "" if self.plan else "there is no plan yet"

    def doubts(self) -> tuple[Fault, ...]:
        """What is allowed and probably not meant."""
        return self.verdict.doubts

    def end(self) -> Report:
        """Fetch how the run ended; an error of the backend is a report too."""
        try:
            self.report = self.backend.report()
        except IntramurosError as error:
            problem = Problem(code=error.code, message=error.message, hint=error.hint)
            self.report = Report(facts=(), next=(), problem=problem)
        return self.report

    def _names(self, host: str) -> str:
        """The names that the box offers for its certificate, as they are when it is called `host`."""
        present = self.machine.suggestions.get("hostname", ())
        offered = next(iter(self.machine.suggestions.get("tls.names", ())), "")
        others = [one for one in words(offered) if one not in present]
        return ", ".join([host, *others] if host else others)
