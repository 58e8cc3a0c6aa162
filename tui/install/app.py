"""The full-screen wizard: one stage at a time, and the answers kept on disk while they are typed. No business logic."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from textual import events
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from appliance.kernel.clock import Clock, utc_now
from appliance.kernel.errors import IntramurosError
from tui.install.backend import Backend
from tui.install.confirm import Choose, two_of
from tui.install.fields import sections
from tui.install.screens.checks import ChecksStage
from tui.install.screens.form import FormStage
from tui.install.screens.key import KeyStage
from tui.install.screens.report import ReportStage
from tui.install.screens.review import ReviewStage
from tui.install.screens.run import RunStage
from tui.install.screens.secrets import SecretsStage
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread
from tui.install.visit import CHECKS, KEY, REVIEW, RUN, SECRETS, Visit
from tui.screens.tell import Tell
from tui.shell import Shell
from tui.term import Choice

LEFT = 130
"""Exit code when the person left before the end, as after Ctrl+C in a shell."""
FAILED = 1
_SETTLED = 0.02
"""Seconds for what Textual lays out again once the stage before is gone."""
_PATIENCE = 0.3
"""Seconds a key may keep the next one waiting."""


class Wizard(Shell):
    """One wizard for one person."""

    def __init__(self, visit: Visit, choice: Choice, *, clock: Clock = utc_now, choose: Choose = two_of) -> None:
        super().__init__(choice)
        self.visit = visit
        self.clock = clock
        self.choose = choose
        self.stage = CHECKS
        self._dirty = asyncio.Event()

    @property
    def backend(self) -> Backend:
        """The installer."""
        return self.visit.backend

    def get_default_screen(self) -> Screen[None]:
        """The checks are always there; every other stage lies on them."""
        return ChecksStage()

    def on_mount(self) -> None:
        """Start keeping what is typed."""
        self.run_worker(self._keep(), group="keep", exit_on_error=False)

    async def on_event(self, event: events.Event) -> None:
        """Hand on one key after the other: what is typed ahead is meant for whoever has the focus by then."""
        fresh = isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded
        before = self.screen if fresh else None
        target = (before.focused or before) if before else None
        await super().on_event(event)
        if target is None or before is None:
            return
        for node in target.ancestors_with_self:
            if isinstance(node, Widget):
                await self._taken_in(node, before)
        if self.screen is not before:
            await self._taken_in(self.screen, self.screen)

    async def _taken_in(self, node: Widget, screen: Screen[Any]) -> None:
        """Wait until a widget has worked off what it was sent, or another screen is shown, or it takes too long."""
        done, end = asyncio.Event(), time.monotonic() + _PATIENCE
        if not node.call_later(done.set):
            return
        while not done.is_set() and self.screen is screen and time.monotonic() < end:
            await asyncio.sleep(0)

    def go(self, stage: str) -> None:
        """Show a stage."""
        # Nothing is awaited: the stack has changed when this returns, so that keys typed ahead reach the new stage.
        self.stage = stage
        while len(self.screen_stack) > (1 if stage == CHECKS else 2):
            self.pop_screen()
        if stage == CHECKS:
            return
        show = self.switch_screen if len(self.screen_stack) == 2 else self.push_screen
        made = self._made(stage)
        made.hold_paint(self)
        shown = show(made)

        async def paint() -> None:
            await shown
            await asyncio.sleep(_SETTLED)
            made.call_later(made.release_paint)

        self.run_worker(paint(), group="paint", exit_on_error=False)

    def go_on(self) -> None:
        """To the next stage."""
        self.go(self.visit.after(self.stage))

    def go_back(self) -> None:
        """To the stage before."""
        self.go(self.visit.before(self.stage))

    def typed(self) -> None:
        """Something was typed: keep it soon."""
        self._dirty.set()

    def leave(self) -> None:
        """Leave the wizard; while a run goes on, ask, and let it go on."""
        if self.stage == RUN:
            if isinstance(self.screen, ModalScreen):
                return  # it is being asked
            told = ("The installation goes on without the wizard. Start it again to follow it: intramuros install",)
            self.push_screen(Tell("Leave while it installs?", told, agree="Leave", ascii=self.plain), self._leave)
        else:
            self._leave(True)

    def dress(self) -> None:
        """Apply the look to every stage."""
        for screen in self.screen_stack:
            if isinstance(screen, Stage):
                screen.dress()

    async def action_quit(self) -> None:
        """Ctrl+Q, wherever the focus is."""
        self.leave()

    def action_help_quit(self) -> None:
        """Ctrl+C does not end the wizard by accident."""
        if isinstance(self.screen, Stage):
            self.screen.say("Ctrl+Q leaves; what was typed is kept.")

    def _leave(self, agreed: bool | None) -> None:
        if not agreed:
            return
        report = self.visit.report
        self.exit(LEFT if report is None else FAILED if report.problem else 0)

    def _made(self, stage: str) -> Stage:
        match stage:
            case _ if section := next((one for one in sections() if one.id == stage), None):
                return FormStage(section)
            case _ if stage == SECRETS:
                return SecretsStage()
            case _ if stage == REVIEW:
                return ReviewStage()
            case _ if stage == KEY and self.visit.recovery_key:
                return KeyStage(self.visit.recovery_key)
            case _ if stage == RUN:
                return RunStage()
            case _:
                return ReportStage()

    async def _keep(self) -> None:
        """Write the answers after each change; one write at a time, the newest texts."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await in_thread(self.visit.save)
            except IntramurosError as error:
                if isinstance(self.screen, Stage):
                    self.screen.complain(error)

    async def on_unmount(self) -> None:
        """Keep the last letters too."""
        if self._dirty.is_set():
            await in_thread(self.visit.save)
