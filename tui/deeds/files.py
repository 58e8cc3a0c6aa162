"""Files that a person names at the console: what the folder it was opened in offers, and where a name leads.

The control service opens them, as the person's user may; here only names are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.api.example_files import example_names, example_path
from tui.campaign_file import path_of
from tui.session import Session

_ROWS: Final = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".txt"})
_MOST: Final = 64


async def data_files(_: Session) -> tuple[str, ...]:
    """Files with rows, and the examples that are shipped."""
    return (*await _names(lambda entry: entry.suffix.lower() in _ROWS and entry.is_file()), *example_names())


async def model_files(_: Session) -> tuple[str, ...]:
    """GGUF files, and folders as Hugging Face lays models out."""
    return await _names(lambda entry: entry.suffix.lower() == ".gguf" or (entry / "config.json").is_file())


def whole_path(text: str) -> str:
    """Return where a name leads from here. Raises NotFound for an example that is none."""
    return str(example_path(text) or path_of(text).absolute())


async def _names(wanted: Callable[[Path], bool]) -> tuple[str, ...]:
    return await asyncio.to_thread(_look, Path.cwd(), wanted)


def _look(folder: Path, wanted: Callable[[Path], bool]) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in folder.iterdir() if wanted(entry))[:_MOST])
    except OSError:
        return ()  # a folder that may not be looked into offers nothing; names can be typed
