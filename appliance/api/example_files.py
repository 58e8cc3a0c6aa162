"""The data sets that the product ships, by name: `example:faq` is one of them wherever a file may be named."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.kernel.errors import NotFound

_PREFIX: Final = "example:"
_FOLDER: Final = Path(__file__).parent.parent / "examples"


def example_names() -> tuple[str, ...]:
    """Every example as a person names it."""
    return tuple(f"{_PREFIX}{file.stem}" for file in sorted(_FOLDER.glob("*.jsonl")))


def example_path(text: str) -> Path | None:
    """Return the file of a shipped example, or None for an ordinary path. Raises NotFound `dataset.no_example`."""
    if not text.startswith(_PREFIX):
        return None
    path = _FOLDER / f"{Path(text.removeprefix(_PREFIX)).name}.jsonl"
    if not path.exists():
        known = ", ".join(name.removeprefix(_PREFIX) for name in example_names())
        raise NotFound("dataset.no_example", f"There is no shipped example {text}.", hint=f"Examples: {known}.")
    return path
