"""The job `train.full`: every weight of a base model learns from conversations.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl  ->  out/ (Hugging Face folder)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from appliance.fleet.inventory import no_fleet
from appliance.jobs.workspace import RANK_HOSTS, RankHosts, Workspace
from appliance.kernel.events import Progress
from appliance.training.base_model import load_base
from appliance.training.conversations import read_conversations
from appliance.training.memory_watch import available_memory
from appliance.training.plan import plan_memory, shape_of_folder
from appliance.training.ranks.boxes_task import run_on_boxes
from appliance.training.ranks.launch_task import placement_of, run_on_ranks
from appliance.training.recipes.full import FullRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.rows import PARTS
from appliance.training.runtime import prepare
from appliance.training.whole_weights_task import train_whole


def run(workspace: Workspace) -> dict[str, Any]:
    """Fine-tune every weight. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    spec = workspace.spec
    recipe = recipe_of(FullRecipe, spec.parameters)
    if placement_of(workspace) is not None:
        _require_memory(workspace, recipe)
    elif (recipe.boxes or recipe.ranks > 1) and (hosts := workspace.document(RANK_HOSTS, RankHosts)):
        return run_on_boxes(workspace, recipe, hosts)
    elif recipe.boxes:
        raise no_fleet()
    if recipe.ranks > 1:
        return run_on_ranks(workspace, ranks=recipe.ranks)
    prepare(threads=spec.environment.threads, device=spec.environment.device)
    workspace.emit(Progress(phase="load"))
    base = load_base(
        workspace.input("base"),
        chat_template=recipe.chat_template,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    rows = read_conversations(base.tokenizer, workspace.input("dataset"), recipe, seed=spec.seed, emit=workspace.emit)
    return train_whole(workspace, base, rows, recipe, epochs=recipe.epochs)


def _require_memory(workspace: Workspace, recipe: FullRecipe) -> None:
    """Refuse what does not fit this box: the one that queued the job looked at its own memory alone."""
    rows = sum(file.stat().st_size for file in workspace.input("dataset").iterdir() if file.name in PARTS)
    load = replace(recipe.load(), data=rows)
    plan_memory(shape_of_folder(workspace.input("base")), load, available=available_memory()).require()
