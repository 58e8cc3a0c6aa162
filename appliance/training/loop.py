"""The training loop: AdamW on any model and objective, resumable at any moment with the same bits.

Knows nothing of where batches come from or what kind of model it is. The state after n steps is a pure function
of (initial weights, settings, seed, n): batches and dropout are derived from the step number, so a checkpoint
needs weights, two moments and counters only, and the best weights where those are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from appliance.kernel.errors import IntegrityFailure
from appliance.kernel.events import CheckpointSaved, Event, Metric, Note, Progress
from appliance.training.checkpoint import Checkpoint, CheckpointStore
from appliance.training.objective import Objective
from appliance.training.ranks.sharding import own_piece, whole
from appliance.training.runtime import derive_seed, peak_memory
from appliance.training.schedule import Schedule

_RECENT = 10
"""Steps whose mean loss is reported as the final one."""
_REST_PER_SAVE = 10
"""A checkpoint that takes long is followed by so many times that long without one: large models also get on."""

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Sampler(Protocol[B_co]):
    """Where batches come from."""

    def batches(self, step: int) -> Sequence[B_co]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """The numbers of a recipe that the loop itself needs."""

    steps: int
    seed: int
    schedule: Schedule
    weight_decay: float
    clip_norm: float
    checkpoint_seconds: float
    half_precision: bool = False
    """products in bfloat16; weights, gradients and moments stay float32"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What the loop reports to, how it hears that it should stop, and who looks at each step after it was done."""

    emit: Callable[[Event], None]
    stop_requested: Callable[[], bool]
    after_step: Callable[[int], None] = lambda _step: None
    """given the number of steps that this attempt has done; what it raises ends the run before anything is saved"""
    agree: Callable[[bool], bool] = lambda own: own
    """turns what this process wants into what all ranks of the run do"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """The loss on rows set aside while training: the best weights are kept, and `patience` bad measurements end it.

    `patience` 0 never ends it early.
    """

    every: int
    patience: int
    measure: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What training did, over all attempts. `finished` is false when it stopped on request.

    `best_step` is where the weights come from when the best are kept, else 0.
    """

    finished: bool
    steps: int
    tokens: int
    loss: float
    seconds: float
    cpu_seconds: float
    best_step: int = 0
    best_loss: float = math.inf


@dataclass(slots=True, kw_only=True)
class _Counters:
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    recent: list[float] = field(default_factory=list)
    best_step: int = 0
    best_loss: float | None = None
    misses: int = 0
    """measurements in a row that brought nothing better"""


def train(
    model: nn.Module,
    sampler: Sampler[B],
    settings: LoopSettings,
    store: CheckpointStore,
    supervision: Supervision,
    *,
    objective: Objective[B],
    measuring: Measuring | None = None,
) -> LoopResult:
    """Train `model` in place from its newest valid checkpoint to the last step, or to the end of patience.

    Raises IntegrityFailure (`training.diverged`) when loss, gradient or weights are not finite, and
    StorageFailure when a checkpoint cannot be written.
    """
    run = _Run(model, settings, store, supervision, measuring)
    resumed = run.counters.step > 0
    model.train()
    while not run.is_done and not run.stopped:
        batches = sampler.batches(run.counters.step)
        run.step(batches, objective)
    if resumed and not run.pace.laps:
        supervision.emit(Note(text="Training had already finished; only the result is written again."))
    if run.is_done:
        run.take_best()
    return run.result()


class _Run:
    """One attempt: weights, optimiser and counters, kept together."""

    def __init__(
        self,
        model: nn.Module,
        settings: LoopSettings,
        store: CheckpointStore,
        supervision: Supervision,
        measuring: Measuring | None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._store = store
        self._supervision = supervision
        self._measuring = measuring
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimizer = _optimizer(self._weights, settings)
        self._best: dict[str, Tensor] = {}
        self.counters = self._restore()
        self.pace = _Pace()
        self.stopped = False
        self._saved_at = time.monotonic()
        self._rest = settings.checkpoint_seconds

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to train."""
        impatient = self._measuring is not None and 0 < self._measuring.patience <= self.counters.misses
        return self.counters.step >= self._settings.steps or impatient

    def step(self, batches: Sequence[B], objective: Objective[B]) -> None:
        """Do one step, report it, measure and save where that is due."""
        counters, settings = self.counters, self._settings
        rate = settings.schedule.rate(counters.step)
        loss = self._update(batches, objective, rate)
        tokens = sum(objective.tokens(batch) for batch in batches)
        seconds, cpu_seconds = self.pace.lap()
        counters.step += 1
        counters.tokens += tokens
        counters.seconds += seconds
        counters.cpu_seconds += cpu_seconds
        counters.recent = [*counters.recent, loss][-_RECENT:]
        self._supervision.emit(_progress(counters, settings, self.pace, rate=rate, tokens=tokens))
        self._supervision.after_step(self.pace.laps)
        self._measure()
        agree = self._supervision.agree
        self.stopped = agree(self._supervision.stop_requested())
        due = agree(time.monotonic() - self._saved_at >= self._rest)
        if self.stopped or due or self.is_done:
            self._save()

    def take_best(self) -> None:
        """Put the best weights into the model, where they are kept."""
        with torch.no_grad():
            for name, weight in self._best.items():
                self._weights[name].copy_(weight)

    def result(self) -> LoopResult:
        """Return what was done so far."""
        counters = self.counters
        return LoopResult(
            finished=self.is_done,
            steps=counters.step,
            tokens=counters.tokens,
            loss=sum(counters.recent) / max(1, len(counters.recent)),
            seconds=counters.seconds,
            cpu_seconds=counters.cpu_seconds,
            best_step=counters.best_step,
            best_loss=math.inf if counters.best_loss is None else counters.best_loss,
        )

    def _update(self, batches: Sequence[B], objective: Objective[B], rate: float) -> float:
        """Change the weights once; return the mean loss."""
        torch.manual_seed(derive_seed(self._settings.seed, "dropout", self.counters.step))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # One divisor for the whole step: batches with few target tokens must not weigh more than others.
        targets = max(1, sum(objective.count(batch) for batch in batches))
        loss = 0.0
        for batch in batches:
            with _products(self._settings):
                part = objective.summed(self._model, batch) / targets
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        norm = float(whole(nn.utils.clip_grad_norm_(self._weights.values(), self._settings.clip_norm)))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _diverged(self.counters.step + 1)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _measure(self) -> None:
        measuring, counters = self._measuring, self.counters
        if measuring is None or (counters.step % measuring.every and counters.step < self._settings.steps):
            return
        with _products(self._settings):
            loss = measuring.measure()
        self._supervision.emit(Metric(name="validation_loss", value=loss, step=counters.step))
        if counters.best_loss is None or loss < counters.best_loss:
            counters.best_step, counters.best_loss, counters.misses = counters.step, loss, 0
            self._best = {name: weight.detach().clone() for name, weight in self._weights.items()}
        else:
            counters.misses += 1
        self.pace.restart()

    def _save(self) -> None:
        if not all(bool(torch.isfinite(own_piece(weight)).all()) for weight in self._weights.values()):
            raise _diverged(self.counters.step)
        began, wanted = time.monotonic(), self._settings.checkpoint_seconds
        digest = self._store.save(self._capture())
        self._supervision.emit(CheckpointSaved(step=self.counters.step, digest=digest))
        self._saved_at = time.monotonic()
        self._rest = wanted and max(wanted, _REST_PER_SAVE * (self._saved_at - began))
        self.pace.restart()

    def _capture(self) -> Checkpoint:
        tensors: dict[str, Tensor] = {f"best/{name}": weight for name, weight in self._best.items()}
        for name, weight in self._weights.items():
            moments = self._optimizer.state[weight]
            tensors[f"weight/{name}"] = own_piece(weight.detach())
            tensors[f"mean/{name}"] = own_piece(moments["exp_avg"])
            tensors[f"variance/{name}"] = own_piece(moments["exp_avg_sq"])
        counters = self.counters
        state = {
            "tokens": counters.tokens,
            "seconds": counters.seconds,
            "cpu_seconds": counters.cpu_seconds,
            "recent": counters.recent,
            "best_step": counters.best_step,
            "best_loss": counters.best_loss,
            "misses": counters.misses,
        }
        return Checkpoint(step=counters.step, tensors=tensors, state=state)

    def _restore(self) -> _Counters:
        checkpoint, skipped = self._store.newest()
        for event in skipped:
            self._supervision.emit(event)
        if checkpoint is None:
            return _Counters()
        # Copied into the existing tensors: their alignment decides which vector code runs, and with it the last bit.
        with torch.no_grad():
            for name, weight in self._weights.items():
                mean, variance = torch.empty_like(weight), torch.empty_like(weight)
                own_piece(weight).copy_(checkpoint.tensors[f"weight/{name}"])
                own_piece(mean).copy_(checkpoint.tensors[f"mean/{name}"])
                own_piece(variance).copy_(checkpoint.tensors[f"variance/{name}"])
                self._optimizer.state[weight] = {
                    "step": torch.tensor(float(checkpoint.step)),
                    "exp_avg": mean,
                    "exp_avg_sq": variance,
                }
                if (best := checkpoint.tensors.get(f"best/{name}")) is not None:
                    self._best[name] = torch.empty_like(weight).copy_(best)
        self._supervision.emit(Note(text=f"Going on from the checkpoint of step {checkpoint.step}."))
        return _Counters(step=checkpoint.step, **checkpoint.state)


def _products(settings: LoopSettings) -> AbstractContextManager[object]:
    """Return the context in which products have the recipe's number format."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if settings.half_precision else nullcontext()


def _optimizer(weights: dict[str, nn.Parameter], settings: LoopSettings) -> torch.optim.AdamW:
    matrices = [weight for weight in weights.values() if weight.ndim >= 2]
    vectors = [weight for weight in weights.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=settings.schedule.peak, betas=(0.9, 0.95), eps=1e-8, fused=True)


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


def _diverged(step: int) -> IntegrityFailure:
    return IntegrityFailure(
        "training.diverged",
        f"Training diverged at step {step}: the loss, the gradient or the weights are not finite.",
        hint="Use a smaller learning_rate or a longer warmup_fraction.",
    )
