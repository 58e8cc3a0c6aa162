"""The run: phases, the present task, how far it is, and the lifeline's seconds while it is armed.

Events are read in a thread and added up here; the screen is painted twice a second at most, and only what changed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial

from appliance.kernel.errors import InternalError, IntramurosError
from installer.events import StepEvent
from tui.install.progress import after
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread, tell
from tui.install.visit import REPORT
from tui.install.words import log_lines, run_lines
from tui.screens.tell import Tell
from tui.text import Tone
from tui.widgets.panes import Page

_BEAT = 0.5
_LIFELINE_BEAT = 1.0


class RunStage(Stage):
    """Follows the run to its end."""

    keys_of = "run"
    title_text = "Installing"

    def __init__(self) -> None:
        super().__init__()
        self._log = False
        self._left: float | None = None
        self._coming: deque[StepEvent] = deque()
        self._ended = asyncio.Event()
        self._stopping = False

    def on_mount(self) -> None:
        """Follow."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()
        self.set_interval(_BEAT * self.wizard.slowness, self._beat)
        self.set_interval(_LIFELINE_BEAT * self.wizard.slowness, lambda: self.work("lifeline", self._look_at_lifeline))
        self.work("end", self._await_end)

    def refused(self) -> dict[str, str]:
        """A run is asked to stop once."""
        return {"stop": "it ends after its present task"} if self._stopping else {}

    def show(self) -> None:
        """Overview or log."""
        page = self.query_one("#body", Page)
        if self._log:
            page.show(log_lines(self.visit.running, self.look))
            page.move(1_000_000)
        else:
            page.show(run_lines(self.visit.running, self.look))

    def right(self) -> str:
        """The lifeline while it is armed: the most important number on the screen."""
        if self._left is not None:
            return f"LIFELINE: old state returns in {self._left:.0f} s"
        return super().right()

    def act(self, name: str) -> None:
        """Log, stop."""
        match name:
            case "log":
                self._log = not self._log
                self.query_one("#body", Page).top = 0
                self.repaint()
            case "stop":
                told = (
                    "The present task is ended and no other begins. What was done stays; installing again goes on.",
                    "While the lifeline is armed, the old state of SSH and firewall comes back by itself.",
                )
                question = Tell("Stop the installation?", told, agree="Stop", ascii=self.wizard.plain)
                self.app.push_screen(question, self._stop)
            case _:
                super().act(name)

    def _stop(self, agreed: bool | None) -> None:
        if agreed:
            self._stopping = True
            self.work("stop", lambda: in_thread(self.wizard.backend.stop))
            self.say("It ends after its present task.", Tone.WARN)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread of its own until the run has ended or the wizard has."""
        try:
            for event in self.wizard.backend.follow():
                if not tell(loop, partial(self._coming.append, event)):
                    return
        except IntramurosError as error:
            known = error
            tell(loop, lambda: self.complain(known))
        except Exception as error:  # noqa: BLE001  the border: a defect is told instead of leaving a still screen
            defect = InternalError("wizard.defect", f"{type(error).__name__} while following the run: {error}")
            tell(loop, lambda: self.complain(defect))
        tell(loop, self._ended.set)

    def _beat(self) -> None:
        if not self._coming:
            return
        while self._coming:
            self.visit.running = after(self.visit.running, self._coming.popleft())
        self.repaint()

    async def _look_at_lifeline(self) -> None:
        before, self._left = self._left, await in_thread(self.wizard.backend.lifeline)
        if before != self._left:
            self.frame()

    async def _await_end(self) -> None:
        await self._ended.wait()
        self._beat()
        await in_thread(self.visit.end)
        self.wizard.go(REPORT)
