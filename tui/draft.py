"""A training run being filled in: the recipe's inputs, fields and seed, as texts that were checked. Pure.

It knows a recipe only as the control API tells it. What does not fit together is refused by the appliance, in its plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.api.types import RecipeField, RecipeView, SubmitJob
from appliance.kernel.errors import BadInput
from tui.deed import quoted

SEED = "seed"
DEFAULT = ("", "default")
"""What one types to go back to the default."""
_YES_NO = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A run that is not queued yet. `given` holds what differs from the defaults."""

    recipe: RecipeView
    inputs: Mapping[str, str] = field(default_factory=dict)
    """word -> ref"""
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that can be filled in: inputs, seed, fields."""
        return (*(one.word for one in self.recipe.inputs), SEED, *(one.name for one in self.recipe.fields))

    @property
    def missing(self) -> tuple[str, ...]:
        """Inputs that are still needed."""
        return tuple(one.word for one in self.recipe.inputs if one.required and not self.inputs.get(one.word))

    def is_input(self, name: str) -> bool:
        """Tell whether it is a model or a data set."""
        return any(one.word == name for one in self.recipe.inputs)

    def field_of(self, name: str) -> RecipeField | None:
        """The field of that name; None for inputs and the seed."""
        return next((one for one in self.recipe.fields if one.name == name), None)

    def value(self, name: str) -> str:
        """What stands there, as one would type it."""
        if self.is_input(name):
            return self.inputs.get(name, "")
        if name == SEED:
            return str(self.seed)
        known = self.field_of(name)
        return typed(self.given.get(name, known.default if known else ""))

    def changed(self, name: str, text: str) -> Draft:
        """Return it with another value. Raises BadInput for a text that the field does not take."""
        text = text.strip()
        known = self.field_of(name)
        if self.is_input(name):
            return replace(self, inputs={**self.inputs, name: text})
        if known is None:
            return replace(self, seed=0 if text in DEFAULT else _whole(SEED, text))
        rest = {key: value for key, value in self.given.items() if key != name}
        value = known.default if text in DEFAULT else parsed(known, text)
        return replace(self, given=rest if value == known.default else {**rest, name: value})

    def body(self) -> SubmitJob:
        """Return what is sent. Raises BadInput while an input is missing."""
        if self.missing:
            raise BadInput(
                "console.input",
                f"{self.recipe.name} needs {' and '.join(self.missing)}.",
                hint="Go back and choose what is needed.",
            )
        names = {one.word: one.name for one in self.recipe.inputs}
        inputs = {names[word]: ref for word, ref in self.inputs.items() if ref}
        return SubmitJob(kind=self.recipe.kind, inputs=inputs, parameters=dict(self.given), seed=self.seed)

    def command(self, verb: str = "train") -> str:
        """The CLI line that starts the same run, or a campaign of such runs."""
        words = [f"--{one.word} {quoted(self.inputs.get(one.word) or one.word.upper())}" for one in self.shown_inputs]
        words += [f"--set {quoted(f'{name}={_on_line(value)}')}" for name, value in self.given.items()]
        words += [f"--seed {self.seed}"] if self.seed else []
        return " ".join((f"intramuros {verb}", self.recipe.name, *words))

    @property
    def shown_inputs(self) -> tuple[Any, ...]:
        """Inputs that are needed or given."""
        return tuple(one for one in self.recipe.inputs if one.required or self.inputs.get(one.word))


def typed(value: Any) -> str:
    """A value as one types it: yes, 0.001, q_proj v_proj."""
    match value:
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return " ".join(map(str, value))
        case None:
            return ""
    return str(value)


def parsed(known: RecipeField, text: str) -> Any:
    """Read a text by the field's type and range. Raises BadInput."""
    match known.type:
        case "int":
            return _within(known, _whole(known.name, text))
        case "float":
            return _within(known, _number(known.name, text))
        case "bool":
            if text.lower() not in _YES_NO:
                raise _refused(known.name, text, "yes or no")
            return _YES_NO[text.lower()]
        case "choice":
            if text not in known.choices:
                raise _refused(known.name, text, ", ".join(known.choices))
            return text
        case "list":
            return [_loose(part) for part in text.replace(",", " ").split()]
        case "any":
            return _loose(text)
    return text


def _loose(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _refused(name, text, "a whole number") from None


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _refused(name, text, "a number") from None
    if not math.isfinite(value):
        raise _refused(name, text, "a number")
    return value


def _within(known: RecipeField, value: float) -> float:
    fits = (
        (known.minimum is None or value >= known.minimum)
        and (known.maximum is None or value <= known.maximum)
        and (known.above is None or value > known.above)
        and (known.below is None or value < known.below)
    )
    if not fits:
        raise _refused(known.name, str(value), known.limits)
    return value


def _refused(name: str, text: str, wanted: str) -> BadInput:
    return BadInput("console.field", f"{name} cannot be {text!r}.", hint=f"It takes {wanted}.")


def _on_line(value: Any) -> str:
    # The command line reads a value as JSON where it can: a text that looks like it is put in quotes.
    return value if isinstance(value, str) and _loose(value) == value else json.dumps(value)
