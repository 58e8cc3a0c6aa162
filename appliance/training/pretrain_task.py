"""The job `train.pretrain`: a base model goes on reading plain text.

in/base/ (Hugging Face folder), in/corpus/{train,heldout}.jsonl  ->  out/ (Hugging Face folder)
"""

from __future__ import annotations

from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Progress
from appliance.training.base_model import load_base
from appliance.training.conversations import read_texts
from appliance.training.recipes.pretrain import PretrainRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import prepare
from appliance.training.whole_weights_task import train_whole


def run(workspace: Workspace) -> dict[str, Any]:
    """Continue the pre-training. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    spec = workspace.spec
    recipe = recipe_of(PretrainRecipe, spec.parameters)
    prepare(threads=spec.environment.threads, device=spec.environment.device)
    workspace.emit(Progress(phase="load"))
    base = load_base(workspace.input("base"), gradient_checkpointing=recipe.gradient_checkpointing)
    rows = read_texts(base.tokenizer, workspace.input("corpus"), recipe, seed=spec.seed)
    return train_whole(workspace, base, rows, recipe, epochs=recipe.epochs)
