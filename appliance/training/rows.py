"""Rows of a data set folder: `train.jsonl` and `heldout.jsonl`, each line a chat, completion, text or preference."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from appliance.kernel.errors import BadInput

PARTS: Final = ("train.jsonl", "heldout.jsonl")
"""The files of rows in a data set's folder."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """`messages`, `text` or `prompt` and `completion` are filled; a preference has two answers to its messages."""

    messages: tuple[Message, ...] = ()
    text: str = ""
    prompt: str = ""
    completion: str = ""
    chosen: str = ""
    rejected: str = ""

    def plain_messages(self) -> list[dict[str, str]]:
        """Return the turns in the form that chat templates expect."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


def rows_size(folder: Path) -> int:
    """Return the bytes of a data set's rows."""
    return sum(file.stat().st_size for part in PARTS if (file := folder / part).exists())


def read_rows(file: Path) -> list[Row]:
    """Read one part of a data set; a missing file is an empty part. Raises BadInput naming the line."""
    if not file.exists():
        return []
    decoder = msgspec.json.Decoder(Row)
    rows: list[Row] = []
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                rows.append(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise BadInput(
                    "training.row_invalid",
                    f"{file.name}, line {number} is not a canonical row: {error}.",
                    hint="Import the file as a data set; the import writes canonical rows.",
                ) from error
    return rows
