"""Writes the file of a search that was told in words: a recipe file, and which of its fields may take which values.

Both clients say a range as `learning_rate=1e-4..1e-2:log` and choices as `rank=4,8,16`. What a field may be, the
appliance judges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from appliance.kernel.errors import BadInput

_LOG = ":log"


def search_text(
    recipe: str,
    vary: Sequence[str],
    *,
    trials: int,
    batch: int,
    metric: str | None = None,
    direction: str | None = None,
) -> str:
    """Return the search file of a recipe file's text. Raises BadInput (`search.vary`) for words that say no values.

    Without `metric` and `direction` the appliance chooses those of the recipe.
    """
    # YAML is loaded when it is first needed: the console's first paint does not wait for it.
    from appliance.kernel.plain_yaml import parse_plain_yaml

    document = {
        "recipe": parse_plain_yaml(recipe.encode(), name="recipe").value,
        "space": dict(_dimension(text) for text in vary),
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
        return field, {"low": _value(low), "high": _value(high)} | ({"log": True} if told.endswith(_LOG) else {})
    choices = [part for part in told.split(",") if part]
    if field and not dots and choices:
        return field, {"choices": [_value(part) for part in choices]}
    raise BadInput(
        "search.vary",
        f"{text!r} does not say which values a field may take.",
        hint="Write learning_rate=1e-4..1e-2:log, or epochs=2..6, or rank=4,8,16.",
    )


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text
