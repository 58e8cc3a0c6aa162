"""Answers and plan on one page, before anything changes; and the consent."""

from __future__ import annotations

from appliance.kernel.errors import IntramurosError
from tui.install.fields import sections
from tui.install.screens.consent import Consent
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread
from tui.install.visit import KEY, RUN, SECRETS
from tui.install.words import review_lines
from tui.text import Span, Tone, line
from tui.widgets.panes import Page


class ReviewStage(Stage):
    """Shows what will be done."""

    keys_of = "review"
    title_text = "Review"

    def __init__(self) -> None:
        super().__init__()
        self._known = False

    def on_mount(self) -> None:
        """Check and plan."""
        self.work("plan", self._plan)

    def refused(self) -> dict[str, str]:
        """Nothing is applied that is not known to be right."""
        reasons = {}
        if why := "still planning" if not self._known else self.visit.why_not_apply():
            reasons["apply"] = why
        if not self.visit.to_mend() and not self.visit.secrets_missing():
            reasons["mend"] = "every answer is right"
        return reasons

    def show(self) -> None:
        """The page."""
        page = self.query_one("#body", Page)
        if self._known:
            page.show(review_lines(self.visit, self.look))
        else:
            page.show([(), line(Span("   Checking the box against the answers, and planning...", Tone.FAINT))])

    def act(self, name: str) -> None:
        """Apply, fix, again."""
        match name:
            case "apply":
                self._ask()
            case "mend":
                self._mend()
            case "again":
                self._known = False
                self.repaint()
                self.work("plan", self._plan)
            case _:
                super().act(name)

    def _ask(self) -> None:
        visit = self.visit
        told = ["Packages, accounts, SSH, firewall and services of this box change as planned."]
        told.append("Running it again repairs and goes on; it does not undo.")
        question = Consent(
            tuple(told),
            visit.command,
            wiped=visit.wiped,
            ascii=self.wizard.plain,
        )
        self.app.push_screen(question, self._answered)

    def _answered(self, agreed: bool | None) -> None:
        if agreed:
            self.work("begin", self._begin)
        else:
            self.say("Nothing was changed.")

    async def _begin(self) -> None:
        visit = self.visit
        visit.recovery_key = await in_thread(lambda: visit.backend.new_recovery_key(visit.answers()))
        if visit.recovery_key:
            self.wizard.go(KEY)
            return
        await in_thread(visit.begin)
        self.wizard.go(RUN)

    def _mend(self) -> None:
        visit, key = self.visit, self.visit.to_mend()
        typed = visit.verdict.faults or not visit.secrets_missing()  # a secret that is missing fails pre-flight, too
        for section in sections() if typed else ():
            if key in {field.key for field in section.fields}:
                visit.touched |= {field.key for field in visit.faults_in(section)}
                visit.focus[section.id] = key
                self.wizard.go(section.id)
                return
        self.wizard.go(SECRETS)

    async def _plan(self) -> None:
        try:
            await in_thread(self.visit.prepare)
        except IntramurosError as error:
            self.complain(error)
        self._known = True
        self.repaint()
