"""One rank: `python -I -m appliance.training.ranks.rank_task DIRECTORY`, started by the agent in `launch_task`.

Every rank reads the same rows, computes its share of each batch, and keeps its piece of weights and moments (FSDP2).
Each seals checkpoints of its own pieces at the same steps; all go on from the newest step that all have whole. What is
written at the end, the first rank writes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from appliance.jobs.workspace import EXIT_INTERRUPTED, Interrupted, Workspace
from appliance.kernel.durable import write_file
from appliance.kernel.errors import IntramurosError
from appliance.kernel.events import Event, Progress
from appliance.kernel.problem import problem_of
from appliance.kernel.process import die_with_parent
from appliance.training import export
from appliance.training.base_model import load_base
from appliance.training.checkpoint import CheckpointStore
from appliance.training.conversations import read_conversations
from appliance.training.fitting import fit, next_tokens
from appliance.training.loop import Supervision
from appliance.training.memory_watch import MemoryWatch
from appliance.training.objective import NextToken, mean_loss
from appliance.training.plan import shape_of_folder
from appliance.training.ranks.launch_task import PROBLEM, SUMMARY, placement_of
from appliance.training.ranks.placement import Placement
from appliance.training.ranks.sharding import whole
from appliance.training.recipes.full import FullRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import peak_memory, prepare
from appliance.training.sampler import Batch
from appliance.training.summary import summarise


def main(argv: list[str]) -> int:
    """Train as one of several ranks; the exit status is 0 unless all are to start again.

    A rank that fails leaves word why and dies, because the others may be waiting for it; in the attempt that the agent
    then makes, nobody trains.
    """
    die_with_parent()  # no rank outlives its job
    workspace = Workspace(Path(argv[0]))
    problem = workspace.directory / PROBLEM
    if problem.exists():
        return 0
    workspace.listen_for_stop()
    try:
        with workspace.interruptible():
            placement = placement_of(workspace) or Placement(ranks=int(os.environ["WORLD_SIZE"]))
            _meet(placement)
            summary = _train(workspace, placement)
            if dist.get_rank() == 0:
                write_file(workspace.scratch / SUMMARY, msgspec.json.encode(summary))
            dist.barrier()
            dist.destroy_process_group()
    except Interrupted:
        return EXIT_INTERRUPTED
    except IntramurosError as error:
        write_file(problem, msgspec.json.encode(problem_of(error)))
        return error.exit_code
    return 0


def _meet(placement: Placement) -> None:
    """Join the other ranks through the store of this attempt, which the rank that torch calls 0 holds.

    torch numbers hosts by their order of joining; here a rank is the same in every attempt, because its piece of the
    weights lies on its own host.
    """
    given = os.environ
    os.environ["GLOO_SOCKET_IFNAME"] = placement.interface
    holds = given["RANK"] == "0"
    store = dist.TCPStore(  # type: ignore[attr-defined]
        given["MASTER_ADDR"], int(given["MASTER_PORT"]), world_size=placement.world, is_master=holds
    )
    rank = placement.rank(int(given["LOCAL_RANK"]))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=placement.world)


def _train(workspace: Workspace, placement: Placement) -> dict[str, Any]:
    """Return the first rank's summary. Raises what training raises, and Interrupted."""
    started = time.monotonic()
    rank, world, spec = dist.get_rank(), dist.get_world_size(), workspace.spec
    recipe = recipe_of(FullRecipe, spec.parameters)
    prepare(threads=max(1, spec.environment.threads // placement.ranks), device=spec.environment.device)
    emit: Callable[[Event], None] = workspace.emit if rank == 0 else lambda _event: None
    emit(Progress(phase="load"))
    base = load_base(
        workspace.input("base"),
        chat_template=recipe.chat_template,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    rows = read_conversations(base.tokenizer, workspace.input("dataset"), recipe, seed=spec.seed, emit=emit)
    for layer in base.model.model.layers:
        fully_shard(layer)
    fully_shard(base.model)
    folder = workspace.checkpoints / f"rank-{rank}"
    store = CheckpointStore(folder, fingerprint=f"{spec.run_id}/{rank}/{world}")
    _agree_on_a_step(store)
    alone = next_tokens(base.model, rows, recipe, epochs=recipe.epochs, seed=spec.seed, padding=base.padding)
    work = replace(alone, objective=_Share(rank, world), heldout=())  # measured once, at the end
    watch = MemoryWatch(
        shape_of_folder(base.folder),
        rows.load_of(recipe),
        emit,
        measure=partial(_peak_memory, placement),
        available=_available_memory(placement),
    )
    supervision = Supervision(emit=emit, stop_requested=workspace.stop_requested, agree=_any_rank)
    with workspace.saving():
        result = fit(work, recipe, seed=spec.seed, store=store, supervision=supervision, watch=watch)
        if not result.finished:
            raise Interrupted
    emit(Progress(phase="write", fraction=0.98, step=result.steps, steps=work.steps))
    loss = mean_loss(base.model, alone.heldout, alone.objective) if alone.heldout else None
    memory = watch.figures()
    weights = {}
    for name, piece in base.model.state_dict().items():
        weight = whole(piece).detach()  # every rank takes part, the first one keeps it
        if rank == 0:
            weights[name] = weight
    if rank:
        return {}
    plain = load_base(workspace.input("base"), chat_template=recipe.chat_template)
    plain.model.load_state_dict(weights)
    summary = summarise(plain.model, vocabulary=len(base.tokenizer), result=result) | rows.figures() | memory
    export.write_model(plain.model, workspace.output)
    base.write_tokenizer(workspace.output)
    emit(Progress(phase="done", fraction=1.0, step=result.steps, steps=work.steps, loss=result.loss))
    if loss is not None:
        summary["heldout_loss"] = round(loss, 6)
    return summary | {"ranks": world, "job_seconds": round(time.monotonic() - started, 3)}


class _Share:
    """The loss of this rank's rows of a batch, such that the ranks' mean gradient is that of the whole batch."""

    def __init__(self, rank: int, world: int) -> None:
        self._plain = NextToken()
        self._rank = rank
        self._world = world

    def summed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the whole batch's loss; what flows back is this rank's part, times the ranks, which take the mean."""
        rows = slice(self._rank, None, self._world)
        segments = None if batch.segments is None else batch.segments[rows]
        mine = Batch(tokens=batch.tokens[rows], labels=batch.labels[rows], segments=segments)
        if not len(mine.tokens):  # fewer rows than ranks: compute one, so that every rank takes part, and count none
            mine = Batch(tokens=batch.tokens[:1], labels=batch.labels[:1], segments=None)
            part = self._plain.summed(model, mine) * 0.0
        else:
            part = self._plain.summed(model, mine)
        together = part.detach().clone()
        dist.all_reduce(together)
        scaled = part * self._world
        return scaled + (together - scaled.detach())

    def count(self, batch: Batch) -> int:
        """Every target token of the whole batch."""
        return self._plain.count(batch)

    def tokens(self, batch: Batch) -> int:
        """Every position of the whole batch."""
        return self._plain.tokens(batch)


def _peak_memory(placement: Placement) -> int:
    """Return the peak of a host's ranks and of the process that started them, on the host where it is highest.

    Every rank must ask.
    """
    launcher = peak_memory(os.getppid()) if dist.get_rank() % placement.ranks == 0 else 0
    return max(_by_host(placement, peak_memory() + launcher))


def _available_memory(placement: Placement) -> int:
    """Return the bytes that a host's ranks may have together, on the host where it is least; every rank must ask."""
    first = dist.get_rank() % placement.ranks == 0
    mine = [os.getpid(), os.getppid()] if first else [os.getpid()]
    own = sum(psutil.Process(process).memory_info().rss for process in mine)
    return min(_by_host(placement, own + (psutil.virtual_memory().available if first else 0)))


def _by_host(placement: Placement, own: int) -> list[int]:
    """Return the sum of each host's ranks; every rank must ask."""
    sums = torch.zeros(len(placement.hosts), dtype=torch.int64)
    sums[placement.node] = own
    dist.all_reduce(sums)
    found: list[int] = sums.tolist()
    return found


def _any_rank(own: bool) -> bool:
    """Return whether any rank says so; every rank must ask."""
    said = torch.tensor(int(own))
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said)


def _agree_on_a_step(store: CheckpointStore) -> None:
    """Give up checkpoints that are newer than the newest one that every rank has whole."""
    while True:
        newest, _ = store.newest()
        step = 0 if newest is None else newest.step
        least, most = torch.tensor(step), torch.tensor(step)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        if int(least) == int(most):
            return
        store.forget_after(int(least))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
