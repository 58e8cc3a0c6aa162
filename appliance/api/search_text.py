"""Writes the file of a search that was told in words: a recipe file, and which of its fields may take which values.

Both clients say a range as `learning_rate=1e-4..1e-2:log` and choices as `rank=4,8,16`. What a field may be, the
appliance judges.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from appliance.kernel.errors import BadInput

_LOG = ":log"


def search_text(
    recipe: str,
    vary: Sequence[str],
    *,
    trials: int,
    batch: int,
    fixed: Collection[str] = (),
    metric: str | None = None,
    direction: str | None = None,
) -> str:
    """Return the search file of a recipe file's text. Raises BadInput (`search.vary`) for words that say no values.

    `fixed` names the fields that were given one value; none of them can be varied as well. Without `metric` and
    `direction` the appliance chooses those of the recipe.
    """
    # YAML is loaded when it is first needed: the console's first paint does not wait for it.
    from appliance.kernel.plain_yaml import parse_plain_yaml

    space: dict[str, dict[str, Any]] = {}
    for text in vary:
        field, dimension = _dimension(text)
        if field in space:
            raise _refused(f"{field} is varied twice.", hint="Write all its values in one place.")
        if field in fixed:
            raise _refused(f"{field} is both fixed and varied.", hint="Leave one of the two out.")
        space[field] = dimension
    document = {
        "recipe": parse_plain_yaml(recipe.encode(), name="recipe").value,
        "space": space,
        "trials": trials,
        "batch": batch,
        **({"metric": metric} if metric else {}),
        **({"direction": direction} if direction else {}),
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _dimension(text: str) -> tuple[str, dict[str, Any]]:
    field, _, told = text.partition("=")
    low, dots, high = told.removesuffix(_LOG).partition("..")
    if field and dots and low and high:
        first, last = _end(text, low), _end(text, high)
        if first >= last:
            down = f"{text} goes down: {low} is not below {high}."
            turned = f"{field}={high}..{low}{_LOG if told.endswith(_LOG) else ''}"
            one = "Set one value with --set, or write choices."
            raise _refused(down, hint=one if first == last else f"Write {turned}.")
        return field, {"low": first, "high": last} | ({"log": True} if told.endswith(_LOG) else {})
    choices = [part for part in told.split(",") if part]
    if field and not dots and choices:
        return field, {"choices": [_value(part) for part in choices]}
    raise BadInput(
        "search.vary",
        f"{text!r} does not say which values a field may take.",
        hint="Write learning_rate=1e-4..1e-2:log, or epochs=2..6, or rank=4,8,16.",
    )


def _end(text: str, told: str) -> float:
    """Return one end of a range. Raises BadInput for what is no number."""
    value = _value(told)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    hint = "A range has two numbers, such as 4..16; words are choices, such as cosine,linear."
    if ":" in told:
        hint = "The one word behind a range is :log."
    elif "," in told:
        hint = "Write the decimal sign as a point."
    raise _refused(f"{text} is no range: {told!r} is no number.", hint=hint)


def _refused(message: str, *, hint: str) -> BadInput:
    return BadInput("search.vary", message, hint=hint)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text
