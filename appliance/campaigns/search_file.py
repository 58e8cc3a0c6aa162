"""The search file: one recipe, which of its fields vary, and how long to look.

    recipe:                  # a recipe file's content
      recipe: lora
      base: assistant@1
      data: faq@1
    space:
      learning_rate: {low: 1e-4, high: 1e-2, log: true}
      rank: {choices: [4, 8, 16]}
    trials: 20
    batch: 2

Knows neither recipes nor jobs. Invariant: what a search does follows from this file and the outcomes of its trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from appliance.kernel.errors import BadInput
from appliance.kernel.field_faults import FieldFault, fault_in
from appliance.kernel.plain_yaml import PlainDocument, parse_plain_yaml

_LISTED: Final = "docs/operators/runs.md has the fields of a search."
Scalar = bool | int | float | str


class Dimension(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values one field may take: a range with both ends, or choices. A range of whole numbers stays whole."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    choices: tuple[Scalar, ...] = ()


class SearchFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole search."""

    recipe: dict[str, Any]
    """A recipe file's content; the fields of `space` are set over its `with`."""
    space: Annotated[dict[str, Dimension], Meta(min_length=1)]
    """Recipe field -> the values it may take."""
    trials: Annotated[int, Meta(ge=1, le=1000)] = 20
    """How many runs to make."""
    batch: Annotated[int, Meta(ge=1, le=64)] = 2
    """Trials that are asked for together; a fixed number, so that the same search makes the same trials."""
    startup: Annotated[int, Meta(ge=1, le=1000)] = 6
    """Trials drawn at random before the model of good values (TPE) decides."""
    metric: str = ""
    """Figure of a run's summary that is compared; the recipe's own where none is named."""
    direction: Literal["minimize", "maximize"] | None = None
    """Which of two figures is better; the figure's own direction where none is named."""
    pruner: Literal["median", "none"] = "median"
    """median: stop a trial that is worse, on its way, than half of the earlier batches' trials were there."""
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0


def parse_search_file(data: bytes, *, name: str) -> tuple[SearchFile, PlainDocument]:
    """Check a search file. Raises BadInput (`search.file`) naming file, line and field.

    An empty `name` is that of a search which was told without a file: then no line is named.
    """
    document = parse_plain_yaml(data, name=name)
    value = document.value
    if not isinstance(value, dict):
        raise _invalid(f"{document.before()}it must be a mapping with recipe and space")
    if isinstance(value.get("recipe"), str):
        raise BadInput(
            "search.file",
            f"{document.before('recipe')}this is the recipe file of one run, not of a search.",
            hint="Run it with `intramuros train run FILE`, look with `intramuros search RECIPE --vary FIELD=VALUES`, "
            "or put it under recipe: in a file that says under space: what varies.",
        )
    space = value.get("space")
    for field, told in space.items() if isinstance(space, dict) else ():
        if fault := _fault_told(field, told):
            raise _invalid(f"{document.before('space', field)}{fault.text}", hint=fault.hint)
    if wrong := fault_in(SearchFile, value, name="a search file", listed=_LISTED):
        where = document.before(*([wrong.field] if wrong.field else []))
        raise _invalid(f"{where}{wrong.text}", hint=wrong.hint)
    return msgspec.convert(value, SearchFile), document


def combinations(space: dict[str, Dimension]) -> int | None:
    """Return how many different trials there can be; None where a range of fractions has no end of them."""
    count = 1
    for dimension in space.values():
        values = whole_values(dimension)
        if values is None:
            return None
        count *= len(values)
    return count


def whole_values(dimension: Dimension) -> Sequence[Scalar] | None:
    """Return the values that a field can take, in order; None for a range of fractions."""
    if dimension.choices:
        return dimension.choices
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return range(dimension.low, dimension.high + 1)
    return None


def _invalid(fault: str, *, hint: str = "") -> BadInput:
    return BadInput("search.file", f"{fault}.", hint=hint or _LISTED)


def _fault_told(field: str, told: Any) -> FieldFault | None:
    """Return what is wrong with the values that a field may take."""
    if not isinstance(told, dict):
        shown = json.dumps(told, ensure_ascii=False)[:40]
        return FieldFault(field=field, text=f"{field} cannot be {shown}; it takes low and high, or choices", hint="")
    wrong = fault_in(Dimension, told, name="a range", listed=_LISTED)
    text = wrong.text if wrong else _fault(msgspec.convert(told, Dimension))
    return FieldFault(field=field, text=f"{field}: {text}", hint=wrong.hint if wrong else "") if text else None


def _fault(dimension: Dimension) -> str:
    low, high = dimension.low, dimension.high
    if dimension.choices:
        if low is not None or high is not None or dimension.log:
            return "give either choices, or low and high"
        return "choices must differ" if len(set(map(repr, dimension.choices))) < len(dimension.choices) else ""
    if low is None or high is None:
        return "low and high must both be given, or choices"
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return f"low {low} must be below high {high}"
    return "a logarithmic range must be above 0" if dimension.log and low <= 0 else ""
