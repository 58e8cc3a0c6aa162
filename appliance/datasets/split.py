"""Which rows are trained on and which are held out: four ways, each a pure function of rows, shares and seed.

What is asked alike stays together whatever the way: a unit is all rows with one question, or with one value of a
kept column. Works on a few numbers for each row, so the rows themselves can stream.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.datasets.prepare import HELDOUT, TRAIN, drawn_percent
from appliance.kernel.errors import BadInput

LEFT_OUT: Final = ""
_FAR_OFF: Final = 0.1
_WAYS: Final = "hash, stratified, group:COLUMN or time:COLUMN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to split: hash, stratified, group or time, with the column of the last two, shares in per cent and a seed."""

    by: str
    column: str
    train: int
    heldout: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What decides about one row: what it asks, its label, and the value of the column."""

    prompt: bytes
    label: str = ""
    value: str = ""


def parse_way(text: object, *, train: object, heldout: object, seed: int) -> Way:
    """Return how to split. Raises BadInput `dataset.split_by` or `dataset.split_shares`."""
    by, _, column = text.partition(":") if isinstance(text, str) else ("", "", "")
    if by not in ("hash", "stratified", "group", "time") or bool(column) != (by in ("group", "time")):
        raise BadInput("dataset.split_by", f"{str(text)[:40]!r} is no way to split.", hint=f"Give {_WAYS}.")
    shares = (train, heldout)
    if any(type(share) is not int or not 0 < share < 100 for share in shares) or sum(map(_whole, shares)) > 100:
        raise BadInput(
            "dataset.split_shares",
            f"{train} % to train on and {heldout} % held out are no shares of one whole.",
            hint="Give two whole numbers from 1 to 99 whose sum is 100 at most.",
        )
    return Way(by=by, column=column, train=_whole(train), heldout=_whole(heldout), seed=seed)


def what_decides(content: Mapping[str, Any], prompt: bytes, way: Way) -> Split | None:
    """Return what decides about a row; None where it has no value in the column. Raises BadInput `dataset.split_by`."""
    if way.by == "stratified":
        if "label" not in content:
            raise BadInput(
                "dataset.split_by",
                "Only classification rows have the one label that a stratified split keeps in proportion.",
                hint=f"Give {_WAYS}.",
            )
        return Split(prompt=prompt, label=content["label"])
    if way.by == "hash":
        return Split(prompt=prompt)
    value = content.get("meta", {}).get(way.column) or (content.get(way.column) if way.column == "label" else None)
    if way.by == "time" and value:
        value = time_of(value)
    return Split(prompt=prompt, value=value) if value else None


def sides_of(rows: Sequence[Split], way: Way) -> list[str]:
    """Return the side of each row: train, heldout, or empty for what neither share takes."""
    if way.by == "time":
        return _by_time(rows, way)
    if way.by == "hash":
        return [_by_chance(row.prompt, way) for row in rows]
    units: dict[bytes, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        units[_key(way.seed, row.value.encode() if way.by == "group" else row.prompt)].append(place)
    strata: dict[str, list[bytes]] = defaultdict(list)
    for key, places in units.items():
        strata[rows[places[0]].label].append(key)
    sides = [LEFT_OUT] * len(rows)
    for _, keys in sorted(strata.items()):
        _fill(sides, [units[key] for key in sorted(keys)], way)
    return sides


def _by_chance(prompt: bytes, way: Way) -> str:
    """Return the side that an import with the same share and seed gives: a row keeps it when the data set grows."""
    drawn = drawn_percent(way.seed, prompt)
    if drawn < way.heldout:
        return HELDOUT
    return TRAIN if drawn < way.heldout + way.train else LEFT_OUT


def time_of(text: str) -> str:
    """Return a time in a form whose order is that of time, or empty for what is none."""
    plain = text.strip().replace("/", "-")
    if match := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", plain):
        plain = f"{match[3]}-{int(match[2]):02}-{int(match[1]):02}"
    if re.fullmatch(r"\d{9,10}", plain):
        return datetime.datetime.fromtimestamp(int(plain), datetime.UTC).isoformat()
    try:
        found = datetime.datetime.fromisoformat(plain)
    except ValueError:
        return ""
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC).isoformat()


def _fill(sides: list[str], units: Sequence[list[int]], way: Way) -> None:
    """Hand out units in their order: first to the held-out part until its share is full, then to the training part."""
    total = sum(map(len, units))
    heldout = round(total * way.heldout / 100)
    train = total if way.train + way.heldout == 100 else round(total * way.train / 100)
    given = {HELDOUT: 0, TRAIN: 0}
    for number, places in enumerate(units):
        last = number == len(units) - 1 and not given[TRAIN]
        if not last and given[HELDOUT] + len(places) <= heldout:
            side = HELDOUT
        elif last or given[TRAIN] < train:
            side = TRAIN
        else:
            continue
        given[side] += len(places)
        for place in places:
            sides[place] = side


def _by_time(rows: Sequence[Split], way: Way) -> list[str]:
    """Hold the newest out. What has one time stays on one side, so the share is met as nearly as the times allow."""
    order = sorted(range(len(rows)), key=lambda place: (rows[place].value, place))
    borders = [rank for rank in range(1, len(rows)) if rows[order[rank]].value != rows[order[rank - 1]].value]
    if not borders:
        raise BadInput(
            "dataset.split_by",
            f"All {len(rows)} rows have one time in {way.column}, so nothing is newer than the rest.",
            hint="Split by another column, or by hash.",
        )
    wanted = len(rows) * (100 - way.heldout) / 100
    cut = min(borders, key=lambda rank: (abs(rank - wanted), rank))
    if abs(cut - wanted) > _FAR_OFF * len(rows):
        share = round(100 * cut / len(rows))
        raise BadInput(
            "dataset.split_by",
            f"The times in {way.column} allow no split near {100 - way.heldout}:{way.heldout}; "
            f"the nearest is {share}:{100 - share}, because many rows have one time.",
            hint="Ask for shares near that, or split by another column.",
        )
    begin = 0 if way.train + way.heldout == 100 else max(0, cut - round(len(rows) * way.train / 100))
    sides = [LEFT_OUT] * len(rows)
    for rank, place in enumerate(order):
        if rank >= begin:
            sides[place] = HELDOUT if rank >= cut else TRAIN
    return sides


def _key(seed: int, unit: bytes) -> bytes:
    return hashlib.sha256(f"{seed}\0".encode() + unit).digest()


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
