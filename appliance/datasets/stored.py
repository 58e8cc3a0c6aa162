"""Reading a stored data set version: its parts' rows in order, and the report that its maker left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.datasets.parts import REPORT
from appliance.datasets.prepare import HELDOUT, TRAIN
from appliance.kernel.errors import IntegrityFailure

SIDES = (TRAIN, HELDOUT)


def read_part(folder: Path, side: str) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Yield line number, line and content of each row of a part. Raises IntegrityFailure `dataset.row_invalid`."""
    path = folder / f"{side}.jsonl"
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                content = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise IntegrityFailure(
                    "dataset.row_invalid",
                    f"Line {number} of {side}.jsonl is not a stored row.",
                    hint="Import the data set again.",
                ) from error
            yield number, line, content


def read_report(folder: Path) -> dict[str, Any]:
    """Return what the version's maker reported, or nothing where there is no report."""
    path = folder / REPORT
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.exists() else {}
