"""Where a task's rows come from: the suite itself, or the held-out part of a data set, whatever its form.

chat {"messages": […, assistant]}      prompt is all but the last turn, answer the last
completion {"prompt", "completion"}    prompt and answer
classification {"text", "label"}       text and label
preference {"messages", "chosen", "rejected"}   two choices, the first is right
text {"text"}                          text
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from appliance.evaluation.suite import Message, Row, Task, require_row
from appliance.kernel.errors import BadInput, IntegrityFailure


class _Stored(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    label: str | None = None
    chosen: str | None = None
    rejected: str | None = None


def rows_of(task: Task, dataset: Path | None) -> tuple[Row, ...]:
    """Return the rows that a task asks about; `dataset` is the folder of the data set it names.

    Raises BadInput (`evaluation.no_heldout`, `suite.row`) or IntegrityFailure (`evaluation.row`).
    """
    rows = task.rows if dataset is None else _heldout(task, dataset)
    return rows if task.limit is None else rows[: task.limit]


def heldout_rows(dataset: Path) -> tuple[Row, ...]:
    """Return every held-out row. Raises BadInput (`evaluation.no_heldout`) or IntegrityFailure (`evaluation.row`)."""
    file = dataset / "heldout.jsonl"
    lines = file.read_bytes().splitlines() if file.is_file() else []
    if not lines:
        raise BadInput(
            "evaluation.no_heldout",
            "The data set has no held-out rows, so there is nothing to evaluate on.",
            hint="Import it again with a held-out share, or add a file of held-out rows.",
        )
    return tuple(_row(line, number) for number, line in enumerate(lines, start=1))


def _heldout(task: Task, dataset: Path) -> tuple[Row, ...]:
    rows = heldout_rows(dataset)
    for number, row in enumerate(rows, start=1):
        require_row(task, row, f"task {task.name}, held-out row {number} of {task.data}")
    return rows


def _row(line: bytes, number: int) -> Row:
    try:
        stored = msgspec.json.decode(line, type=_Stored)
    except msgspec.MsgspecError as error:
        raise IntegrityFailure(
            "evaluation.row", f"Line {number} of heldout.jsonl is not a row of a data set: {error}."
        ) from error
    return Row(**_fields(stored))


def _fields(stored: _Stored) -> dict[str, Any]:
    if stored.chosen is not None and stored.rejected is not None:
        return {"messages": stored.messages, "choices": (stored.chosen, stored.rejected), "gold": 0}
    if stored.messages and stored.messages[-1].role == "assistant":
        return {"messages": stored.messages[:-1], "answer": stored.messages[-1].content}
    if stored.completion is not None:
        return {"prompt": stored.prompt or "", "answer": stored.completion}
    return {"messages": stored.messages, "prompt": stored.prompt, "text": stored.text, "label": stored.label}
