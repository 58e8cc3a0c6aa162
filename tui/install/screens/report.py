"""How it ended, where everything is, and what to do now."""

from __future__ import annotations

from tui.install.progress import Running
from tui.install.screens.stage import Stage
from tui.install.visit import REVIEW
from tui.install.words import report_lines
from tui.widgets.panes import Page


class ReportStage(Stage):
    """The last stage."""

    keys_of = "report"

    @property
    def _failed(self) -> bool:
        return self.visit.report is not None and self.visit.report.problem is not None

    def refused(self) -> dict[str, str]:
        """There is nothing to try again after a success."""
        return {} if self._failed else {"again": "it is done"}

    def show(self) -> None:
        """The page."""
        self.title_text = "Not finished" if self._failed else "Done"
        if self.visit.report is not None:
            self.query_one("#body", Page).show(report_lines(self.visit.report, self.look))

    def act(self, name: str) -> None:
        """Finish, or back to the plan."""
        match name:
            case "finish":
                self.wizard.leave()
            case "again":
                self.visit.running = Running()
                self.visit.report = None
                self.wizard.go(REVIEW)
            case _:
                super().act(name)
