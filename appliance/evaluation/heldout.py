"""The held-out part of a data set as questions with one expected answer each.

A row of several turns is one question: everything before the last assistant message is its context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.kernel.errors import BadInput, IntegrityFailure


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class _Row(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A conversation up to the question, and the answer that is expected."""

    context: tuple[Message, ...]
    expected: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The context as templates take it."""
        return [{"role": message.role, "content": message.content} for message in self.context]

    @property
    def question(self) -> str:
        """The last thing the user said."""
        return next((message.content for message in reversed(self.context) if message.role == "user"), "")


def read_examples(dataset: Path) -> tuple[Example, ...]:
    """Read `heldout.jsonl`.

    Raises BadInput ("evaluation.no_heldout", "evaluation.form") or IntegrityFailure for a line that is not a row.
    """
    file = dataset / "heldout.jsonl"
    lines = file.read_bytes().splitlines() if file.is_file() else []
    examples = tuple(_example(line, number) for number, line in enumerate(lines, start=1))
    if not examples:
        raise BadInput(
            "evaluation.no_heldout",
            "The data set has no held-out rows, so there is nothing to evaluate on.",
            hint="Import it again with a held-out share, or add a file of held-out rows.",
        )
    return examples


def _example(line: bytes, number: int) -> Example:
    try:
        messages = msgspec.json.decode(line, type=_Row).messages
    except msgspec.MsgspecError as error:
        raise IntegrityFailure(
            "evaluation.row", f"Line {number} of heldout.jsonl is not a row of a data set: {error}."
        ) from error
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise BadInput(
            "evaluation.form",
            f"Line {number} of heldout.jsonl is no conversation that ends with an answer.",
            hint="Measure rows of another form with a suite that names the data set.",
        )
    return Example(context=messages[:-1], expected=messages[-1].content)
