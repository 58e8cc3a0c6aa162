"""Small data sets of labelled texts in the words of the tiny encoder: rows whose label follows from a word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.factories.tiny_encoder import WORDS

KINDS = {"card": "card", "beach": "place", "port": "network"}


def labelled_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Return rows of three labels; every text has the one word that decides, among others that do not."""
    others = [word for word in WORDS if word not in KINDS]
    rows = []
    for number in range(start, start + count):
        word = list(KINDS)[number % len(KINDS)]
        noise = [others[(number * step + step) % len(others)] for step in (3, 7, 11)]
        place = number % 3
        rows.append({"text": " ".join([*noise[:place], word, *noise[place:]]), "label": KINDS[word]})
    return rows


def write_dataset(folder: Path, training: Sequence[Any], heldout: Sequence[Any]) -> Path:
    """Write both parts of a data set as the import leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", training), ("heldout", heldout)):
        lines = (json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder
