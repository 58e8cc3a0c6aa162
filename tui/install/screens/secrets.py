"""Secrets are typed twice and never shown. They go from the fields to the installer's memory, and nowhere else."""

from __future__ import annotations

from functools import partial

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tui import format as fmt
from tui.install.keys import SECRETS
from tui.install.screens.entry import TypedEntry
from tui.install.screens.stage import Stage
from tui.install.threads import in_thread
from tui.install.visit import Secret
from tui.text import Line, Span, Tone, line
from tui.widgets.note import Note
from tui.widgets.painted import Painted

_LABEL = 26


class SecretsStage(Stage):
    """Two masked fields for each secret."""

    DEFAULT_CSS = f"""
    SecretsStage #body {{ height: 1fr; }}
    SecretsStage Horizontal {{ height: 1; }}
    SecretsStage .name {{ width: {_LABEL}; }}
    SecretsStage Input {{ width: 1fr; height: 1; border: none; padding: 0; background: $background;
        text-style: underline; }}
    """
    AUTO_FOCUS = ""
    keys_of = SECRETS
    title_text = "Secrets"

    def __init__(self) -> None:
        super().__init__()
        self._secrets: list[Secret] = []

    def body(self) -> ComposeResult:
        """What each is for, and twice a field."""
        plain = self.wizard.plain
        self._secrets = self.visit.secrets()
        with Vertical(id="body"):
            for secret in self._secrets:
                yield Note(id=f"about-{secret.name}", ascii=plain)
                for number, label in enumerate((secret.label, "The same again")):
                    with Horizontal():
                        name = Painted(ascii=plain)
                        name.add_class("name")
                        name.paint([((Span(f"   {fmt.fit(label, _LABEL - 4)} "),), False)])
                        yield name
                        yield TypedEntry("", id=f"field-{secret.name}-{number}", password=True)

    def on_mount(self) -> None:
        """The first one that is missing."""
        self.refocus()

    def refocus(self) -> None:
        """The first field of the first secret that is missing."""
        kept = self.wizard.backend.secrets_kept()
        missing = [secret for secret in self._secrets if secret.name not in kept]
        self.set_focus(self._entry((missing or self._secrets)[0], 0))

    def show(self) -> None:
        """What each is for, and whether it was typed already."""
        kept = self.wizard.backend.secrets_kept()
        for secret in self._secrets:
            told: list[Line] = [()]
            told += [line("   ", Span(part, Tone.FAINT)) for part in fmt.wrap(secret.help, self.look.width - 6)]
            if secret.name in kept:
                told.append(line("   ", Span("It was typed already. Leave it empty to keep it.", Tone.GOOD)))
            else:
                told.append(line("   ", Span(secret.must, Tone.FAINT)))
            self.query_one(f"#about-{secret.name}", Note).tell(told)

    def act(self, name: str) -> None:
        """Next field; after the last one, hand the secrets over."""
        if name == "down":
            self.work("keep", partial(self._keep, missing_too=True))
            return
        if name != "on":
            super().act(name)
            return
        entries = [self._entry(secret, number) for secret in self._secrets for number in (0, 1)]
        here = entries.index(self.focused) if isinstance(self.focused, TypedEntry) else 0
        if here + 1 < len(entries):
            self.set_focus(entries[here + 1])
        else:
            self.work("keep", self._keep)

    async def _keep(self, *, missing_too: bool = False) -> None:
        """Hand over what was typed, and go on; what was not typed at all may wait with `missing_too`."""
        kept = self.wizard.backend.secrets_kept()
        for secret in self._secrets:
            first, second = self._entry(secret, 0), self._entry(secret, 1)
            typed = (first.value, second.value)
            if not any(typed) and (missing_too or secret.name in kept):
                continue
            fault = await in_thread(partial(self.visit.keep_secret, secret.name, *typed))
            first.value = second.value = ""
            if fault:
                self.set_focus(first)
                self.say(f"{secret.label} {fault}.", Tone.BAD)
                return
        self.wizard.go_on()

    def _entry(self, secret: Secret, number: int) -> TypedEntry:
        return self.query_one(f"#field-{secret.name}-{number}", TypedEntry)
