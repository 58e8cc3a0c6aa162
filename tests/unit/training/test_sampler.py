from __future__ import annotations

from collections import Counter

import torch

from appliance.training.sampler import IGNORED, ChatSampler, Example, pad, permutation
from appliance.weights.token_ids import int32
from tests.unit.training.tiny_model import DOCUMENTS, sampler

EXAMPLES = [
    Example(tokens=int32(range(1, 4 + row % 5)), labels=int32((IGNORED, *range(2, 4 + row % 5)))) for row in range(21)
]


def chats(*, batch_size: int = 4, accumulation: int = 1, seed: int = 3) -> ChatSampler:
    return ChatSampler(EXAMPLES, seed=seed, batch_size=batch_size, accumulation=accumulation, padding=0)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert permutation(50, 1, 2) == permutation(50, 1, 2)
    assert permutation(50, 1, 2) != permutation(50, 1, 3)
    assert permutation(50, 1, 2) != permutation(50, 2, 2)
    assert sorted(permutation(50, 1, 2)) == list(range(50))


def test_a_text_step_does_not_depend_on_the_steps_before() -> None:
    in_order = sampler()
    walked = [in_order.batches(step)[0].tokens for step in range(30)]
    for step in (29, 3, 17, 0):
        assert torch.equal(sampler().batches(step)[0].tokens, walked[step])


def test_an_epoch_of_text_is_the_corpus() -> None:
    total = sum(len(document) for document in DOCUMENTS)
    rows = total // 12
    seen: Counter[int] = Counter()
    text = sampler(batch_size=1)
    for step in range(rows):
        seen.update(text.batches(step)[0].tokens.flatten().tolist())
    whole = Counter(token for document in DOCUMENTS for token in document)
    assert sum(seen.values()) == rows * 12
    assert sum((whole - seen).values()) == total - rows * 12


def test_a_corpus_shorter_than_a_sequence_still_trains() -> None:
    from appliance.training.sampler import TextSampler

    short = TextSampler([int32([1, 2, 0])], seed=0, length=100, batch_size=2, accumulation=1)
    assert short.batches(5)[0].tokens.tolist() == [[1, 2, 0], [1, 2, 0]]


def test_a_chat_step_does_not_depend_on_the_steps_before() -> None:
    in_order = chats()
    walked = [in_order.batches(step)[0].tokens for step in range(20)]
    for step in (19, 2, 11, 0):
        assert torch.equal(chats().batches(step)[0].tokens, walked[step])


def test_an_epoch_shows_every_chat_once() -> None:
    source = chats(batch_size=4)
    assert source.steps_per_epoch == 6
    lengths = [
        int((row != 0).sum())
        for step in range(source.steps_per_epoch)
        for batch in source.batches(step)
        for row in batch.tokens
    ]
    assert sorted(lengths) == sorted(len(example.tokens) for example in EXAMPLES)


def test_accumulation_splits_a_step_without_changing_its_rows() -> None:
    whole, parts = chats(batch_size=8), chats(batch_size=2, accumulation=4)
    assert whole.steps_per_epoch == parts.steps_per_epoch
    for step in range(6):
        rows = [row[row != 0].tolist() for batch in whole.batches(step) for row in batch.tokens]
        split = [row[row != 0].tolist() for batch in parts.batches(step) for row in batch.tokens]
        assert rows == split


def test_padding_carries_no_loss() -> None:
    batch = pad([EXAMPLES[0], EXAMPLES[4]], padding=0)
    assert batch.tokens.tolist()[0] == [1, 2, 3, 0, 0, 0, 0]
    assert batch.labels.tolist()[0] == [IGNORED, 2, 3, *[IGNORED] * 4]
    assert batch.targets == 2 + 6


def test_an_example_without_tokens_is_padding_alone() -> None:
    empty = Example(tokens=int32([]), labels=int32([]))
    assert pad([empty, EXAMPLES[0]], padding=0).tokens.tolist() == [[0, 0, 0], [1, 2, 3]]
