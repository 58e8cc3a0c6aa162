"""A record on the screen, and a sheet of lines that needs no fetching: help, an answer, a full record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tui.deed import Target
from tui.draft import Draft
from tui.places import ReadPlace, record_of
from tui.screens.frame import Frame
from tui.text import Line, Look, Tone
from tui.widgets.panes import Page, Pane


class ReadScreen(Frame):
    """Shows a `ReadPlace` of one target."""

    def __init__(self, place: ReadPlace[Any], target: Target) -> None:
        super().__init__()
        self._place = place
        self.place = place.id
        self._wanted = target
        self._data: Any = None
        self._more = False
        self._parts: dict[int, Target] = {}

    def body(self) -> Pane:
        """Lines."""
        return Page(id="body")

    def heading(self) -> str:
        """What is read."""
        name = self._wanted.words.get("title", self._wanted.name)
        return f"{self._place.title}{' ' + name if name else ''}{'  (log)' if self._more else ''}"

    def interval(self) -> float:
        """As the place says, for what is shown."""
        return self._place.interval(self._data) if self._data is not None else 0.0

    async def load(self) -> None:
        """Fetch, or wait for what is new."""
        self._data = await self._place.fetch(self.console.session, self._wanted, self._data)

    def show(self) -> None:
        """Show the chosen view."""
        render = self._place.more if self._more and self._place.more else self._place.lines
        self._parts = {} if self._more else self._place.parts(self._data, self.look)
        self.query_one("#body", Page).show(render(self._data, self.look), tuple(self._parts))

    def target(self) -> Target | None:
        """The record itself."""
        return self._place.target(self._data) if self._data is not None else None

    def navigate(self, name: str) -> None:
        """Open a part, log, inspect, id."""
        target = self.target()
        match name:
            case "open" if part := self._parts.get(self.query_one("#body", Page).stop):
                self.console.open(part.opens, part)
            case "open":
                self.say("open: no part with a job is in sight", Tone.WARN)
            case "tune.new" if target is not None:
                self.console.tune(Draft(recipe=target.item))
            case "log":
                self._more = not self._more
                self.query_one("#body", Page).top = 0
                self.repaint()
            case "inspect" if target is not None:
                item = target.item
                self.console.read(f"Record of {target.name}", lambda look: record_of(item, look))
            case "show_id" if target is not None:
                self.console.show_id(self, target)
            case _:
                super().navigate(name)


class Sheet(Frame):
    """Lines that are known already."""

    place = "sheet"

    def __init__(self, title: str, render: Callable[[Look], list[Line]]) -> None:
        super().__init__()
        self._sheet_title, self._render_lines = title, render
        self.loaded = True

    def body(self) -> Pane:
        """Lines."""
        return Page(id="body")

    def heading(self) -> str:
        """The given title."""
        return self._sheet_title

    def show(self) -> None:
        """Render for the present width."""
        self.query_one("#body", Page).show(self._render_lines(self.look))

    def navigate(self, name: str) -> None:
        """Help upon help leads nowhere."""
        if name != "help":
            super().navigate(name)
