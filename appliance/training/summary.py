"""The figures every training job reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from appliance.kernel.events import Event, Metric
from appliance.training.loop import LoopResult
from appliance.training.objective import Objective, mean_loss

B = TypeVar("B")


def summarise(model: Any, *, vocabulary: int, result: LoopResult) -> dict[str, Any]:
    """Return architecture, sizes, work done and speed. Seconds are those of the training steps alone."""
    figures = {
        "architecture": model.config.architectures[0],
        "parameters": model.num_parameters(),
        "context_length": int(model.config.max_position_embeddings),
        "vocabulary": vocabulary,
        "steps": result.steps,
        "tokens": result.tokens,
        "final_loss": round(result.loss, 6),
        "seconds": round(result.seconds, 3),
        "tokens_per_cpu_second": round(result.tokens / result.cpu_seconds, 1) if result.cpu_seconds else 0.0,
    }
    return figures | best_figures(result)


def best_figures(result: LoopResult) -> dict[str, Any]:
    """Return where the weights come from and their loss, where the best were kept."""
    if not result.best_step:
        return {}
    return {"best_step": result.best_step, "best_validation_loss": round(result.best_loss, 6)}


def heldout_figures(
    model: Any, heldout: Sequence[B], objective: Objective[B], emit: Callable[[Event], None]
) -> dict[str, float]:
    """Return the loss on what was held out, as a figure and as an event; nothing where nothing was."""
    if not heldout:
        return {}
    loss = mean_loss(model, heldout, objective)
    emit(Metric(name="heldout_loss", value=loss))
    return {"heldout_loss": round(loss, 6)}
