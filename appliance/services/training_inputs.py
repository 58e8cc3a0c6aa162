"""Refuses a run before it is queued whose inputs cannot serve it: the wrong kind of model, layers that are not there,
no held-out rows, labels that cannot be learnt.

Reads headers and counts alone. What only the rows tell, the job finds out before it computes anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.catalog.purpose import kind_of
from appliance.jobs.spec import InputRef, JobKind
from appliance.kernel.errors import BadInput
from appliance.services.context import Context
from appliance.services.records import find_dataset
from appliance.training.encoders.labelled import require_learnable
from appliance.training.recipes.base import Recipe
from appliance.training.recipes.dpo import DpoRecipe
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.registry import recipe_kind
from appliance.training.weight_headers import layers_in
from appliance.weights.families import family_of_folder, require_encoder
from appliance.weights.head import ARCHITECTURE, has_head

_OUTPUT: Final = "lm_head"
"""the output layer, whose matrix may stand in the file as that of the input alone"""


def require_trainable(
    ctx: Context, kind: JobKind, inputs: Mapping[str, InputRef], recipe: Recipe, *, folded: bool = False
) -> None:
    """Raise BadInput where a recipe cannot learn from these inputs.

    `folded`: the held-out rows are a part of the training rows, as in a cross-validation.
    """
    known = recipe_kind(kind)
    if known.base and "base" in inputs:
        _require_base(ctx, kind, inputs["base"], recipe)
    given = inputs.get("dataset")
    if given is None:
        return
    with ctx.appliance.database.read() as connection:
        summary: Mapping[str, Any] = find_dataset(connection, given.ref).summary
    if known.judged and not folded and not summary["heldout_rows"]:
        raise BadInput(
            "training.no_heldout",
            f"{given.ref} has no held-out rows, so nobody could say how good the result of {kind} is.",
            hint=f"Hold some out: `intramuros dataset split {given.ref} --train 80 --heldout 20`.",
        )
    if kind == JobKind.TRAIN_CLASSIFY:
        _require_labels(given.ref, summary)


def require_evaluable(ctx: Context, inputs: Mapping[str, InputRef]) -> None:
    """Raise BadInput where a model cannot answer the rows of a data set."""
    if "dataset" not in inputs:
        return
    model, data = inputs["model"], inputs["dataset"]
    with ctx.appliance.database.read() as connection:
        form = find_dataset(connection, data.ref).summary["form"]
    with _folder(ctx, model) as folder:
        made_for, family = _made_for(folder), family_of_folder(folder)
    if made_for == "generate" or (form == "classification" and made_for == "classify"):
        return
    if form == "classification":
        raise BadInput(
            "model.no_classifier",
            f"{model.ref} is an encoder ({family}) without a classifier's head, so it gives no labels.",
            hint=f"Train one with `intramuros train classify --base {model.ref}`, and evaluate that.",
        )
    raise BadInput(
        "model.no_generator",
        f"{model.ref} is an encoder ({family}) and writes nothing; {data.ref} has {form} rows, which ask for text.",
        hint="Evaluate a classifier on a data set of the form classification, and a model that generates on this one.",
    )


def _require_base(ctx: Context, kind: JobKind, base: InputRef, recipe: Recipe) -> None:
    with _folder(ctx, base) as folder:
        family = family_of_folder(folder)
        if recipe_kind(kind).base == "encode":
            require_encoder(family)
            return
        if _made_for(folder) != "generate":
            raise BadInput(
                "model.no_generator",
                f"{base.ref} is an encoder ({family}) and writes nothing; {kind} needs a model that generates.",
                hint="Name one as base, such as a Llama; encoders learn by `train classify` and `train tag`.",
            )
        if isinstance(recipe, LoraRecipe | DpoRecipe):
            _require_layers(base.ref, folder, recipe.targets)


def _require_layers(ref: str, folder: Path, targets: tuple[str, ...]) -> None:
    try:
        there = layers_in(folder) if targets else frozenset[str]()
    except (OSError, ValueError, KeyError, TypeError):
        return  # the plan refuses such a header in words of its own
    if missing := sorted(set(targets) - there - {_OUTPUT}):
        raise BadInput(
            "training.targets",
            f"{ref} has no layer {', '.join(missing)}.",
            hint=f"targets may name {', '.join(sorted(there))}.",
        )


def _require_labels(ref: str, summary: Mapping[str, Any]) -> None:
    """Judge by the counts that an import kept: every label up to 200, and how many there are beyond."""
    figures = summary.get("statistics", {}).get("train", {})
    labels, rows = figures.get("labels", 0), figures.get("rows", 0)
    table = [entry["train"] for entry in summary.get("labels", ()) if entry["train"]]
    if not labels or not table:
        return
    unlisted, their_rows = labels - len(table), rows - sum(table)
    # Of n labels with m rows in all, at least 2n - m have one row.
    single = table.count(1) + max(0, 2 * unlisted - their_rows)
    require_learnable(rows=rows, labels=labels, single=single, name=ref)


def _made_for(folder: Path) -> str:
    """Return what a model's folder is for, as the registry says it of a description."""
    try:
        named = msgspec.json.decode((folder / "config.json").read_bytes()).get("architectures")
    except (OSError, msgspec.DecodeError, AttributeError):
        named = None
    head = str(named[0]) if isinstance(named, list) and len(named) == 1 else ""
    head = ARCHITECTURE if has_head(folder) else head
    return kind_of({"architecture": family_of_folder(folder), "head": head})


@contextmanager
def _folder(ctx: Context, model: InputRef) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=ctx.appliance.paths.run) as directory:
        folder = Path(directory) / "model"
        ctx.appliance.blobs.link_folder(model.files, folder)
        yield folder
