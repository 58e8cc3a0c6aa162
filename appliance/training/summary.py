"""The figures every training job reports."""

from __future__ import annotations

from typing import Any

from appliance.training.loop import LoopResult


def summarise(model: Any, *, vocabulary: int, result: LoopResult) -> dict[str, Any]:
    """Return architecture, sizes, work done and speed. Seconds are those of the training steps alone."""
    return {
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
