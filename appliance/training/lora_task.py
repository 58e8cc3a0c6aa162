"""The job `train.lora`: fine-tunes a base model on conversations and merges the adapter into it.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl
    ->  out/ (merged Hugging Face folder) and out/adapter/ (PEFT layout)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.errors import BadInput
from appliance.kernel.events import Metric, Note, Progress
from appliance.training import export
from appliance.training.chat import Encoded, encode_chats
from appliance.training.checkpoint import CheckpointStore
from appliance.training.loop import LoopSettings, Supervision, mean_loss, train
from appliance.training.merge import merge
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.rows import read_rows
from appliance.training.runtime import derive_seed, prepare
from appliance.training.sampler import Batch, ChatSampler, Example, pad
from appliance.training.schedule import Schedule
from appliance.training.summary import summarise
from appliance.weights.loading import load_model

_PROBES = 16
"""Conversations on which the merged model is compared with the adapter."""


def run(workspace: Workspace) -> dict[str, Any]:
    """Fine-tune and merge. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(LoraRecipe, spec.parameters)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    base, tokenizer = _load(workspace.input("base"))
    training = _examples(tokenizer, workspace.input("dataset") / "train.jsonl", recipe)
    if training.too_long:
        workspace.emit(Note(text=f"{training.too_long} conversations exceed max_length and are left out."))
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    sampler = ChatSampler(
        training.examples,
        seed=spec.seed,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        padding=padding,
    )
    adapted = _adapt(base, recipe, seed=spec.seed)
    settings = _settings(recipe, steps=recipe.epochs * sampler.steps_per_epoch, seed=spec.seed)
    adapter_parameters = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    store = CheckpointStore(workspace.checkpoints, fingerprint=spec.run_id)
    result = train(
        adapted, sampler, settings, store, Supervision(emit=workspace.emit, stop_requested=workspace.stop_requested)
    )
    if not result.finished:
        raise Interrupted

    workspace.emit(Progress(phase="merge", fraction=0.98, step=result.steps, steps=settings.steps))
    export.write_adapter(adapted, workspace.output / "adapter", base=spec.inputs["base"].ref)
    merged = merge(adapted, _batches(training.examples[:_PROBES], recipe, padding))
    heldout = encode_chats(
        tokenizer, read_rows(workspace.input("dataset") / "heldout.jsonl"), max_length=recipe.max_length
    )
    summary = summarise(merged.model, vocabulary=len(tokenizer), result=result) | {
        "examples": len(training.examples),
        "too_long": training.too_long,
        "adapter_parameters": adapter_parameters,
        "merge_difference": merged.difference,
    }
    if heldout.examples:
        loss = mean_loss(merged.model, _batches(heldout.examples, recipe, padding))
        summary["heldout_loss"] = round(loss, 6)
        workspace.emit(Metric(name="heldout_loss", value=loss))
    export.write_model(merged.model, workspace.output)
    export.copy_tokenizer(workspace.input("base"), workspace.output)
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=settings.steps, loss=result.loss))
    return summary | {"job_seconds": round(time.monotonic() - started, 3)}


def _load(folder: Path) -> tuple[Any, Any]:
    loaded = load_model(folder)
    for weight in loaded.model.parameters():
        # Out of the mapped file into memory of our own alignment: it decides the last bit of every product.
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)
    return loaded.model, loaded.tokenizer


def _examples(tokenizer: Any, file: Path, recipe: LoraRecipe) -> Encoded:
    encoded = encode_chats(tokenizer, read_rows(file), max_length=recipe.max_length)
    if not encoded.examples:
        raise BadInput(
            "training.dataset_empty",
            f"The data set has no conversation of at most {recipe.max_length} tokens.",
            hint="Use a data set of the form chat, or a larger max_length.",
        )
    return encoded


def _adapt(base: Any, recipe: LoraRecipe, *, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(derive_seed(seed, "adapter"))
    return get_peft_model(
        base,
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def _settings(recipe: LoraRecipe, *, steps: int, seed: int) -> LoopSettings:
    return LoopSettings(
        steps=steps,
        seed=seed,
        schedule=Schedule(
            peak=recipe.learning_rate,
            steps=steps,
            warmup_fraction=recipe.warmup_fraction,
            final_fraction=recipe.final_learning_rate_fraction,
            shape=recipe.schedule,
        ),
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )


def _batches(examples: Sequence[Example], recipe: LoraRecipe, padding: int) -> list[Batch]:
    return [
        pad(examples[start : start + recipe.batch_size], padding=padding)
        for start in range(0, len(examples), recipe.batch_size)
    ]
