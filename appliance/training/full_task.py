"""The job `train.full`: every weight of a base model learns from conversations.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl  ->  out/ (Hugging Face folder)
"""

from __future__ import annotations

from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Progress
from appliance.training.base_model import load_base
from appliance.training.conversations import read_conversations
from appliance.training.ranks.launch_task import run_on_ranks
from appliance.training.ranks.placement import Placement
from appliance.training.recipes.full import FullRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import prepare
from appliance.training.whole_weights_task import train_whole


def run(workspace: Workspace) -> dict[str, Any]:
    """Fine-tune every weight. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    spec = workspace.spec
    recipe = recipe_of(FullRecipe, spec.parameters)
    if recipe.ranks > 1:
        return run_on_ranks(workspace, Placement(ranks=recipe.ranks))
    prepare(threads=spec.environment.threads, device=spec.environment.device)
    workspace.emit(Progress(phase="load"))
    base = load_base(
        workspace.input("base"),
        chat_template=recipe.chat_template,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    rows = read_conversations(base.tokenizer, workspace.input("dataset"), recipe, seed=spec.seed, emit=workspace.emit)
    return train_whole(workspace, base, rows, recipe, epochs=recipe.epochs)
