"""What the file of a search, k-fold or pipeline says, as far as one sees without the appliance. Pure but for reading.

It judges nothing: what the appliance would refuse is simply not told of, because the appliance says it better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.kernel.errors import IntramurosError
from appliance.kernel.text_file import read_text
from tui.draft import typed

_LOOKED_AT = 64
"""Files of a directory that are opened to see what they are."""
_SMALL = 1 << 16
"""Bytes of such a file, at most: larger ones have to be named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found in a file. `recipe` is a recipe file's content; `highest` are values that ask for most memory."""

    kind: str = ""
    told: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    highest: Mapping[str, Any] = field(default_factory=dict)


def path_of(text: str) -> Path:
    """Return the file that a person names; `~` is their home, and what is nobody's home stays as it was typed."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def files_of(kind: str, folder: Path) -> tuple[str, ...]:
    """Name the files of a folder that are of this kind."""
    try:
        there = sorted(file for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
    except OSError:
        return ()
    return tuple(file.name for file in there[:_LOOKED_AT] if _kind(file) == kind)


def look_into(file: Path) -> Seen | None:
    """Say what a file holds; None where there is none. Raises IntramurosError for one that cannot be read as YAML."""
    # YAML is loaded when a file is first looked at, off the event loop: the first paint does not wait for it.
    from appliance.kernel.plain_yaml import parse_plain_yaml

    try:
        if not file.is_file():
            return None
    except OSError:
        return None  # a name that no file can have, or a folder that may not be looked into
    value = parse_plain_yaml(read_text(file).encode(), name=file.name).value
    return seen_in(value) if isinstance(value, dict) else Seen()


def seen_in(value: Mapping[str, Any]) -> Seen:
    """Say what a document holds."""
    match value:
        case {"space": dict() as space, "recipe": dict() as recipe}:
            return _search(value, space, recipe)
        case {"steps": list() as steps}:
            told = (f"{_count(len(steps), 'step')}: {', '.join(_step(one) for one in steps)}",)
            return Seen(kind="pipeline", told=told)
        case {"recipe": str()}:
            return Seen(kind="kfold", recipe=value)
    return Seen()


def _kind(file: Path) -> str:
    try:
        seen = look_into(file) if file.stat().st_size <= _SMALL else None
    except (IntramurosError, OSError):
        return ""
    return seen.kind if seen else ""


def _search(value: Mapping[str, Any], space: Mapping[str, Any], recipe: Mapping[str, Any]) -> Seen:
    given = {name: value[name] for name in ("trials", "batch", "metric", "direction") if name in value}
    fields = {name: one for name, one in space.items() if isinstance(one, dict)}
    told = ", ".join(f"{name} {typed(one)}" for name, one in given.items())
    return Seen(
        kind="search",
        told=(
            f"varies {'; '.join(f'{name} {_range(one)}' for name, one in fields.items())}",
            *([told] if told else []),
        ),
        recipe=recipe,
        highest={name: high for name, one in fields.items() if (high := _highest(one)) is not None},
    )


def _range(dimension: Mapping[str, Any]) -> str:
    if choices := dimension.get("choices"):
        return typed(choices)
    log = " (log)" if dimension.get("log") else ""
    return f"{typed(dimension.get('low'))} to {typed(dimension.get('high'))}{log}"


def _highest(dimension: Mapping[str, Any]) -> float | None:
    values = dimension.get("choices") or [dimension.get("high")]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    return max(numbers) if numbers and len(numbers) == len(values) else None


def _step(step: Any) -> str:
    if not isinstance(step, dict):
        return "?"
    verb = next((name for name in step if name != "name"), "?")
    return f"{step['name']} ({verb})" if "name" in step else str(verb)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
