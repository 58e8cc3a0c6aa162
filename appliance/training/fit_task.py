"""Training inside a job: checkpoints and events go to its workspace, and whoever asks the job to stop interrupts it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from appliance.jobs.workspace import Interrupted, Workspace
from appliance.kernel.canonical import digest_of
from appliance.training.checkpoint import CheckpointStore
from appliance.training.fitting import Work, fit
from appliance.training.loop import LoopResult, LoopSettings, Measuring, Sampler, Supervision, train
from appliance.training.memory_watch import MemoryWatch, Sized
from appliance.training.objective import Objective
from appliance.training.recipes.base import OnBase

S = TypeVar("S", bound=Sized)


def supervision_of(workspace: Workspace) -> Supervision:
    """Return who is told of a job's steps and may stop it."""
    return Supervision(emit=workspace.emit, stop_requested=workspace.stop_requested)


def store_of(workspace: Workspace, *, fingerprint: str = "") -> CheckpointStore:
    """Return the job's checkpoints, taken up again only by a run of the same fingerprint (the run's own by default)."""
    return CheckpointStore(workspace.checkpoints, fingerprint=fingerprint or workspace.spec.run_id)


def shared_fingerprint(workspace: Workspace, model: str, *what: Any) -> str:
    """Return what work on one of the job's models depends on: the model, the machine and software, and `what`.

    Other jobs of a campaign that say the same take it over from the folder `shared`.
    """
    spec = workspace.spec
    return digest_of([msgspec.to_builtins(spec.environment), spec.inputs[model].digest, *what])


def fit_in(workspace: Workspace, work: Work[S], recipe: OnBase, watch: MemoryWatch) -> LoopResult:
    """Fit by a recipe, as a job. Raises what `fit` raises, and Interrupted."""
    store, supervision = store_of(workspace), supervision_of(workspace)
    with workspace.saving():
        result = fit(work, recipe, seed=workspace.spec.seed, store=store, supervision=supervision, watch=watch)
        return _to_the_end(result)


def train_in(
    workspace: Workspace,
    model: Any,
    sampler: Sampler[S],
    settings: LoopSettings,
    *,
    objective: Objective[S],
    measuring: Measuring | None = None,
    fingerprint: str = "",
) -> LoopResult:
    """Run the loop, as a job. Raises what the loop raises, and Interrupted."""
    store, supervision = store_of(workspace, fingerprint=fingerprint), supervision_of(workspace)
    with workspace.saving():
        result = train(model, sampler, settings, store, supervision, objective=objective, measuring=measuring)
        return _to_the_end(result)


def _to_the_end(result: LoopResult) -> LoopResult:
    if not result.finished:
        raise Interrupted
    return result
