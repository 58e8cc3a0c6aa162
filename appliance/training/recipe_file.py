"""The recipe file: one YAML document that is the whole of a training run.

    recipe: lora             # the kind, see `appliance.training.recipes.registry`
    base: assistant@1        # its inputs, by the words of that kind
    data: faq@1
    seed: 0                  # optional
    with:                    # optional: fields of the recipe; what is left out has its default
      rank: 16

Knows no model and no data set: what the references mean, a service finds out. Invariant: equal runs have the same
`RunFile`, however their files are written; `canonical_text` writes every default out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.kernel.errors import BadInput
from appliance.kernel.plain_yaml import PlainDocument, parse_plain_yaml, read_plain_yaml
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.registry import RECIPES, fault_of, parse_recipe

_ALWAYS: Final = ("recipe", "seed", "with")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A run as a file describes it. `inputs` are by the names of the job's inputs, `recipe` has every default."""

    kind: str
    inputs: Mapping[str, str]
    recipe: Recipe
    seed: int
    given: Mapping[str, Any] = field(default_factory=dict)
    """the fields that the file itself names"""

    @property
    def parameters(self) -> dict[str, Any]:
        """The recipe as a JSON object, defaults included."""
        found: dict[str, Any] = msgspec.to_builtins(self.recipe)
        return found


def read_recipe_file(file: Path) -> RunFile:
    """Read and check a recipe file. Raises NotFound or BadInput naming the line."""
    return run_of(read_plain_yaml(file))


def parse_recipe_file(data: bytes, *, name: str = "recipe") -> RunFile:
    """Check the bytes of a recipe file. Raises BadInput naming the line."""
    return run_of(parse_plain_yaml(data, name=name))


def run_of(document: PlainDocument) -> RunFile:
    """Check a document, which may be a part of another file. Raises BadInput naming the line."""
    value = document.value
    if not isinstance(value, dict):
        raise _invalid(document, "it must be a mapping with the key recipe")
    name = value.get("recipe")
    if not isinstance(name, str) or name not in RECIPES:
        raise _invalid(document, f"recipe must be one of {', '.join(RECIPES)}", "recipe")
    known = RECIPES[name]
    allowed = (*_ALWAYS, *known.inputs)
    for key in value:
        if key not in allowed:
            raise _invalid(document, f"{key} is not known here; a {name} recipe has {', '.join(allowed)}", key)
    for word in known.inputs:
        if word not in value and word not in known.optional:
            raise _invalid(document, f"a {name} recipe needs {word}")
        if word in value and not (isinstance(value[word], str) and value[word]):
            raise _invalid(document, f"{word} must be a reference such as name@1", word)
    seed = value.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise _invalid(document, "seed must be a whole number", "seed")
    given = value.get("with")
    if given is not None and not isinstance(given, dict):
        raise _invalid(document, "with must be a mapping of recipe fields", "with")
    return RunFile(
        kind=f"train.{name}",
        inputs={known.inputs[word]: value[word] for word in known.inputs if word in value},
        recipe=_recipe(document, name, given or {}),
        seed=seed,
        given=given or {},
    )


def canonical_text(run: RunFile) -> str:
    """Return the file that says everything about a run, defaults included; reading it gives an equal run."""
    import yaml

    name = run.kind.partition(".")[2]
    words = {job_input: word for word, job_input in RECIPES[name].inputs.items()}
    document: dict[str, Any] = {"recipe": name}
    document |= {words[job_input]: ref for job_input, ref in run.inputs.items()}
    document |= {"seed": run.seed, "with": run.parameters}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text


def _recipe(document: PlainDocument, name: str, given: dict[str, Any]) -> Recipe:
    kind = f"train.{name}"
    if (fault := fault_of(kind, given)) is not None:
        where = document.before("with", *([fault.field] if fault.field else []))
        raise BadInput("recipe.file", f"{where}{fault.text}.", hint=fault.hint)
    return parse_recipe(kind, given)


def _invalid(document: PlainDocument, fault: str, *path: str) -> BadInput:
    return BadInput(
        "recipe.file",
        f"{document.before(*path)}{fault}.",
        hint="docs/operators/recipes.md has the fields of each recipe.",
    )
