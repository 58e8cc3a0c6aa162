"""The regression: it separates what can be separated, chooses without the held-out rows, repeats, and weighs labels."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.training.encoders.baseline import STRENGTHS, Baseline, Numbers, Vectors, fit_baseline


def clusters(sizes: tuple[int, ...], *, spread: float = 0.3) -> tuple[Vectors, list[int]]:
    random = np.random.Generator(np.random.PCG64(1))
    numbers = [label for label, size in enumerate(sizes) for _ in range(size)]
    middles = np.eye(len(sizes), 8)
    vectors = middles[numbers] + spread * random.standard_normal((len(numbers), 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), numbers


def fit(vectors: Vectors, numbers: list[int], *, weights: bool = False, seed: int = 0) -> Baseline:
    return fit_baseline(
        vectors,
        numbers,
        labels=len(set(numbers)),
        seed=seed,
        validation_fraction=0.2,
        class_weights=weights,
    )


def found(model: Baseline, vectors: Vectors) -> Numbers:
    return np.asarray((vectors @ model.weight.T + model.bias).argmax(1), np.int64)


@pytest.mark.parametrize("sizes", [(30, 30), (20, 20, 20)])
def test_two_labels_and_three_are_told_apart(sizes: tuple[int, ...]) -> None:
    vectors, numbers = clusters(sizes)
    model = fit(vectors, numbers)
    assert model.weight.shape == (len(sizes), 8)
    assert (found(model, vectors) == numbers).mean() > 0.9
    assert model.strength in STRENGTHS
    assert len(model.tried) == len(STRENGTHS)


def test_equal_input_gives_equal_bits_and_the_seed_decides_the_validation() -> None:
    vectors, numbers = clusters((20, 20, 20), spread=0.6)
    one, again, other = fit(vectors, numbers), fit(vectors, numbers), fit(vectors, numbers, seed=1)
    assert (one.weight == again.weight).all()
    assert one.tried == again.tried != other.tried


def test_rare_labels_count_more_when_asked_to() -> None:
    vectors, numbers = clusters((200, 8), spread=0.8)
    plain, weighed = fit(vectors, numbers), fit(vectors, numbers, weights=True)
    assert found(weighed, vectors).sum() > found(plain, vectors).sum()


def test_labels_with_one_row_are_fitted_and_not_checked() -> None:
    vectors, numbers = clusters((1, 1, 1))
    model = fit(vectors, numbers)
    assert model.tried == {}
    assert (found(model, vectors) == numbers).all()


def test_whoever_waits_is_told_and_may_stop() -> None:
    class Stop(Exception):
        pass

    def between(done: int) -> None:
        if done == 2:
            raise Stop

    vectors, numbers = clusters((10, 10))
    with pytest.raises(Stop):
        fit_baseline(vectors, numbers, labels=2, seed=0, validation_fraction=0.2, class_weights=False, between=between)
