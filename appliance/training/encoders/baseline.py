"""The cheap classifier that everything else must beat: logistic regression on an encoder's frozen vectors.

Its strength is chosen by cross-validation over the training rows, the stronger regularisation winning a tie; the
held-out rows choose nothing. The same vectors and seed give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from appliance.training.runtime import derive_seed

STRENGTHS: Final = (5.0, 10.0, 20.0, 40.0)
"""Inverse strengths of the regularisation (scikit-learn's C). Vectors have length 1, so these suit any encoder."""
_ITERATIONS: Final = 1000

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A fitted regression: `weight` is labels x hidden. `tried` has the cross-validated accuracy of each strength."""

    weight: Vectors
    bias: Vectors
    strength: float
    tried: dict[str, float]


def fit_baseline(
    vectors: Vectors,
    numbers: Sequence[int],
    *,
    seed: int,
    folds: int,
    class_weights: bool,
    between: Callable[[int, int], None] = lambda _done, _of: None,
) -> Baseline:
    """Choose the strength and fit on all rows. `between` is told of each fit (done, of), and may raise to stop."""
    wanted = np.asarray(numbers, np.int64)
    fold = _folds(wanted, seed=seed, count=folds)
    right = dict.fromkeys(STRENGTHS, 0)
    checked = int((fold >= 0).sum())
    parts = sorted(set(fold[fold >= 0].tolist()))
    for done, (strength, part) in enumerate(product(STRENGTHS, parts), start=1):
        model = _fit(vectors[fold != part], wanted[fold != part], strength=strength, class_weights=class_weights)
        right[strength] += int((model.predict(vectors[fold == part]) == wanted[fold == part]).sum())
        between(done, len(STRENGTHS) * len(parts) + 1)
    best = max(STRENGTHS, key=lambda strength: (right[strength], -strength))
    if not checked:
        best = STRENGTHS[len(STRENGTHS) // 2]
    weight, bias = _matrix(_fit(vectors, wanted, strength=best, class_weights=class_weights))
    tried = {f"{strength:g}": count / checked for strength, count in right.items()} if checked else {}
    return Baseline(weight=weight, bias=bias, strength=best, tried=tried)


def _folds(numbers: Numbers, *, seed: int, count: int) -> Numbers:
    """Return the fold in which each row is checked: of each label about as many in each; -1 for a label's only row."""
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "folds")))
    order = random.permutation(len(numbers))
    fold = np.full(len(numbers), -1, np.int64)
    given = 0
    for label in np.unique(numbers):
        rows = order[numbers[order] == label]
        if len(rows) > 1:
            fold[rows] = (given + np.arange(len(rows))) % count
            given += len(rows)
    return fold


def _fit(vectors: Vectors, numbers: Numbers, *, strength: float, class_weights: bool) -> Any:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(C=strength, max_iter=_ITERATIONS, class_weight="balanced" if class_weights else None)
    # One thread: the products are so small that several threads spend their time waiting for each other.
    with threadpool_limits(limits=1):
        return model.fit(vectors.astype(np.float64), numbers)


def _matrix(model: Any) -> tuple[Vectors, Vectors]:
    """Return the regression as one row for each label; for two labels scikit-learn keeps their difference alone."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return weight.astype(np.float32), bias.astype(np.float32)
