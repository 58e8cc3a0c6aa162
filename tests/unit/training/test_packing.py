from __future__ import annotations

from collections import Counter

import pytest
import torch

from appliance.training.objective import NextToken, block_mask, mean_loss, positions_in
from appliance.training.packing import pack
from appliance.training.sampler import IGNORED, Example, in_batches, pad
from appliance.weights.token_ids import int32
from tests.unit.training.random_llama import random_llama

EXAMPLES = [
    Example(
        tokens=int32((row * 13 + place * 7) % 60 + 1 for place in range(3 + row % 9)),
        labels=int32((IGNORED, *((row * 13 + place * 7) % 60 + 1 for place in range(1, 3 + row % 9)))),
    )
    for row in range(40)
]


def test_every_example_is_packed_once_and_whole() -> None:
    packed = pack(EXAMPLES, length=24, seed=1)
    assert len(packed) < len(EXAMPLES) / 2
    assert all(len(sequence.tokens) <= 24 for sequence in packed)
    parts: Counter[tuple[int, ...]] = Counter()
    for sequence in packed:
        begin = 0
        for length in sequence.lengths:
            parts[tuple(sequence.tokens[begin : begin + length])] += 1
            begin += length
        assert begin == len(sequence.tokens) == len(sequence.labels)
    assert parts == Counter(tuple(example.tokens) for example in EXAMPLES)


def test_packing_depends_on_the_seed_alone() -> None:
    assert pack(EXAMPLES, length=24, seed=1) == pack(EXAMPLES, length=24, seed=1)
    assert pack(EXAMPLES, length=24, seed=1) != pack(EXAMPLES, length=24, seed=2)


def test_little_room_is_left() -> None:
    packed = pack(EXAMPLES, length=24, seed=1)
    filled = sum(len(sequence.tokens) for sequence in packed)
    assert filled / (len(packed) * 24) > 0.9


def test_segments_say_who_sees_whom() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 1, -1]])
    assert positions_in(segments).tolist() == [[0, 1, 0, 1, 2, 0]]
    assert block_mask(segments)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("labelled", [True, False], ids=["answers", "all"])
def test_packed_conversations_neither_see_nor_move_each_other(labelled: bool) -> None:
    given = EXAMPLES if labelled else [Example(tokens=one.tokens, labels=one.tokens) for one in EXAMPLES]
    model = random_llama(vocabulary=64)
    alone = mean_loss(model, in_batches(given, batch_size=1, padding=0), NextToken())
    packed = in_batches(pack(given, length=24, seed=1), batch_size=3, padding=0)
    assert packed[0].segments is not None
    assert sum(batch.targets for batch in packed) == sum(pad([one], padding=0).targets for one in given)
    assert mean_loss(model, packed, NextToken()) == pytest.approx(alone, abs=1e-5)
    leaking = [type(batch)(tokens=batch.tokens, labels=batch.labels) for batch in packed]
    assert abs(mean_loss(model, leaking, NextToken()) - alone) > 1e-4
