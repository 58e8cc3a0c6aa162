"""The training loop: AdamW on a causal language model, resumable at any moment with the same bits.

Knows nothing of where batches come from or what kind of model it is. The state after n steps is a pure function
of (initial weights, settings, seed, n): batches and dropout are derived from the step number, so a checkpoint
needs weights, two moments and counters only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.events import CheckpointSaved, Event, Note, Progress
from appliance.training.checkpoint import Checkpoint, CheckpointStore
from appliance.training.runtime import derive_seed, peak_memory
from appliance.training.sampler import IGNORED, Batch
from appliance.training.schedule import Schedule

_RECENT = 10
"""Steps whose mean loss is reported as the final one."""


class Learnable(Protocol):
    """What the loop must know of a batch: what is read, and how many values carry loss."""

    @property
    def tokens(self) -> Tensor: ...

    @property
    def targets(self) -> int: ...


class Sampler(Protocol):
    """Where batches come from."""

    def batches(self, step: int) -> Sequence[Learnable]: ...


Objective = Callable[[nn.Module, Any], Tensor]
"""The loss of one batch of the sampler's, summed over its targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """The numbers of a recipe that the loop itself needs."""

    steps: int
    seed: int
    schedule: Schedule
    weight_decay: float
    clip_norm: float
    checkpoint_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What the loop reports to, and how it hears that it should stop."""

    emit: Callable[[Event], None]
    stop_requested: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What training did, over all attempts. `finished` is false when it stopped on request."""

    finished: bool
    steps: int
    tokens: int
    loss: float
    seconds: float
    cpu_seconds: float


@dataclass(slots=True, kw_only=True)
class _Counters:
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    recent: list[float]


def train(
    model: nn.Module,
    sampler: Sampler,
    settings: LoopSettings,
    store: CheckpointStore,
    supervision: Supervision,
    *,
    objective: Objective | None = None,
) -> LoopResult:
    """Train `model` in place from its newest valid checkpoint to the last step. Without an objective it learns to
    continue texts.

    Raises IntegrityFailure (`training.diverged`) when loss, gradient or weights are not finite, and
    StorageFailure when a checkpoint cannot be written.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = _optimizer(weights, settings)
    counters = _restore(weights, optimizer, store, supervision)
    resumed = counters.step > 0
    model.train()
    pace = _Pace()
    saved_step, saved_at = counters.step, time.monotonic()
    while counters.step < settings.steps:
        rate = settings.schedule.rate(counters.step)
        loss, tokens = _step(
            model, weights, optimizer, sampler, settings, counters.step, rate, objective or summed_loss
        )
        seconds, cpu_seconds = pace.lap()
        counters.step += 1
        counters.tokens += tokens
        counters.seconds += seconds
        counters.cpu_seconds += cpu_seconds
        counters.recent = [*counters.recent, loss][-_RECENT:]
        supervision.emit(_progress(counters, settings, pace, rate=rate, tokens=tokens))
        stop = supervision.stop_requested()
        due = time.monotonic() - saved_at >= settings.checkpoint_seconds
        if stop or due or counters.step == settings.steps:
            _require_finite(weights, counters.step)
            digest = store.save(_capture(weights, optimizer, counters))
            supervision.emit(CheckpointSaved(step=counters.step, digest=digest))
            saved_step, saved_at = counters.step, time.monotonic()
            pace.restart()
        if stop:
            break
    if resumed and saved_step == settings.steps and not pace.laps:
        supervision.emit(Note(text="Training had already finished; only the result is written again."))
    return LoopResult(
        finished=counters.step == settings.steps,
        steps=counters.step,
        tokens=counters.tokens,
        loss=sum(counters.recent) / max(1, len(counters.recent)),
        seconds=counters.seconds,
        cpu_seconds=counters.cpu_seconds,
    )


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the sum of the cross entropy (nats) over the batch's target tokens."""
    logits: Tensor = model(input_ids=batch.tokens, use_cache=False).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        batch.labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )


def mean_loss(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Return the mean cross entropy (nats per target token) without training."""
    model.eval()
    with torch.inference_mode():
        total = sum(float(summed_loss(model, batch)) for batch in batches)
    return total / max(1, sum(batch.targets for batch in batches))


def _step(
    model: nn.Module,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sampler: Sampler,
    settings: LoopSettings,
    step: int,
    rate: float,
    objective: Objective,
) -> tuple[float, int]:
    """Do one optimiser step; return the mean loss and how many tokens were read."""
    torch.manual_seed(derive_seed(settings.seed, "dropout", step))
    for group in optimizer.param_groups:
        group["lr"] = rate
    batches = sampler.batches(step)
    # One divisor for the whole step: batches with few target tokens must not weigh more than others.
    targets = max(1, sum(batch.targets for batch in batches))
    loss = 0.0
    for batch in batches:
        part = objective(model, batch) / targets
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    norm = float(nn.utils.clip_grad_norm_(weights.values(), settings.clip_norm))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise _diverged(step + 1)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, sum(batch.tokens.numel() for batch in batches)


def _optimizer(weights: dict[str, nn.Parameter], settings: LoopSettings) -> torch.optim.AdamW:
    matrices = [weight for weight in weights.values() if weight.ndim >= 2]
    vectors = [weight for weight in weights.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=settings.schedule.peak, betas=(0.9, 0.95), eps=1e-8, fused=True)


def _capture(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, counters: _Counters) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        moments = optimizer.state[weight]
        tensors[f"weight/{name}"] = weight.detach()
        tensors[f"mean/{name}"] = moments["exp_avg"]
        tensors[f"variance/{name}"] = moments["exp_avg_sq"]
    state = {
        "tokens": counters.tokens,
        "seconds": counters.seconds,
        "cpu_seconds": counters.cpu_seconds,
        "recent": counters.recent,
    }
    return Checkpoint(step=counters.step, tensors=tensors, state=state)


def _restore(
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    store: CheckpointStore,
    supervision: Supervision,
) -> _Counters:
    checkpoint, skipped = store.newest()
    for event in skipped:
        supervision.emit(event)
    if checkpoint is None:
        return _Counters(recent=[])
    # Copied into the existing tensors: their alignment decides which vector code runs, and with it the last bit.
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(checkpoint.tensors[f"weight/{name}"])
            optimizer.state[weight] = {
                "step": torch.tensor(float(checkpoint.step)),
                "exp_avg": torch.empty_like(weight).copy_(checkpoint.tensors[f"mean/{name}"]),
                "exp_avg_sq": torch.empty_like(weight).copy_(checkpoint.tensors[f"variance/{name}"]),
            }
    supervision.emit(Note(text=f"Going on from the checkpoint of step {checkpoint.step}."))
    return _Counters(step=checkpoint.step, **checkpoint.state)


class _Pace:
    """Time of each step and its moving average, in seconds."""

    def __init__(self) -> None:
        self.average = 0.0
        self.laps = 0
        self.restart()

    def restart(self) -> None:
        """Leave out what happened since the last step, such as writing a checkpoint."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def lap(self) -> tuple[float, float]:
        """Return wall and processor seconds since the last call."""
        wall, cpu = self._wall, self._cpu
        self.restart()
        seconds = self._wall - wall
        self.average = seconds if self.laps == 0 else 0.9 * self.average + 0.1 * seconds
        self.laps += 1
        return seconds, self._cpu - cpu


def _progress(counters: _Counters, settings: LoopSettings, pace: _Pace, *, rate: float, tokens: int) -> Progress:
    return Progress(
        phase="train",
        # The last 2 % belong to writing the result, so that only the whole job reports 1.
        fraction=0.98 * counters.step / settings.steps,
        step=counters.step,
        steps=settings.steps,
        loss=counters.recent[-1],
        learning_rate=rate,
        tokens_per_second=tokens / pace.average if pace.average else None,
        eta_seconds=(settings.steps - counters.step) * pace.average,
        memory_bytes=peak_memory(),
    )


def _require_finite(weights: dict[str, nn.Parameter], step: int) -> None:
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise _diverged(step)


def _diverged(step: int) -> IntegrityFailure:
    return IntegrityFailure(
        "training.diverged",
        f"Training diverged at step {step}: the loss, the gradient or the weights are not finite.",
        hint="Use a smaller learning_rate or a longer warmup_fraction.",
    )
