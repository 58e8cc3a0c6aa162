"""Reads the text of a file that a person wrote: UTF-8, and no larger than anybody writes.

Knows nothing of what the text says; `plain_yaml` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.kernel.errors import BadInput, NotFound, storage_errors

_LIMIT: Final = 1 << 20


def read_text(file: Path) -> str:
    """Return the text. Raises NotFound (`yaml.not_found`) or BadInput (`yaml.invalid`) naming the line."""
    with storage_errors(f"reading {file}"):
        if not file.is_file():
            raise NotFound("yaml.not_found", f"There is no file {file}.")
        with file.open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise _invalid(f"{file.name} is larger than {_LIMIT >> 20} MiB", hint="Give the file that was meant.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{file.name}, line {data[: error.start].count(10) + 1}"
        raise _invalid(f"{where}: byte {error.start} is not UTF-8", hint="Correct that line.") from error


def _invalid(fault: str, *, hint: str) -> BadInput:
    return BadInput("yaml.invalid", f"{fault}.", hint=hint)
