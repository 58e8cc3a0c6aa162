"""A causal language model of a few hundred weights, with dropout, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from appliance.kernel.events import Event
from appliance.training.checkpoint import CheckpointStore
from appliance.training.loop import LoopResult, LoopSettings, Supervision, train
from appliance.training.objective import NextToken
from appliance.training.sampler import TextSampler
from appliance.training.schedule import Schedule
from appliance.weights.token_ids import int32

E = TypeVar("E")

STEPS = 6
DOCUMENTS = [int32([*((start * 7 + at * start) % 31 + 1 for at in range(9)), 0]) for start in range(1, 20)]


@dataclass(frozen=True)
class Output:
    logits: Tensor


class TinyModel(nn.Module):
    def __init__(self, *, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.embedding = nn.Embedding(32, 8)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(8, 32)

    def forward(self, input_ids: Tensor, logits_to_keep: Tensor, use_cache: bool = False) -> Output:
        hidden = self.dropout(self.norm(self.embedding(input_ids)))
        return Output(logits=self.output(hidden[:, logits_to_keep]))


def settings(*, steps: int = STEPS, peak: float = 0.01, checkpoint_seconds: float = 0.0) -> LoopSettings:
    return LoopSettings(
        steps=steps,
        seed=5,
        schedule=Schedule(peak=peak, steps=steps, warmup_fraction=0.2, final_fraction=0.1),
        weight_decay=0.1,
        clip_norm=1.0,
        checkpoint_seconds=checkpoint_seconds,
    )


def sampler(*, batch_size: int = 4, accumulation: int = 1) -> TextSampler:
    return TextSampler(DOCUMENTS, seed=5, length=12, batch_size=batch_size, accumulation=accumulation)


@dataclass
class Log:
    """Collects events; `stop_after` is the number of steps after which a stop is requested."""

    stop_after: int = 10_000
    events: list[Event] = field(default_factory=list)
    steps: int = 0

    def supervision(self, also: Callable[[Event], None] = lambda _event: None) -> Supervision:
        def emit(event: Event) -> None:
            self.events.append(event)
            self.steps = getattr(event, "step", self.steps)
            also(event)

        return Supervision(emit=emit, stop_requested=lambda: self.steps >= self.stop_after)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def train_tiny(directory: Path, log: Log) -> tuple[TinyModel, LoopResult]:
    model = TinyModel()
    store = CheckpointStore(directory, fingerprint="a run")
    return model, train(model, sampler(), settings(), store, log.supervision(), objective=NextToken())
