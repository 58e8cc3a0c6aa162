"""One fold of a data set, as a view inside a job's own directory: the stored version is never copied or changed.

Which fold a row is in is a pure function of (seed, the training rows): rows that ask the same question stay together,
labels are spread evenly, and the order of the file does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.jobs.spec import Fold
from appliance.kernel.canonical import canonical_json, sha256_hex
from appliance.kernel.errors import BadInput

TRAIN: Final = "train.jsonl"
HELDOUT: Final = "heldout.jsonl"


def view_fold(folder: Path, fold: Fold) -> None:
    """Replace a data set's links by the fold's own two parts. Raises BadInput (`kfold.too_few_rows`)."""
    source = folder / TRAIN
    assigned = assign((_decoded(line) for line in _lines(source)), of=fold.of, seed=fold.seed)
    parts = {True: folder / f"{HELDOUT}.new", False: folder / f"{TRAIN}.new"}
    with parts[True].open("wb") as held, parts[False].open("wb") as kept:
        for line in _lines(source):
            (held if assigned[_group(_decoded(line))] == fold.index else kept).write(line)
    for name, part in ((HELDOUT, parts[True]), (TRAIN, parts[False])):
        part.rename(folder / name)  # takes the place of a link; the blob behind it stays


def assign(rows: Iterable[dict[str, Any]], *, of: int, seed: int) -> dict[str, int]:
    """Return the fold of each group of rows: groups of one label are dealt round, in an order that the seed decides."""
    strata: dict[str, str] = {}
    for row in rows:
        group, label = _group(row), _label(row)
        strata[group] = min(strata.get(group, label), label)
    if len(strata) < of:
        raise BadInput(
            "kfold.too_few_rows",
            f"{len(strata)} different rows cannot be dealt into {of} folds.",
            hint="Use fewer folds, or a larger data set.",
        )
    ordered = sorted(strata, key=lambda group: (strata[group], hashlib.sha256(f"{seed}\0{group}".encode()).digest()))
    return {group: position % of for position, group in enumerate(ordered)}


def _group(row: dict[str, Any]) -> str:
    """Return the digest of what a row asks, so that no question is on both sides."""
    match row:
        case {"messages": [*messages]} if any(message.get("role") == "user" for message in messages):
            asked: Any = [message.get("content") for message in messages if message.get("role") == "user"]
        case {"prompt": str(prompt)}:
            asked = prompt
        case {"text": str(text)}:
            asked = text
        case _:
            asked = row
    return sha256_hex(canonical_json(asked))


def _label(row: dict[str, Any]) -> str:
    label = row.get("label")
    return label if isinstance(label, str) else ""


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from stream


def _decoded(line: bytes) -> dict[str, Any]:
    return msgspec.json.decode(line, type=dict[str, Any])
