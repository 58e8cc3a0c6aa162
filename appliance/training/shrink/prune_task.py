"""The job `train.prune`: takes layers, key-value groups and feed-forward channels out of a model.

in/base/ (Hugging Face folder), in/dataset/{train,heldout}.jsonl  ->  out/ (a smaller folder of the same architecture)
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.events import Metric, Note, Progress
from appliance.training.encoders.folder import describe_classifier, describe_folder
from appliance.training.fit_task import supervision_of
from appliance.training.recipes.prune import PruneRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import prepare
from appliance.training.sealed_chunks import Stopped
from appliance.training.shrink.cuts import Parts, plan_cut
from appliance.training.shrink.importance import Importance, importance_by_rows, importance_by_weights
from appliance.training.shrink.layout import Layout, layout_of
from appliance.training.shrink.quality import Subject, load_subject
from appliance.training.shrink.surgery import HeadShape, head_shape, write_cut
from appliance.weights.families import family_of_folder
from appliance.weights.head import has_head, read_config


def run(workspace: Workspace) -> dict[str, Any]:
    """Prune a model. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted; a restarted job begins anew."""
    try:
        return _prune(workspace)
    except Stopped as stopped:
        raise Interrupted from stopped


def _prune(workspace: Workspace) -> dict[str, Any]:
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(PruneRecipe, spec.parameters)
    base = workspace.input("base")
    layout = layout_of(family_of_folder(base))
    prepare(threads=spec.environment.threads, device=spec.environment.device)

    workspace.emit(Progress(phase="load"))
    config = json.loads((base / "config.json").read_bytes())
    shape = head_shape(config)
    rows = 1 if recipe.importance == "weights" else recipe.importance

    def load(folder: Path, whole: Subject | None = None) -> Subject:
        return load_subject(
            folder,
            workspace.input("dataset"),
            supervision=supervision_of(workspace),
            rows=rows,
            max_length=recipe.max_length,
            batch_size=recipe.batch_size,
            whole=whole,
        )

    before = load(base)
    importance = _importance(workspace, recipe, before, layout, shape)
    parts = Parts(
        layers=int(config["num_hidden_layers"]),
        channels=int(config["intermediate_size"]),
        groups=shape.groups if layout.joins else 0,
    )
    cut = plan_cut(recipe, parts, importance)
    workspace.emit(Progress(phase="write", fraction=0.7))
    write_cut(base, workspace.output, layout, cut)

    # Read back by the libraries that will serve it: what they do not accept is no result.
    after = load(workspace.output, before)
    sizes = {"before": _weights_size(base), "after": _weights_size(workspace.output)}
    described = describe_result(workspace.output)
    workspace.emit(
        Note(
            text=f"{described['parameters']:,} of {describe_folder(base)['parameters']:,} parameters are left; "
            + ", ".join(f"{name} {before.figures[name]:.4f} -> {value:.4f}" for name, value in after.figures.items())
        )
    )
    for name, value in after.figures.items():
        workspace.emit(Metric(name=name, value=value))
    workspace.emit(Progress(phase="done", fraction=1.0))
    return described | {
        "metrics": after.figures | {f"{name}_before": value for name, value in before.figures.items()},
        "parameters_before": describe_folder(base)["parameters"],
        "bytes_before": sizes["before"],
        "bytes_after": sizes["after"],
        "kept_layers": list(cut.layers),
        "kept_channels": len(cut.channels[0]) if cut.channels else parts.channels,
        "kept_groups": len(cut.groups[0]) if cut.groups else parts.groups,
        "job_seconds": round(time.monotonic() - started, 3),
    }


def describe_result(output: Path) -> dict[str, Any]:
    """Return what the registry wants to know of a model that was made smaller."""
    if has_head(output):
        return describe_classifier(output, read_config(output))
    return describe_folder(output)


def _importance(
    workspace: Workspace, recipe: PruneRecipe, subject: Subject, layout: Layout, shape: HeadShape
) -> Importance:
    if recipe.importance == "weights":
        return importance_by_weights(subject.model, layout, shape)

    def between(done: int) -> None:
        if workspace.stop_requested():
            raise Interrupted
        fraction = 0.1 + 0.6 * done / len(subject.rows)
        workspace.emit(Progress(phase="importance", fraction=fraction, step=done, steps=len(subject.rows)))

    return importance_by_rows(subject.model, layout, shape, subject.rows, between=between)


def _weights_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))
