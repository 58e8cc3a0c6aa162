"""`make docs`: write docs/operators/recipes.md from the recipes themselves, so that the two stay together."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.documented_fields import Field, fields_of, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operators" / "recipes.md"
_SOURCE = ROOT / "appliance" / "training" / "recipe.py"
_TOP = """# Recipes: what you may choose about a run

Written by `make docs` from `appliance/training/recipe.py`. Do not edit.

Every verb that trains takes `--set FIELD=VALUE` for any field below, and `--seed N`. What you leave out has its
default; an unknown field or a value out of range is refused before anything starts, and so is a run that would not
fit in memory.

`intramuros job show ID` prints the whole recipe of a run, defaults included. It is hashed, together with the
inputs' digests, the thread count, the code, the library versions and the processor's flags, into the **run id**: an
equal run is not repeated, its result is returned. A run with the same id gives the same bytes.

A run saves sealed checkpoints. After a power cut, a `kill -9` or `intramuros job cancel`, it goes on from the
newest valid one, and ends with the same bytes as if nothing had happened.
"""
_SECTIONS = (
    ("SeedRecipe", "`intramuros train seed`", "A small Llama and its byte-level BPE tokenizer, from nothing."),
    ("LoraRecipe", "`intramuros train lora`", "Low-rank adapters on a base model; the loss counts answers only."),
)


def fields(name: str) -> list[Field]:
    """Return the fields of a recipe, those it inherits after its own."""
    own = fields_of(_SOURCE, name)
    inherited = {field.name: field for field in fields_of(_SOURCE, "_Recipe")}
    explained = [
        field if field.meaning or field.name not in inherited else _with_meaning(field, inherited[field.name].meaning)
        for field in own
    ]
    return [*explained, *(field for key, field in inherited.items() if key not in {item.name for item in own})]


def page() -> str:
    """Return the page as it should be."""
    parts = [_TOP]
    for name, title, purpose in _SECTIONS:
        parts += [f"## {title}", "", purpose, "", *table(fields(name)), ""]
    return "\n".join(parts)


def _with_meaning(field: Field, meaning: str) -> Field:
    return Field(name=field.name, type=field.type, limits=field.limits, default=field.default, meaning=meaning)


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
