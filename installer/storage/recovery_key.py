"""The recovery key: 256 random bits in systemd's own spelling, so that it also opens the volume at the boot prompt.

64 letters of the modhex alphabet (the same on every keyboard layout), eight groups of eight with dashes between; the
spelling of systemd-cryptenroll(1) --recovery-key. Shown once, and two groups are typed back before it is enrolled: a
key that nobody wrote down never becomes a way in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from appliance.kernel.errors import BadInput

_ALPHABET = "cbdefghijklnrtuv"
_GROUPS = 8
_LETTERS = 8


class Witness(Protocol):
    """Whoever shows the key and takes the typed groups: a terminal, the wizard, a test."""

    def show(self, key: str) -> None:
        """Show the key, once."""
        ...

    def typed(self, group: int) -> str:
        """Return what was typed for a group, counted from 1."""
        ...


def generate(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return a new key. The random source can be replaced for golden tests only."""
    letters = "".join(_ALPHABET[byte >> 4] + _ALPHABET[byte & 15] for byte in random_bytes(_GROUPS * _LETTERS // 2))
    return "-".join(letters[i : i + _LETTERS] for i in range(0, len(letters), _LETTERS))


def normalise(text: str) -> str:
    """Return a typed key in its one spelling. Raises BadInput that names the group, never the key."""
    letters = "".join(text.split()).replace("-", "").lower()
    if len(letters) != _GROUPS * _LETTERS:
        raise BadInput(
            "storage.recovery_format",
            f"The recovery key has {_GROUPS * _LETTERS} letters; {len(letters)} were given.",
            hint="Eight groups of eight letters; dashes and spaces do not matter.",
        )
    groups = [letters[i : i + _LETTERS] for i in range(0, len(letters), _LETTERS)]
    for number, group in enumerate(groups, start=1):
        if any(letter not in _ALPHABET for letter in group):
            raise BadInput(
                "storage.recovery_format",
                f"Group {number} of the recovery key has a letter that no recovery key has.",
                hint=f"Only these letters occur: {_ALPHABET}.",
            )
    return "-".join(groups)


def confirm(key: str, witness: Witness, *, attempts: int = 3) -> None:
    """Show the key and have two groups of it typed back. Raises BadInput after `attempts` wrong answers."""
    witness.show(key)
    groups = key.split("-")
    for _ in range(attempts):
        first, second = sorted(secrets.SystemRandom().sample(range(1, _GROUPS + 1), 2))
        answers = [(group, "".join(witness.typed(group).split()).lower()) for group in (first, second)]
        if all(secrets.compare_digest(answer.encode(), groups[group - 1].encode()) for group, answer in answers):
            return
    raise BadInput(
        "storage.recovery_not_confirmed",
        f"The recovery key was not typed back correctly in {attempts} attempts; nothing was enrolled.",
        hint="Run the command again: it makes a new key.",
    )
