"""The job `train.dpo`: teaches a base model which of two answers is preferred.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl (messages, chosen, rejected)
    ->  out/ (Hugging Face folder), and out/adapter/ (PEFT layout) unless every weight was trained
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress
from appliance.training import adapters, export
from appliance.training.base_model import Base, load_base
from appliance.training.chat import EncodedPreferences, Preference, encode_preferences
from appliance.training.fit_task import fit_in, shared_fingerprint
from appliance.training.fitting import Work
from appliance.training.memory_watch import MemoryWatch
from appliance.training.merge import merge
from appliance.training.plan import shape_of_folder
from appliance.training.preference import (
    DirectPreference,
    PairBatch,
    Referenced,
    accuracy,
    collate,
    referenced,
)
from appliance.training.recipes.dpo import DpoRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.rows import read_rows, rows_size
from appliance.training.runtime import prepare
from appliance.training.sampler import BucketSampler, in_batches
from appliance.training.set_aside import divided
from appliance.training.summary import heldout_figures, summarise

_PROBES = 8
"""Pairs on whose answers the merged model is compared with the adapter."""


def run(workspace: Workspace) -> dict[str, Any]:
    """Optimise preferences. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(DpoRecipe, spec.parameters)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    base = load_base(
        workspace.input("base"),
        chat_template=recipe.chat_template,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    training, heldout = _pairs(workspace, base, recipe)
    learned, aside = divided(training.pairs, recipe, seed=spec.seed)
    longest = max(pair.length for pair in (*training.pairs, *heldout.pairs))
    load = replace(recipe.load(), sequence_length=longest, data=rows_size(workspace.input("dataset")))
    watch = MemoryWatch(shape_of_folder(base.folder), load, workspace.emit)
    known = iter(_with_reference(workspace, base, (*learned, *aside, *heldout.pairs), recipe))
    rows, validation, judging = ([next(known) for _pair in part] for part in (learned, aside, heldout.pairs))

    # Before its first step an adapter changes nothing, so the base's figures are the reference in either case.
    model = adapters.adapt(base.model, adapters.shape_of(recipe), seed=spec.seed) if recipe.rank else base.model
    together = partial(collate, padding=base.padding)
    sampler = BucketSampler(
        rows,
        length=lambda row: row.pair.length,
        collate=together,
        seed=spec.seed,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
    )
    work = Work(
        model=model,
        sampler=sampler,
        objective=DirectPreference(beta=recipe.beta, label_smoothing=recipe.label_smoothing),
        validation=_in_batches(validation, recipe.batch_size, together),
        heldout=_in_batches(judging, recipe.batch_size, together),
        steps=recipe.epochs * sampler.steps_per_epoch,
    )
    result = fit_in(workspace, work, recipe, watch)
    summary: dict[str, Any] = {"examples": len(learned), "too_long": training.too_long} | watch.figures()
    workspace.emit(Progress(phase="write", fraction=0.98, step=result.steps, steps=work.steps))
    if recipe.rank:
        export.write_adapter(model, workspace.output / "adapter", base=spec.inputs["base"].ref)
        summary["adapter_parameters"] = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        probes = [pair.chosen for pair in training.pairs[:_PROBES]]
        merged = merge(model, in_batches(probes, batch_size=recipe.batch_size, padding=base.padding))
        model = merged.model
        summary["merge_difference"] = merged.difference
    summary |= summarise(model, vocabulary=len(base.tokenizer), result=result)
    summary |= heldout_figures(model, work.heldout, work.objective, workspace.emit)
    if work.heldout:
        summary["heldout_accuracy"] = round(accuracy(model, work.heldout), 6)
        workspace.emit(Metric(name="heldout_accuracy", value=summary["heldout_accuracy"]))
    export.write_model(model, workspace.output)
    base.write_tokenizer(workspace.output)
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=work.steps, loss=result.loss))
    return summary | {"job_seconds": round(time.monotonic() - started, 3)}


def _pairs(workspace: Workspace, base: Base, recipe: DpoRecipe) -> tuple[EncodedPreferences, EncodedPreferences]:
    folder = workspace.input("dataset")
    training, heldout = (
        encode_preferences(base.tokenizer, read_rows(folder / f"{part}.jsonl"), max_length=recipe.max_length)
        for part in ("train", "heldout")
    )
    if not training.pairs:
        raise BadInput(
            "training.no_preferences",
            f"The data set has no pair of answers of at most {recipe.max_length} tokens.",
            hint="Use a data set of the form preference, or a larger max_length.",
        )
    if training.too_long:
        workspace.emit(Note(text=f"{training.too_long} pairs exceed max_length and are left out."))
    return training, heldout


def _with_reference(
    workspace: Workspace, base: Base, pairs: Sequence[Preference], recipe: DpoRecipe
) -> list[Referenced]:
    return referenced(
        base.model,
        pairs,
        batch_size=recipe.batch_size,
        padding=base.padding,
        directory=workspace.shared,
        fingerprint=shared_fingerprint(workspace, "base"),
        on_batch=lambda _share: workspace.emit(Progress(phase="reference")),
    )


def _in_batches(rows: Sequence[Referenced], batch_size: int, together: Any) -> list[PairBatch]:
    return [together(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
