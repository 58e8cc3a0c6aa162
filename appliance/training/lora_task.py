"""The job `train.lora`: fine-tunes a base model on conversations and merges the adapter into it.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl
    ->  out/ (merged Hugging Face folder) and out/adapter/ (PEFT layout)
"""

from __future__ import annotations

import time
from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Progress
from appliance.training import adapters, export
from appliance.training.base_model import Base, load_base
from appliance.training.conversations import Conversations, read_conversations
from appliance.training.fit_task import fit_in
from appliance.training.fitting import next_tokens
from appliance.training.memory_watch import MemoryWatch
from appliance.training.merge import Merged, merge
from appliance.training.plan import shape_of_folder
from appliance.training.recipes.lora import LoraRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import prepare
from appliance.training.sampler import in_batches
from appliance.training.summary import heldout_figures, summarise

_PROBES = 16
"""Sequences on which the merged model is compared with the adapter."""


def run(workspace: Workspace) -> dict[str, Any]:
    """Fine-tune and merge. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(LoraRecipe, spec.parameters)
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    base = load_base(
        workspace.input("base"),
        chat_template=recipe.chat_template,
        gradient_checkpointing=recipe.gradient_checkpointing,
        held_in=recipe.base_precision,
    )
    rows = read_conversations(base.tokenizer, workspace.input("dataset"), recipe, seed=spec.seed, emit=workspace.emit)
    watch = MemoryWatch(shape_of_folder(base.folder), rows.load_of(recipe), workspace.emit)
    adapted = adapters.adapt(base.model, adapters.shape_of(recipe), seed=spec.seed)
    adapter_parameters = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    work = next_tokens(adapted, rows, recipe, epochs=recipe.epochs, seed=spec.seed, padding=base.padding)
    result = fit_in(workspace, work, recipe, watch)
    memory = watch.figures()

    workspace.emit(Progress(phase="merge", fraction=0.98, step=result.steps, steps=work.steps))
    export.write_adapter(adapted, workspace.output / "adapter", base=spec.inputs["base"].ref)
    merged = _merge(base, adapted, rows, recipe)
    summary = summarise(merged.model, vocabulary=len(base.tokenizer), result=result) | rows.figures() | memory
    summary |= {"adapter_parameters": adapter_parameters, "merge_difference": merged.difference}
    summary |= heldout_figures(merged.model, work.heldout, work.objective, workspace.emit)
    export.write_model(merged.model, workspace.output)
    base.write_tokenizer(workspace.output)
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=work.steps, loss=result.loss))
    return summary | {"job_seconds": round(time.monotonic() - started, 3)}


def _merge(base: Base, adapted: Any, rows: Conversations, recipe: LoraRecipe) -> Merged:
    """Merge into the base as it was given, whatever it was held in while learning."""
    exact = adapted
    if recipe.base_precision != "float32":
        exact = adapters.take_over(adapted, base.folder, adapters.shape_of(recipe))
    return merge(exact, in_batches(rows.training[:_PROBES], batch_size=recipe.batch_size, padding=base.padding))
