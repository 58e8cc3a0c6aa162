"""Tells which kinds of training there are, what they take, and every field of their recipes."""

from __future__ import annotations

from appliance.api import types as t
from appliance.services.context import Context
from appliance.services.jobs import DATASET_INPUTS
from appliance.training.recipes.registry import RECIPES, RecipeKind
from appliance.training.recipes.schema import RecipeField, fields_of


def list_recipes(ctx: Context) -> tuple[t.RecipeView, ...]:
    """Return every recipe in the order of the registry."""
    ctx.authorise("read", "recipes")
    return tuple(view_of(name, kind) for name, kind in RECIPES.items())


def view_of(name: str, kind: RecipeKind) -> t.RecipeView:
    """Return one recipe as it is told."""
    return t.RecipeView(
        name=name,
        kind=f"train.{name}",
        purpose=kind.purpose,
        inputs=tuple(
            t.RecipeInput(
                word=word,
                name=given,
                required=word not in kind.optional,
                forms=kind.learns_from if given in DATASET_INPUTS else (),
                does=kind.base if given == "base" else "",
            )
            for word, given in kind.inputs.items()
        ),
        fields=tuple(map(_field, fields_of(kind.form))),
    )


def _field(field: RecipeField) -> t.RecipeField:
    return t.RecipeField(
        name=field.name,
        type=field.type,
        default=field.default,
        meaning=field.meaning,
        minimum=field.minimum,
        maximum=field.maximum,
        above=field.above,
        below=field.below,
        choices=field.choices,
    )
