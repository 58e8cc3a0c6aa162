"""A list on the screen: filter, sort, open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual.widgets import Input

from appliance.api.types import CampaignView
from tui import format as fmt
from tui.deed import Target
from tui.draft import Draft
from tui.places import ListPlace, Query, compared_target, record_of
from tui.screens.frame import Frame
from tui.text import Row, Span, Table, Tone, line
from tui.views.compare import MOST
from tui.widgets.panes import Listing, Pane


class ListScreen(Frame):
    """Shows a `ListPlace`."""

    def __init__(self, place: ListPlace[Any]) -> None:
        super().__init__()
        self._place = place
        self.place = place.id
        self._data: Any = None
        self._query = Query()
        self._filter = ""
        self._sorted_by = -1
        self._by_key: dict[str, Any] = {}
        self._marked: list[str] = []

    def body(self) -> Pane:
        """A list."""
        return Listing(id="body")

    def heading(self) -> str:
        """The title, with what narrows the list."""
        notes = [f"filter: {self._filter}"] if self._filter else []
        notes += [f"action: {self._query.action}"] if self._query.action else []
        notes += [f"{len(self._marked)} marked"] if self._marked else []
        if self._sorted_by >= 0 and self._data is not None:
            notes.append(f"by {self._place.table(self._data, self.look).columns[self._sorted_by].title.lower()}")
        return f"{self._place.title}{'  (' + ', '.join(notes) + ')' if notes else ''}"

    def interval(self) -> float:
        """As the place says."""
        return self._place.interval

    async def load(self) -> None:
        """Fetch the list."""
        self._data = await self._place.fetch(self.console.session, self._query)

    def show(self) -> None:
        """Filter, sort, show."""
        table = self._place.table(self._data, self.look)
        self._by_key = dict(zip((row.key for row in table.rows), self._place.items(self._data), strict=True))
        self._marked = [key for key in self._marked if key in self._by_key]
        wanted = self._filter.lower()
        rows = [replace(row, marked=row.key in self._marked) for row in table.rows if wanted in _text(row)]
        if self._sorted_by >= 0 or wanted:
            rows = [replace(row, branch="") for row in rows]  # what it hangs on may be elsewhere
        if self._sorted_by >= 0:
            rows.sort(key=lambda row: row.cells[self._sorted_by].text.lower())
        empty = ("No row has this text. Esc shows all again.",) if table.rows else self._place.empty
        told = [(), *(line(Span(f"   {text}", Tone.FAINT if i else Tone.PLAIN)) for i, text in enumerate(empty))]
        self._pane.show(Table(columns=table.columns, rows=tuple(rows)), told)

    def target(self) -> Target | None:
        """The row under the cursor."""
        item = self._by_key.get(self._pane.key)
        return self._place.target(item) if item is not None else None

    def navigate(self, name: str) -> None:
        """Open, filter, sort, page, inspect."""
        target = self.target()
        match name:
            case "open" if target is not None:
                self.console.open(target.opens or self._place.opens, target)
            case "inspect" if target is not None:
                item = target.item
                self.console.read(f"Record of {target.name}", lambda look: record_of(item, look))
            case "show_id" if target is not None:
                self.console.show_id(self, target)
            case "tune.new" if target is not None:
                self.console.tune(Draft(recipe=target.item))
            case "mark" if target is not None:
                self._mark(self._pane.key)
            case "compare":
                self._compare()
            case "filter":
                self.set_class(True, "-filtering")
                self.set_focus(self.query_one("#filter", Input))
            case "sort" if self._data is not None:
                columns = len(self._place.table(self._data, self.look).columns)
                self._sorted_by = -1 if self._sorted_by + 1 >= columns else self._sorted_by + 1
                self.repaint()
            case "older":
                self._query = Query(action=self._query.action, pages=self._query.pages + 1)
                self.refresh_data()
            case "only" if target is not None:
                action = "" if self._query.action else target.words["action"]
                self._query = Query(action=action)
                self.refresh_data()
            case "back" if self._filter or self.has_class("-filtering"):
                self._leave_filter()
                self._narrow("")
            case _:
                super().navigate(name)

    def on_listing_opened(self) -> None:
        """A click on the chosen row."""
        self.navigate("open")

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter while typing."""
        self._narrow(message.value)

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._leave_filter()

    @property
    def _pane(self) -> Listing:
        return self.query_one("#body", Listing)

    def _mark(self, key: str) -> None:
        if isinstance(self._by_key[key], CampaignView):
            self.say("mark: only runs are compared; they stand below it", Tone.WARN)
            return
        if key in self._marked:
            self._marked.remove(key)
        elif len(self._marked) == MOST:
            self.say(f"{MOST} runs fit side by side", Tone.WARN)
            return
        else:
            self._marked.append(key)
        self._pane.move(1)
        self.repaint()

    def _compare(self) -> None:
        if len(self._marked) < 2:
            self.say("compare: mark two runs or more with Space first", Tone.WARN)
            return
        self.console.open("compare", compared_target(tuple(self._marked)))

    def _narrow(self, text: str) -> None:
        self._filter = fmt.clean(text.strip())
        if not self._filter:
            with self.prevent(Input.Changed):
                self.query_one("#filter", Input).value = ""
        if self.loaded:
            self.repaint()

    def _leave_filter(self) -> None:
        self.set_class(False, "-filtering")
        self.set_focus(self._pane)


def _text(row: Row) -> str:
    return " ".join(cell.text for cell in row.cells).lower()
