"""The kinds of training: for each its recipe, its inputs and one line of purpose.

The one place where a kind is made known: queueing, files, the command line, the planner and the documentation read it.
`inputs` maps the word that a person writes (`--data`, `data:`) to the name of the job's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from appliance.kernel.errors import BadInput
from appliance.kernel.field_faults import FieldFault, fault_in
from appliance.training.recipes.base import Measured, Recipe
from appliance.training.recipes.classify import ClassifyRecipe
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.recipes.dpo import DpoRecipe
from appliance.training.recipes.full import FullRecipe
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.pretrain import PretrainRecipe
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.recipes.seed import SeedRecipe
from appliance.training.recipes.tag import TagRecipe

R = TypeVar("R", bound=Recipe)

_ON_CORPUS = {"corpus": "corpus"}
_ON_DATA = {"base": "base", "data": "dataset"}
_ON_BASE = {"base": "base", "corpus": "corpus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeKind:
    """One kind of training. `optional` are the words of `inputs` that may be left out, `learns_from` forms of rows.

    `figure` is what tells two of its runs apart, and `figures` where that depends on the form of the rows.
    `base` is what its base model must do: generate, encode, or either (empty). `judged` says that it is measured on
    held-out rows, and ends without them.
    """

    form: type[Recipe]
    inputs: Mapping[str, str]
    learns_from: tuple[str, ...]
    purpose: str
    optional: frozenset[str] = field(default_factory=frozenset)
    figure: str = "heldout_loss"
    figures: Mapping[str, str] = field(default_factory=dict)
    base: Literal["", "generate", "encode"] = ""
    judged: bool = False

    @property
    def required_inputs(self) -> frozenset[str]:
        """Names of the job's inputs that must be given."""
        return frozenset(name for word, name in self.inputs.items() if word not in self.optional)

    @property
    def optional_inputs(self) -> frozenset[str]:
        """Names of the job's inputs that may be left out."""
        return frozenset(name for word, name in self.inputs.items() if word in self.optional)


RECIPES: Mapping[str, RecipeKind] = {
    "seed": RecipeKind(
        form=SeedRecipe,
        inputs={"corpus": "corpus"},
        learns_from=("text", "chat"),
        purpose="A small Llama and its byte-level BPE tokenizer, from nothing.",
        figure="final_loss",
    ),
    "lora": RecipeKind(
        form=LoraRecipe,
        inputs=_ON_DATA,
        learns_from=("chat", "completion"),
        purpose="Low-rank adapters on a base model, merged into it.",
        base="generate",
    ),
    "full": RecipeKind(
        form=FullRecipe,
        inputs=_ON_DATA,
        learns_from=("chat", "completion"),
        purpose="Every weight of a base model, on conversations or completions.",
        base="generate",
    ),
    "pretrain": RecipeKind(
        form=PretrainRecipe,
        inputs=_ON_BASE,
        learns_from=("text",),
        purpose="Every weight of a base model, on text.",
        base="generate",
    ),
    "dpo": RecipeKind(
        form=DpoRecipe,
        inputs=_ON_DATA,
        learns_from=("preference",),
        purpose="Which of two answers is preferred, from pairs.",
        base="generate",
    ),
    "classify": RecipeKind(
        form=ClassifyRecipe,
        inputs=_ON_DATA,
        learns_from=("classification", "chat"),
        purpose="A text classifier on an encoder: a regression on its vectors, then the whole encoder if it helps.",
        figure="accuracy",
        base="encode",
        judged=True,
    ),
    "tag": RecipeKind(
        form=TagRecipe,
        inputs=_ON_DATA,
        learns_from=("tags",),
        purpose="An encoder that marks spans of a text, such as names.",
        figure="f1",
        base="encode",
        judged=True,
    ),
    "distil": RecipeKind(
        form=DistilRecipe,
        inputs={"teacher": "teacher", "base": "base", "data": "dataset"},
        learns_from=("chat", "classification"),
        purpose="A smaller model that learns to answer as its teacher does.",
        figure="perplexity",
        figures={"classification": "accuracy"},
        optional=frozenset({"base"}),
        judged=True,
    ),
    "prune": RecipeKind(
        form=PruneRecipe,
        inputs=_ON_DATA,
        learns_from=("chat", "classification"),
        purpose="A model made smaller by taking out layers, key-value groups or feed-forward channels.",
        figure="perplexity",
        figures={"classification": "accuracy"},
        judged=True,
    ),
}
"""Name of a recipe -> what it is. The job kind is `train.NAME`."""


def recipe_kind(kind: str) -> RecipeKind:
    """Return the kind of a job (`train.lora`). Raises BadInput (`recipe.invalid`)."""
    area, _, name = kind.partition(".")
    if area != "train" or name not in RECIPES:
        raise BadInput("recipe.invalid", f"{kind} is not a kind of training.", hint=f"Use one of {_listed()}.")
    return RECIPES[name]


def figure_of(kind: str, recipe: Recipe, *, form: str) -> str:
    """Return the figure by which runs of a recipe on rows of a form are compared where nothing else is said.

    That of the rows set aside, where the recipe sets some aside: held-out rows are then left to judge the result.
    """
    found = recipe_kind(kind)
    figure = found.figures.get(form, found.figure)
    aside = isinstance(recipe, Measured) and recipe.evaluate_every
    return "best_validation_loss" if figure == "heldout_loss" and aside else figure


def more_is_better(figure: str) -> bool:
    """Tell whether a run with a higher figure of this name is the better one."""
    return figure.endswith(("accuracy", "f1", "precision", "recall", "cosine_to_whole"))


def parse_recipe(kind: str, parameters: Mapping[str, Any]) -> Recipe:
    """Return the validated recipe of a job kind. Raises BadInput (`recipe.invalid`) naming the field."""
    return _parse(kind, recipe_kind(kind).form, parameters)


def recipe_of(form: type[R], parameters: Mapping[str, Any]) -> R:
    """Return a job's recipe in the form that its task knows. Raises BadInput (`recipe.invalid`) naming the field."""
    kind = next(f"train.{name}" for name, known in RECIPES.items() if known.form is form)
    return _parse(kind, form, parameters)


def fault_of(kind: str, parameters: Mapping[str, Any]) -> FieldFault | None:
    """Return what is wrong with a recipe, field by field and then together; None for a valid one.

    Raises BadInput (`recipe.invalid`) for a kind that is none.
    """
    return _fault(kind, recipe_kind(kind).form, parameters)


def _parse(kind: str, form: type[R], parameters: Mapping[str, Any]) -> R:
    fault = _fault(kind, form, parameters)
    if fault is not None:
        raise BadInput("recipe.invalid", f"The recipe for {kind} is not valid: {fault.text}.", hint=fault.hint)
    return msgspec.convert(dict(parameters), form)


def _fault(kind: str, form: type[Recipe], parameters: Mapping[str, Any]) -> FieldFault | None:
    name = kind.partition(".")[2]
    listed = f"`intramuros train recipes {name}` lists its fields."
    found = fault_in(form, parameters, name=name, listed=listed)
    if found is not None:
        return found
    together = msgspec.convert(dict(parameters), form).fault()
    if not together:
        return None
    named = next((key for key in parameters if key in together.split()), "")
    return FieldFault(field=named, text=together, hint=f"Change one of them; {listed}", alone=False)


def _listed() -> str:
    return ", ".join(f"train.{name}" for name in RECIPES)
