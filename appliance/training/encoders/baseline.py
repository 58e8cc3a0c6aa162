"""The cheap classifier that everything else must beat: logistic regression on an encoder's frozen vectors.

Its strength is chosen on a part of the training rows by accuracy, the stronger regularisation winning a tie; the
held-out rows choose nothing. The same vectors, threads and seed give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from appliance.training.runtime import derive_seed

STRENGTHS: Final = (1.0, 5.0, 10.0, 20.0, 40.0)
"""Inverse strengths of the regularisation (scikit-learn's C). Vectors have length 1, so these suit any encoder."""
_ITERATIONS: Final = 1000

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A fitted regression: `weight` is labels x hidden. `tried` has the validation accuracy of each strength."""

    weight: Vectors
    bias: Vectors
    strength: float
    tried: dict[str, float]


def fit_baseline(
    vectors: Vectors,
    numbers: Sequence[int],
    *,
    labels: int,
    seed: int,
    validation_fraction: float,
    class_weights: bool,
    between: Callable[[int], None] = lambda _done: None,
) -> Baseline:
    """Choose the strength and fit on all rows. `between` is called after each fit, and may raise to stop."""
    wanted = np.asarray(numbers, np.int64)
    fitted, checked = _split(wanted, labels=labels, seed=seed, fraction=validation_fraction)
    tried: dict[float, float] = {}
    if len(checked):
        for done, strength in enumerate(STRENGTHS, start=1):
            model = _fit(vectors[fitted], wanted[fitted], strength=strength, class_weights=class_weights)
            tried[strength] = float((model.predict(vectors[checked]) == wanted[checked]).mean())
            between(done)
    best = max(tried, key=lambda strength: (tried[strength], -strength)) if tried else STRENGTHS[len(STRENGTHS) // 2]
    weight, bias = _matrix(_fit(vectors, wanted, strength=best, class_weights=class_weights))
    return Baseline(
        weight=weight, bias=bias, strength=best, tried={f"{strength:g}": share for strength, share in tried.items()}
    )


def _split(numbers: Numbers, *, labels: int, seed: int, fraction: float) -> tuple[Numbers, Numbers]:
    """Return rows to fit on and rows to check on: of each label its part, and at least one row left to fit on."""
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "validation")))
    order = random.permutation(len(numbers))
    checked: list[int] = []
    for label in range(labels):
        rows = order[numbers[order] == label]
        checked += rows[: min(len(rows) - 1, round(len(rows) * fraction))].tolist()
    chosen = np.zeros(len(numbers), bool)
    chosen[checked] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _fit(vectors: Vectors, numbers: Numbers, *, strength: float, class_weights: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    balance = "balanced" if class_weights else None
    return LogisticRegression(C=strength, max_iter=_ITERATIONS, class_weight=balance).fit(
        vectors.astype(np.float64), numbers
    )


def _matrix(model: Any) -> tuple[Vectors, Vectors]:
    """Return the regression as one row for each label; for two labels scikit-learn keeps their difference alone."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return weight.astype(np.float32), bias.astype(np.float32)
