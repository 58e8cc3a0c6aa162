"""What the jobs `train.full` and `train.pretrain` share once their rows are read: fit every weight, write it all."""

from __future__ import annotations

import time
from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.events import Progress
from appliance.training import export
from appliance.training.base_model import Base
from appliance.training.conversations import Conversations
from appliance.training.fit_task import fit_in
from appliance.training.fitting import next_tokens
from appliance.training.memory_watch import MemoryWatch
from appliance.training.plan import shape_of_folder
from appliance.training.recipes.base import OnBase
from appliance.training.summary import heldout_figures, summarise


def train_whole(
    workspace: Workspace, base: Base, rows: Conversations, recipe: OnBase, *, epochs: int
) -> dict[str, Any]:
    """Train every weight on the rows and write the result. Raises what the loop raises, and Interrupted."""
    started = time.monotonic()
    watch = MemoryWatch(shape_of_folder(base.folder), rows.load_of(recipe), workspace.emit)
    work = next_tokens(base.model, rows, recipe, epochs=epochs, seed=workspace.spec.seed, padding=base.padding)
    result = fit_in(workspace, work, recipe, watch)
    workspace.emit(Progress(phase="write", fraction=0.98, step=result.steps, steps=work.steps))
    summary = summarise(base.model, vocabulary=len(base.tokenizer), result=result) | rows.figures() | watch.figures()
    summary |= heldout_figures(base.model, work.heldout, work.objective, workspace.emit)
    export.write_model(base.model, workspace.output)
    base.write_tokenizer(workspace.output)
    workspace.emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=work.steps, loss=result.loss))
    return summary | {"job_seconds": round(time.monotonic() - started, 3)}
