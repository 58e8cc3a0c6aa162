"""Batches of rows: every row once an epoch, a pure function of seed and step, similar lengths together."""

from __future__ import annotations

from appliance.training.encoders.batches import RowSampler, labelled_batch

LENGTHS = [(row * 7) % 23 + 1 for row in range(50)]


def sampler(seed: int = 3, *, batch_size: int = 4, accumulation: int = 2) -> RowSampler[list[int]]:
    return RowSampler(LENGTHS, list, seed=seed, batch_size=batch_size, accumulation=accumulation)


def test_an_epoch_shows_every_row_once() -> None:
    rows = sampler()
    assert rows.steps_per_epoch == 7
    shown = [row for step in range(7, 14) for batch in rows.batches(step) for row in batch]
    assert sorted(shown) == list(range(50))


def test_a_step_alone_is_what_it_is_in_a_run() -> None:
    whole = sampler()
    steps = [whole.batches(step) for step in range(14)]
    assert [sampler().batches(step) for step in (9, 2)] == [steps[9], steps[2]]
    assert steps[:7] != steps[7:]
    assert sampler(seed=4).batches(0) != steps[0]


def test_rows_of_a_batch_are_alike() -> None:
    def spread(batches: list[list[int]]) -> float:
        return sum(max(LENGTHS[row] for row in rows) - min(LENGTHS[row] for row in rows) for rows in batches) / 14

    rows = sampler()
    sorted_in = [batch for step in range(7) for batch in rows.batches(step)]
    unsorted = [list(range(start, min(start + 4, 50))) for start in range(0, 50, 4)]
    assert spread(sorted_in) < spread(unsorted) / 2


def test_padding_is_masked() -> None:
    batch = labelled_batch([1, 0], [(5, 6, 7), (8,)], [0, 2], padding=9)
    assert batch.tokens.tolist() == [[8, 9, 9], [5, 6, 7]]
    assert batch.mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.labels.tolist() == [2, 0]
    assert batch.targets == 2
