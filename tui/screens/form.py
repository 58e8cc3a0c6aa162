"""A training run being filled in: one row for each input and field; Enter changes the one under the cursor."""

from __future__ import annotations

from tui.actions import BY_ID
from tui.deed import Target
from tui.deeds.tune import draft_question, draft_target
from tui.draft import Draft
from tui.screens.dialog import AskFirst
from tui.screens.frame import Frame
from tui.text import Tone
from tui.views.tune import draft_table, meaning_of
from tui.widgets.panes import Listing, Pane


class FormScreen(Frame):
    """Fills in a `Draft`; `p` shows what it would need, and from there it starts."""

    place = "draft"

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft
        self.loaded = True
        if draft != Draft(recipe=draft.recipe):
            self.say("As you left it; n begins afresh.")

    def body(self) -> Pane:
        """A list."""
        return Listing(id="body")

    def heading(self) -> str:
        """The recipe, and what the row under the cursor means."""
        key = self._pane.key
        told = f": {meaning_of(self._draft, key)}" if key and not self.tells else ""
        return f"Tune {self._draft.recipe.name}{told}"

    def show(self) -> None:
        """The form as it stands."""
        self._pane.show(draft_table(self._draft, self.look), [])

    def target(self) -> Target | None:
        """The run as it would be."""
        return draft_target(self._draft)

    def navigate(self, name: str) -> None:
        """Change a row, or go on to the plan."""
        match name:
            case "draft.change":
                self._change(self._pane.key)
            case "draft.plan" if self._draft.missing:
                self.say(f"plan: choose {' and '.join(self._draft.missing)}", Tone.WARN)
            case "draft.plan":
                self.console.open("plan", draft_target(self._draft))
            case "draft.afresh":
                self._take(Draft(recipe=self._draft.recipe))
            case _:
                super().navigate(name)

    def on_listing_opened(self) -> None:
        """A click on the chosen row."""
        self.navigate("draft.change")

    @property
    def _pane(self) -> Listing:
        return self.query_one("#body", Listing)

    def _take(self, draft: Draft) -> None:
        self._draft = self.console.drafts[draft.recipe.name] = draft
        self.repaint()

    def _change(self, name: str) -> None:
        question = draft_question(self._draft, name)

        def answered(answers: dict[str, str] | None) -> None:
            if answers is None:
                return
            self._take(self._draft.changed(name, answers["value"]))  # the dialog lets no refused value through

        about = Target(name=name)
        action = BY_ID["draft.change"]
        self.app.push_screen(
            AskFirst(action, question, about, self.console.session, ascii=self.console.plain), answered
        )
