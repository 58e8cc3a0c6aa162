"""The first stage: is this box fit for it? Also where an earlier visit or a run that was begun is taken up again."""

from __future__ import annotations

from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread
from tui.install.visit import REVIEW, RUN
from tui.install.words import check_lines, summary
from tui.text import Line, Span, Tone, line
from tui.widgets.panes import Page


class ChecksStage(Stage):
    """Shows the findings of the pre-flight."""

    keys_of = "checks"
    title_text = "Checks"

    def __init__(self) -> None:
        super().__init__()
        self._known = False
        self._problem: IntramurosError | None = None

    def on_mount(self) -> None:
        """Look once the first paint is out."""
        self.call_after_refresh(self.work, "look", self._look)

    def refused(self) -> dict[str, str]:
        """Nothing is asked before the box is known."""
        if self._known:
            return {}
        return {"on": "the box could not be looked at" if self._problem else "still looking at the box"}

    def show(self) -> None:
        """What an earlier visit left, then the findings."""
        visit, page = self.visit, self.query_one("#body", Page)
        if self._problem:
            room = self.look.width - 6
            page.show([(), *(line(Span(f"   {part}", Tone.BAD)) for part in fmt.wrap(str(self._problem), room))])
            return
        if not self._known:
            page.show([(), line(Span("   Looking at the box...", Tone.FAINT))])
            return
        lines: list[Line] = [(), *(line(Span(f"   {part}", tone)) for part, tone in self._left_before())]
        lines += [()] if len(lines) > 1 else []
        ready, tone = summary(visit.findings)
        lines += [*check_lines(visit.findings, self.look), (), line("   The box is " if "ready" in ready else "   ")]
        lines[-1] = (*lines[-1], Span(f"{ready}.", tone))
        page.show(lines)

    def _left_before(self) -> list[tuple[str, Tone]]:
        """What earlier visits left, wrapped."""
        visit, told = self.visit, list[tuple[str, Tone]]()
        if visit.unfinished:
            since = fmt.moment(visit.unfinished.since)
            told.append((f"The installation of {since} UTC did not finish (at: {visit.unfinished.phase}).", Tone.WARN))
            told.append(("Applying the plan again goes on from there.", Tone.PLAIN))
        elif visit.machine.installed:
            told.append((f"The box was installed at {fmt.moment(visit.machine.installed)} UTC.", Tone.GOOD))
            told.append(("Applying a plan again repairs it; answers that you change take effect.", Tone.PLAIN))
        elif visit.resumed:
            told.append((f"Your answers of an earlier visit were kept, in {visit.draft}.", Tone.PLAIN))
        return [(part, tone) for text, tone in told for part in fmt.wrap(text, self.look.width - 6)]

    def act(self, name: str) -> None:
        """On, or once more."""
        match name:
            case "on" if self.visit.unfinished and self.visit.verdict.answers is not None:
                self.wizard.go(REVIEW)
            case "on":
                self.wizard.go_on()
            case "again":
                self._known = False
                self.repaint()
                self.work("look", self._look)
            case _:
                super().act(name)

    async def _look(self) -> None:
        visit = self.visit
        try:
            if not visit.machine.host:
                await in_thread(visit.look)
            if visit.unfinished and visit.unfinished.alive:
                await in_thread(visit.take_up)
                self.wizard.go(RUN)
                return
            visit.findings = await in_thread(lambda: visit.backend.examine(None))
        except IntramurosError as error:
            self._problem = error
        else:
            self._known, self._problem = True, None
        self.repaint()
