"""What a model is asked when it writes rows, and which of its answers are kept. Pure: no model, no file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.datasets.near import NearIndex
from appliance.datasets.prepare import prompt_digest

ALIKE: Final = 0.9
_SHORTEST = 2
_REPEATS = 3
_WORDS_OF_A_PHRASE = 4
_EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class Sieve:
    """Decides about written rows in their order: what is empty, broken off, or was written before is refused."""

    forbidden: frozenset[bytes] = frozenset()
    """digests of questions that must not come up, because they are held out"""
    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _seen: NearIndex = field(default_factory=lambda: NearIndex(threshold=ALIKE))

    def fault(self, question: str, answer: str, *, ended: bool) -> str:
        """Return why a row is refused (and count it), or empty; a row that is kept counts from then on."""
        code = self._fault(question, answer, ended=ended)
        if code:
            self.refused[code] += 1
        else:
            self.kept += 1
        return code

    def refuse(self, code: str) -> None:
        """Count a row that was refused before."""
        self.refused[code] += 1

    def _fault(self, question: str, answer: str, *, ended: bool) -> str:
        if len(answer) < _SHORTEST or len(question) < _SHORTEST:
            return "empty"
        if not ended:
            return "broken_off"
        if " ".join(answer.casefold().split()) == " ".join(question.casefold().split()):
            return "echo"
        if _repeats_itself(answer):
            return "repeats"
        if "\N{REPLACEMENT CHARACTER}" in answer + question:
            return "damaged"
        if prompt_digest(row_of(question, answer)) in self.forbidden:
            return "held_out"
        if self._seen.place(self.kept, f"{question}\n{answer}") is not None:
            return "near_duplicate"
        return ""


def row_of(question: str, answer: str) -> dict[str, Any]:
    """Return a written pair as a chat row."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def seed_of(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed that its arguments alone decide."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def chosen_question(questions: Sequence[str], seed: int, attempt: int) -> str:
    """Return the question of an attempt: every one in turn, each round in an order of its own."""
    around, place = divmod(attempt, len(questions))
    order = sorted(range(len(questions)), key=lambda number: seed_of(seed, "round", around, number))
    return questions[order[place]]


def request_for_a_question(questions: Sequence[str], seed: int, attempt: int) -> str:
    """Return what asks a model for one more question like a few that are there."""
    start = attempt * _EXAMPLES
    shown = [chosen_question(questions, seed, start + number) for number in range(min(_EXAMPLES, len(questions)))]
    listed = "\n".join(f"- {' '.join(question.split())}" for question in shown)
    return f"These are questions that people asked:\n{listed}\nWrite one more question of this kind, and nothing else."


def _repeats_itself(text: str) -> bool:
    words = text.split()
    phrases = Counter(tuple(words[at : at + _WORDS_OF_A_PHRASE]) for at in range(len(words) - _WORDS_OF_A_PHRASE + 1))
    return any(count > _REPEATS for count in phrases.values())
