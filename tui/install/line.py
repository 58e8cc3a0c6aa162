"""The wizard without a screen: the same questions from the same table, one prompt after the other, plain ASCII.

For serial lines, dumb terminals and screen readers. Numbers choose, an empty line keeps what stands there, `<` goes
back to the question before, `-` empties an answer, `?` explains, end of input leaves; what was answered is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from appliance.kernel.clock import Clock, utc_now
from appliance.kernel.errors import IntramurosError
from tui import format as fmt
from tui.install.confirm import Choose, TypedBack, two_of
from tui.install.fields import Field, Kind, Section, rows, words
from tui.install.progress import after
from tui.install.visit import Visit
from tui.install.words import check_lines, key_lines, report_lines, review_lines, summary
from tui.text import Line, Look, plain

_WIDTH = 78
LEFT = 130
"""Exit code when the person left before the end, as after Ctrl+C in a shell."""
FAILED = 1


class _Leave(Exception):
    """End of input, or the person wants out."""


class _Back(Exception):
    """One question back."""


def run_line(
    visit: Visit,
    *,
    out: TextIO,
    read: Callable[[], str],
    read_secret: Callable[[str], str],
    why: str = "",
    clock: Clock = utc_now,
    choose: Choose = two_of,
) -> int:
    """Ask, plan, apply, report; return the exit code. `read` gives one line, or "" at the end of the input."""
    return _Dialogue(visit, out, read, read_secret, clock, choose).run(why)


class _Dialogue:
    def __init__(
        self,
        visit: Visit,
        out: TextIO,
        read: Callable[[], str],
        read_secret: Callable[[str], str],
        clock: Clock,
        choose: Choose,
    ) -> None:
        self._visit, self._out, self._read, self._read_secret = visit, out, read, read_secret
        self._clock, self._choose = clock, choose
        self._armed = False

    # Speaking and listening.

    def say(self, text: str = "") -> None:
        """Print one line of ASCII; what is too long for it goes on further in."""
        text = fmt.to_ascii(fmt.clean(text)).rstrip()
        further_in = " " * (len(text) - len(text.lstrip()) + 2)
        first = fmt.wrap(text, _WIDTH)[0]
        rest = text[len(first) :].strip()
        more = fmt.wrap(rest, _WIDTH - len(further_in)) if rest else []
        self._out.write("\n".join([first, *(further_in + part for part in more)]) + "\n")
        self._out.flush()

    def say_lines(self, lines: list[Line]) -> None:
        """Print lines."""
        for spans in lines:
            self.say(plain(spans))

    def ask(self, prompt: str) -> str:
        """Ask for one line; raises _Leave at the end of the input."""
        self._out.write(fmt.to_ascii(fmt.clean(prompt)))
        self._out.flush()
        text = self._read()
        if not text:
            self.say()
            raise _Leave
        return fmt.clean(text.strip())

    @property
    def look(self) -> Look:
        return Look(width=_WIDTH, height=24, now=self._clock(), ascii=True, spoken=True)

    # The way.

    def run(self, why: str) -> int:
        """From the first look to the report."""
        try:
            self._visit.look()
            machine = self._visit.machine
            told = f", line by line ({why})" if why else ""
            self.say(f"Intramuros {machine.release} installer on {machine.host}{told}.")
            self.say("Empty keeps what stands in brackets; < goes back, - empties, ? explains, Ctrl+D leaves.")
            if machine.installed and self._visit.unfinished is None:
                self.say(
                    f"The box was installed at {fmt.moment(machine.installed)} UTC. Applying a plan again repairs it."
                )
            if self._visit.resumed:
                self.say("Answers of an earlier visit are kept and stand in the brackets.")
            if self._told_unfinished():
                return self._follow()
            self._checks()
            self._answers_and_consent()
            self._confirm_key()
            self._visit.begin()
            return self._follow()
        except (_Leave, KeyboardInterrupt):
            self._leave()
        except IntramurosError as error:
            self._tell(error)
            return error.exit_code
        return LEFT

    def _leave(self) -> None:
        self._visit.save()
        self.say(f"Left. Nothing was changed on the box. Your answers are kept in {self._visit.draft}.")

    def _told_unfinished(self) -> bool:
        """Tell of a run that was begun; True when it goes on without us."""
        unfinished = self._visit.unfinished
        if unfinished is None:
            return False
        told = "is still going on" if unfinished.alive else "did not finish"
        self.say(f"The installation of {fmt.moment(unfinished.since)} UTC {told} (at: {unfinished.phase}).")
        if not unfinished.alive:
            self.say("Applying the plan goes on from there.")
        return unfinished.alive

    def _checks(self) -> None:
        while True:
            self.say()
            self.say("Checks before the first question:")
            findings = self._visit.backend.examine(None)
            self.say_lines(check_lines(findings, self.look))
            told, _ = summary(findings)
            self.say(f"The box is {told}." if "ready" in told else f"{told}.")
            if "ready" in told or not self._yes("Check again?", default=True):
                return

    def _answers_and_consent(self) -> None:
        """Come back only when everything is right and the person wants it."""
        asked = self._visit.unfinished is not None and self._visit.verdict.answers is not None
        while True:
            if not asked:
                self._sections()
            asked = False
            self._secrets()
            self.say()
            self.say("Checking the box against the answers, and planning.")
            self._visit.prepare()
            self.say_lines(review_lines(self._visit, self.look))
            self.say()
            if reason := self._visit.why_not_apply():
                self.say(f"It cannot be applied: {reason}.")
                if not self._yes("Go through the answers again?", default=True):
                    raise _Leave
            elif self._consents():
                return

    def _sections(self) -> None:
        index = 0
        last = False
        while index < len(self._visit.asked_sections()):
            section = self._visit.asked_sections()[index]
            try:
                self._section(section, from_end=last)
            except _Back:
                index, last = max(0, index - 1), index > 0
                continue
            index, last = index + 1, False

    def _section(self, section: Section, *, from_end: bool) -> None:
        self.say()
        self.say(f"{section.title}. {section.about}")
        asked = section.asked(self._visit.texts)
        index = len(asked) - 1 if from_end else 0
        while index < len(asked := section.asked(self._visit.texts)):
            try:
                self._question(asked[index])
            except _Back:
                if index == 0:
                    raise
                index -= 1
                continue
            index += 1

    def _question(self, field: Field) -> None:
        """Ask until the answer is right."""
        while True:
            if field.kind is Kind.ROWS:
                self._ask_rows(field)
            else:
                self._ask_one(field)
            self._visit.save()
            fault = self._visit.verdict.faults.get(field.key, "")
            if not fault:
                return
            self.say(f"  FAIL {field.label}: {fault}")

    def _ask_one(self, field: Field) -> None:
        kept = self._visit.texts.get(field.key, "")
        offered = field.choices or self._visit.machine.suggestions.get(field.key, ())
        if field.kind is Kind.SWITCH:
            offered = ()
        for number, choice in enumerate(offered, 1):
            self.say(f"    {number}  {choice}")
        several = " (numbers or words, commas between)" if field.kind in (Kind.SEVERAL, Kind.LIST) else ""
        text = self._answer(field, f"{field.label}{several}{' yes or no' if field.kind is Kind.SWITCH else ''}", kept)
        if field.kind in (Kind.SEVERAL, Kind.LIST):
            text = ", ".join(_chosen(word, offered) for word in words(text))
        elif field.kind is Kind.SWITCH:
            text = {"y": "yes", "n": "no"}.get(text.lower(), text.lower())
        else:
            text = _chosen(text, offered) if field.kind is not Kind.NUMBER else text
        self._visit.set(field.key, text)

    def _ask_rows(self, field: Field) -> None:
        kept = rows(self._visit.texts.get(field.key, ""))
        offered = [text for text in self._visit.machine.suggestions.get(field.key, ()) if text not in kept]
        for number, text in enumerate(offered, 1):
            self.say(f"    {number}  {text}")
        found: list[str] = []
        while True:
            number = len(found)
            before = kept[number] if number < len(kept) else ""
            text = self._answer(field, f"{field.label} {number + 1}{'' if before else ', empty ends'}", before)
            if not text:
                if number < len(kept):
                    kept.pop(number)
                    continue
                break
            found.append(_chosen(text, tuple(offered)))
        self._visit.set(field.key, "\n".join(found))

    def _answer(self, field: Field, prompt: str, kept: str) -> str:
        shown = kept if len(kept) <= 40 else f"{kept[:24]}...{kept[-13:]}"
        while True:
            text = self.ask(f"  {prompt}{f' [{shown}]' if shown else ''}: ")
            if text == "?":
                for part in fmt.wrap(field.help.replace("`", ""), _WIDTH - 4):
                    self.say(f"    {part}")
            elif text == "<":
                raise _Back
            elif text == "-":
                return ""
            else:
                return text or kept

    def _secrets(self) -> None:
        for secret in self._visit.secrets_missing():
            self.say()
            self.say(f"{secret.label}. {secret.help} {secret.must}")
            while True:
                first, second = self._typed(f"  {secret.label}: "), self._typed("  The same again: ")
                fault = self._visit.keep_secret(secret.name, first, second)
                if not fault:
                    break
                self.say(f"  FAIL {secret.label}: {fault}")

    def _typed(self, prompt: str) -> str:
        try:
            return self._read_secret(prompt)
        except EOFError:
            self.say()
            raise _Leave from None

    def _consents(self) -> bool:
        """Nothing was changed until here."""
        if device := self._visit.wiped:
            self.say(f"Everything on {device} will be destroyed.")
            return self.ask(f"Type {device} to install, or anything else to go back: ") == device
        return self._yes("Install now?", default=False)

    def _yes(self, question: str, *, default: bool) -> bool:
        text = self.ask(f"{question} yes or no [{'yes' if default else 'no'}]: ").lower()
        return text in ("y", "yes") if text else default

    # The run.

    def _follow(self) -> int:
        visit = self._visit
        self.say()
        self.say("Installing. Ctrl+C leaves this view; the installation goes on, and the wizard finds it again.")
        try:
            for event in visit.backend.follow():
                told = visit.running.told
                visit.running = after(visit.running, event)
                if new := visit.running.told - told:
                    for text in visit.running.log[-new:]:
                        self.say(f"  {text}")
                self._tell_lifeline()
        except (_Leave, KeyboardInterrupt):
            self.say()
            self.say("Left. The installation goes on; start the wizard again to follow it.")
            return LEFT
        report = visit.end()
        self.say_lines(report_lines(report, self.look))
        return FAILED if report.problem else 0

    def _tell_lifeline(self) -> None:
        left = self._visit.backend.lifeline()
        if left is not None and not self._armed:
            self.say(f"  Lifeline armed: unless a new login works, the old state comes back in {left:.0f} s.")
        elif left is None and self._armed:  # a new login was proven, or the old state is back: the run says which
            self.say("  Lifeline no longer armed.")
        self._armed = left is not None

    def _confirm_key(self) -> None:
        key = self._visit.backend.new_recovery_key(self._visit.answers())
        if key is None:
            return
        self.say_lines(key_lines(key, self.look))
        typed = TypedBack(key, self._choose)
        while True:
            first, second = (self.ask(f"  Group {group}: ") for group in typed.groups)
            if typed.right(first, second):
                break
            self.say("  FAIL: that is not what the key says. Read it from your paper.")
        self._visit.backend.lay_recovery_key(key)
        self.say("  The recovery key is confirmed. It will not be shown again.")

    def _tell(self, error: IntramurosError) -> None:
        self.say(f"FAIL {error.code}: {error.message}")
        if error.hint:
            self.say(f"  {error.hint}")


def _chosen(text: str, offered: tuple[str, ...]) -> str:
    """A number stands for what was offered under it."""
    return offered[int(text) - 1] if text.isascii() and text.isdigit() and 1 <= int(text) <= len(offered) else text
