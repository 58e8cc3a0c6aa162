"""`make docs`: write docs/operators/recipes.md from the recipes themselves, so that the two stay together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from appliance.api import types as t
from appliance.services.recipes import view_of
from appliance.training.recipes.registry import RECIPES, RecipeKind
from tools.documented_fields import Field, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operators" / "recipes.md"
_TOP = """# Recipes: what you may choose about a run

Written by `make docs` from `appliance/training/recipes/`. Do not edit.

A recipe file is the whole of a run; `intramuros train plan FILE` prints what it leaves to defaults and what it needs,
`intramuros train run FILE` runs it:

    recipe: lora             # one of the names below
    base: assistant@1        # the recipe's inputs
    data: faq@1
    seed: 0
    with:                    # its fields
      rank: 16

The same from flags: every verb `intramuros train NAME` takes its inputs as options, `--set FIELD=VALUE` for any field,
`--seed N`, and `--plan`. What you leave out has its default; an unknown field or a value out of range is refused before
anything starts, by the line of the file, and so is a run that would not fit in memory.

`intramuros job show ID` prints the whole recipe of a run, defaults included. It is hashed, together with the
inputs' digests, the thread count, the code, the library versions and the processor's flags, into the **run id**: an
equal run is not repeated, its result is returned. A run with the same id gives the same bytes.

A run saves sealed checkpoints. After a power cut, a `kill -9` or `intramuros job cancel`, it goes on from the
newest valid one, and ends with the same bytes as if nothing had happened. How to choose is told in
[training](training.md).
"""


def fields(recipe: t.RecipeView) -> list[Field]:
    """Return the rows of a recipe's table: what the form of the console shows too."""
    return [
        Field(
            name=field.name,
            type=field.type,
            limits=", ".join(field.choices) or field.limits,
            default=json.dumps(field.default),
            meaning=field.meaning.replace("|", "\\|"),
        )
        for field in recipe.fields
    ]


def page() -> str:
    """Return the page as it should be."""
    parts = [_TOP]
    for name, kind in RECIPES.items():
        parts += [f"## {name}", "", kind.purpose, "", _inputs(kind), "", *table(fields(view_of(name, kind))), ""]
    return "\n".join(parts)


def _inputs(kind: RecipeKind) -> str:
    words = [f"`{word}`{' (optional)' if word in kind.optional else ''}" for word in kind.inputs]
    return f"Inputs: {', '.join(words)}."


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
