"""The console without a screen: numbered menus with print and input, over the same places and the same actions.

For dumb terminals, pipes and screen readers: one column of plain ASCII sentences, no chart, no repaint. Numbers open,
letters are the keys of the full screen, an empty line shows the page again, end of input leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TextIO

from appliance.api.types import JobView
from appliance.kernel.clock import Clock, utc_now
from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.actions import BY_ID, at, refusal
from tui.deed import Action, Question, Target
from tui.deeds.tune import draft_question, draft_target
from tui.draft import Draft
from tui.places import HOME, LIST_OF, READ_OF, ListPlace, Query, ReadPlace, compared_target, record_of
from tui.session import Session
from tui.text import Line, Look, plain
from tui.views.compare import MOST
from tui.views.help import help_lines
from tui.views.tune import draft_table

_WIDTH = 78
_ROWS = 20


class _Leave(Exception):
    """End of input, or the person wants out."""


def run_line(
    session: Session,
    *,
    out: TextIO,
    read: Callable[[], str],
    host: str,
    why: str = "",
    clock: Clock = utc_now,
) -> int:
    """Walk the menus until the input ends; return the exit code. `read` gives one line, or "" at the end."""
    with asyncio.Runner() as runner:
        menu = _Menu(session, runner, out, read, clock)
        try:
            menu.begin(host, why)
            menu.home()
        except (_Leave, KeyboardInterrupt):
            menu.say("Goodbye. Nothing was stopped.")
        finally:
            runner.run(session.close())
    return 0


class _Menu:
    def __init__(
        self, session: Session, runner: asyncio.Runner, out: TextIO, read: Callable[[], str], clock: Clock
    ) -> None:
        self._session, self._runner, self._out, self._read, self._clock = session, runner, out, read, clock

    # Speaking and listening.

    def say(self, text: str = "") -> None:
        """Print one line of ASCII."""
        self._out.write(fmt.to_ascii(fmt.clean(text)).rstrip() + "\n")
        self._out.flush()

    def say_lines(self, lines: list[Line]) -> None:
        """Print lines; a title gets an empty line before it."""
        for spans in lines:
            self.say(plain(spans))

    def ask(self, prompt: str) -> str:
        """Ask one question; raises _Leave at the end of input."""
        self._out.write(fmt.to_ascii(prompt))
        self._out.flush()
        text = self._read()
        if not text:
            self.say()
            raise _Leave
        return text.strip()

    def choose(self, prompt: str, known: set[str]) -> str:
        """Ask until the answer is in the menu; an empty line looks again; text follows `/` and `=`."""
        while True:
            choice = self.ask(prompt) or "r"
            if choice in known or (choice[0] in "/=" and choice[0] in known):
                return choice
            self.say(f"{choice} is not in the menu.")

    @property
    def look(self) -> Look:
        return Look(width=_WIDTH, height=40, now=self._clock(), ascii=True, spoken=True)

    # Places.

    def begin(self, host: str, why: str) -> None:
        """Say where we are."""
        self.say(f"Intramuros console on {host}, line mode{f' ({why})' if why else ''}.")
        try:
            self._runner.run(self._session.greet())
        except IntramurosError as error:
            self._tell(error)
        if self._session.who:
            self.say(
                f"You are {self._session.who.user}, with the roles {', '.join(self._session.who.roles) or 'none'}."
            )

    def home(self) -> None:
        """Home, and the way to every list; the numbers are those of the full screen."""
        ways = {action.keys[0]: action for action in at("home") if action.id.removeprefix("go.") in LIST_OF}
        self._show_record(HOME, Target(), None)
        while True:
            refused = self._refused(list(ways.values()), None)
            self.say()
            for number, action in ways.items():
                reason = refused.get(action.id, "")
                title = LIST_OF[action.id.removeprefix("go.")].title
                self.say(f"  {number}  {title}{f' (not for you: {reason})' if reason else ''}")
            self.say("  ?  help    r  look again    q  leave")
            choice = self.choose("Home> ", {*ways, "?", "r", "q"})
            if choice == "q":
                raise _Leave
            if choice == "?":
                self.say_lines(help_lines("home", refused, self.look))
            elif choice == "r":
                self._show_record(HOME, Target(), None)
            elif ways[choice].id not in refused:
                self._list(LIST_OF[ways[choice].id.removeprefix("go.")])

    def _list(self, place: ListPlace[Any]) -> None:
        query, wanted = Query(), ""
        while True:
            try:
                data = self._runner.run(place.fetch(self._session, query))
            except IntramurosError as error:
                self._tell(error)
                return
            table = place.table(data, self.look)
            pairs = [
                (row, item)
                for row, item in zip(table.rows, place.items(data), strict=True)
                if wanted in " ".join(cell.text for cell in row.cells).lower()
            ]
            self.say()
            self.say(f"{place.title}: {len(pairs)}{f' with {wanted}' if wanted else ''}")
            for number, (row, _) in enumerate(pairs[:_ROWS], 1):
                cells = [
                    f"{column.title} {cell.text}" if column.right else cell.text
                    for column, cell in zip(table.columns, row.cells, strict=True)
                    if cell.text.strip() and not column.wide
                ]
                self.say(f"  {number}  {row.branch}{', '.join(cell.strip() for cell in cells)}")
            if len(pairs) > _ROWS:
                self.say(f"  and {len(pairs) - _ROWS} more; /text narrows the list")
            if not pairs:
                for text in place.empty:
                    self.say(f"  {text}")
            compares = place.id == "jobs"
            more = {"audit": "    o  older", "jobs": "    =1 2  compare runs"}.get(place.id, "")
            free = [a for a in at(place.id) if a.deed is not None and not a.deed.needs_target and a.places]
            self._offer(free, None, f"number  open    /text  filter{more}")
            numbers = {str(number) for number in range(1, min(len(pairs), _ROWS) + 1)}
            keys = {key for action in free for key in action.keys}
            extra = {"o"} if place.id == "audit" else {"="} if compares else set()
            choice = self.choose(f"{place.title}> ", {"q", "/", "?", "r"} | extra | numbers | keys)
            if choice == "q":
                return
            if choice.startswith("/"):
                wanted = choice[1:].strip().lower()
            elif choice.startswith("="):
                chosen = [pairs[int(n) - 1][1] for n in choice[1:].split() if n in numbers]
                self._compare([one.id for one in chosen if isinstance(one, JobView)])
            elif choice == "o":
                query = Query(action=query.action, pages=query.pages + 1)
            elif choice == "?":
                self.say_lines(help_lines(place.id, self._refused(free, None), self.look))
            elif choice in numbers:
                target = place.target(pairs[int(choice) - 1][1])
                self._record(READ_OF[target.opens or place.opens], target)
            elif action := next((a for a in free if choice in a.keys), None):
                self._perform(action, None)

    def _record(self, place: ReadPlace[Any], target: Target) -> None:
        data: Any = None
        while True:
            self.say()
            self.say(f"{place.title} {target.name}")
            data = self._show_record(place, target, None)
            if data is None:
                return
            here = place.target(data)
            deeds = [a for a in at(place.id) if a.deed is not None]
            tunes = place.id == "recipe"
            parts = {part.words["number"]: part for part in place.parts(data, self.look).values()}
            more = ("    l  log" if place.more else "") + ("    n  new run" if tunes else "")
            more += "    number  open its job" if parts else ""
            self._offer(deeds, here, f"i  full record{more}")
            keys = {key for action in deeds for key in action.keys} | ({"n"} if tunes else set())
            keys |= {*parts, "l"} if place.more else {*parts}
            choice = self.choose(f"{target.name}> ", {"q", "i", "?", "r"} | keys)
            if choice == "q":
                return
            if choice == "i":
                self.say_lines(record_of(here.item, self.look) if here else [])
            elif choice in parts:
                self._record(READ_OF[parts[choice].opens], parts[choice])
            elif choice == "l" and place.more is not None:
                self.say_lines(place.more(data, self.look))
            elif choice == "?":
                self.say_lines(help_lines(place.id, self._refused(deeds, here), self.look))
            elif choice == "n" and tunes:
                self._tune(Draft(recipe=data))
            elif action := next((a for a in deeds if choice in a.keys), None):
                self._perform(action, here)

    def _compare(self, ids: list[str]) -> None:
        if not 2 <= len(ids) <= MOST:
            self.say(f"Name 2 to {MOST} runs by their numbers, such as =1 2.")
            return
        self._record(READ_OF["compare"], compared_target(tuple(ids)))

    def _tune(self, draft: Draft) -> None:
        """The form: numbers change a row, p plans; the plan starts it."""
        reason = self._refused([BY_ID["tune.new"]], draft_target(draft)).get("tune.new")
        if reason:
            self.say(f"new run: {reason}.")
            return
        while True:
            self.say()
            self.say(f"Tune {draft.recipe.name}")
            names = dict(enumerate(draft.names, 1))
            for number, row in enumerate(draft_table(draft, self.look).rows, 1):
                self.say(f"  {number}  {row.key}: {row.cells[1].text or 'nothing'}")
            self.say("  number  change    p  plan    r  look again    q  back")
            choice = self.choose("Tune> ", {"p", "r", "q", *map(str, names)})
            if choice == "q":
                return
            if choice == "p" and draft.missing:
                self.say(f"Still to choose: {', '.join(draft.missing)}.")
            elif choice == "p":
                self._record(READ_OF["plan"], draft_target(draft))
            elif choice.isdigit():
                draft = self._changed(draft, names[int(choice)])

    def _changed(self, draft: Draft, name: str) -> Draft:
        question = draft_question(draft, name)
        for sentence in question.consequences:
            self.say(sentence)
        self.say("The word default goes back to the default.")
        answers = self._fill_in(question, Target(name=name))
        return draft if answers is None else draft.changed(name, answers["value"])

    def _show_record(self, place: ReadPlace[Any], target: Target, data: Any) -> Any:
        try:
            data = self._runner.run(place.fetch(self._session, target, data))
        except IntramurosError as error:
            self._tell(error)
            return None
        self.say_lines(place.lines(data, self.look))
        return data

    # Actions.

    def _offer(self, actions: list[Action], target: Target | None, more: str) -> None:
        refused = self._refused(actions, target)
        for action in actions:
            reason = refused.get(action.id, "")
            self.say(f"  {action.keys[0]}  {action.label}{f' (not now: {reason})' if reason else ''}")
        self.say(f"  {more}    ?  help    r  look again    q  back")

    def _refused(self, actions: list[Action], target: Target | None) -> dict[str, str]:
        lost = self._session.lost is not None
        reasons = {a.id: refusal(a, roles=self._session.roles, target=target, lost=lost) for a in actions}
        return {name: reason for name, reason in reasons.items() if reason}

    def _perform(self, action: Action, target: Target | None) -> None:
        deed = action.deed
        reason = self._refused([action], target).get(action.id)
        if deed is None or reason:
            self.say(f"{action.label}: {reason}.")
            return
        about = target or Target()
        answers = self._fill_in(deed, about)
        if answers is None or not self._agreed(action, deed, about, answers):
            self.say("Nothing was changed.")
            return
        try:
            answer = self._runner.run(self._session.send(deed.call(about, answers)))
        except IntramurosError as error:
            self._tell(error)
            return
        if deed.result is not None:
            self.say_lines(deed.result(answer, self.look))
        else:
            self.say(deed.fill(deed.done, about, answers))
        if deed.then is not None:
            place, found = deed.then(answer)
            self._record(READ_OF[place], found)

    def _fill_in(self, deed: Question, target: Target) -> dict[str, str] | None:
        answers: dict[str, str] = {}
        for field in deed.fields:
            choices: tuple[str, ...] = ()
            if field.choices is not None:
                try:
                    choices = self._runner.run(field.choices(self._session))
                except IntramurosError as error:
                    self._tell(error)
            for number, name in enumerate(choices, 1):
                self.say(f"  {number}  {name}")
            default = field.default(target)
            text = self.ask(f"{field.label}{f' [{default}]' if default else ''}: ") or default
            if text.isdigit() and 1 <= int(text) <= len(choices):
                text = choices[int(text) - 1]
            if field.required and not text:
                self.say(f"{field.label} is needed.")
                return None
            answers[field.name] = text
        if refused := deed.refused(answers):
            self.say(f"FAIL {refused}")
            return None
        return answers if self._previewed(deed, target, answers) else None

    def _previewed(self, deed: Question, target: Target, answers: dict[str, str]) -> bool:
        """Say what would come of the answers; False when something is wrong with them."""
        if deed.preview is None:
            return True
        try:
            self.say_lines(list(self._runner.run(deed.preview(self._session, target, answers))))
        except IntramurosError as error:
            self._tell(error)
            return False
        return True

    def _agreed(self, action: Action, deed: Question, target: Target, answers: dict[str, str]) -> bool:
        if action.danger == 0:
            return True
        for sentence in deed.consequences:
            self.say(deed.fill(sentence, target, answers))
        self.say(f"The same from a shell: {deed.command(target, answers)}")
        if action.danger == 3:
            return self.ask(f"Type {target.name} to agree: ") == target.name
        return self.ask(f"{action.label.capitalize()}? yes or no [no]: ").lower() in ("y", "yes")

    def _tell(self, error: IntramurosError) -> None:
        self.say(f"FAIL {error.code}: {error.message}")
        if error.hint:
            self.say(f"  {error.hint}")
