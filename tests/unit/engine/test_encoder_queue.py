from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.encoder import Passage
from appliance.engine.encoder_queue import MicroBatches
from appliance.engine.frames import Priority


def texts(*lengths: int) -> list[Passage]:
    return [Passage((0,) * length, length) for length in lengths]


def queue(*, tokens: int = 10, sequences: int = 4, padded: bool = False) -> MicroBatches[str]:
    return MicroBatches(tokens=tokens, sequences=sequences, padded=padded)


def taken(batches: MicroBatches[str]) -> list[tuple[str, int, int]]:
    return [(part.owner, part.first, len(part.passages)) for part in batches.take()]


def test_tenants_share_a_batch_in_turn() -> None:
    batches = queue()
    batches.add("busy", "many", texts(2, 2, 2, 2, 2, 2))
    batches.add("quiet", "one", texts(2))
    assert taken(batches) == [("many", 0, 3), ("one", 0, 1)]
    assert taken(batches) == [("many", 3, 3)]
    assert (taken(batches), batches.waiting) == ([], 0)


def test_a_lower_class_has_the_room_that_is_left() -> None:
    batches = queue()
    batches.add("night", "archive", texts(2, 2, 2, 2), Priority.BATCH)
    batches.add("day", "report", texts(2, 2, 2), Priority.NORMAL)
    batches.add("night", "question", texts(2, 2))
    assert taken(batches) == [("question", 0, 2), ("report", 0, 2)]
    assert taken(batches) == [("report", 2, 1), ("archive", 0, 3)]
    batches.remove("archive")
    assert (taken(batches), batches.waiting) == ([], 0)


def test_tokens_bound_a_batch_and_a_shorter_text_of_another_tenant_still_fits() -> None:
    batches = queue()
    batches.add("a", "long", texts(8, 8))
    batches.add("b", "short", texts(2, 2))
    assert taken(batches) == [("long", 0, 1), ("short", 0, 1)]
    assert taken(batches) == [("long", 1, 1), ("short", 1, 1)]


def test_a_padded_batch_counts_every_text_as_its_longest() -> None:
    batches = queue(padded=True)
    batches.add("a", "mixed", texts(1, 6, 1))
    assert taken(batches) == [("mixed", 0, 1)]
    assert taken(batches) == [("mixed", 1, 1)]


def test_one_text_is_taken_whatever_its_length() -> None:
    batches = queue(tokens=4)
    batches.add("a", "huge", texts(9))
    assert taken(batches) == [("huge", 0, 1)]


def test_a_removed_request_leaves_the_others() -> None:
    batches = queue()
    batches.add("a", "gone", texts(1, 1))
    batches.add("a", "kept", texts(1))
    batches.remove("gone")
    assert taken(batches) == [("kept", 0, 1)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 12), min_size=1, max_size=8)), max_size=8),
    st.booleans(),
)
def test_every_text_is_computed_once_in_order_and_within_the_bounds(
    requests: list[tuple[str, list[int]]], padded: bool
) -> None:
    batches: MicroBatches[int] = MicroBatches(tokens=12, sequences=3, padded=padded)
    for number, (tenant, lengths) in enumerate(requests):
        batches.add(tenant, number, texts(*lengths))
    seen: dict[int, list[int]] = {number: [] for number in range(len(requests))}
    while batch := batches.take():
        sizes = [len(passage.tokens) for part in batch for passage in part.passages]
        assert len(sizes) <= 3
        assert (max(sizes) * len(sizes) if padded else sum(sizes)) <= 12
        for part in batch:
            assert part.first == len(seen[part.owner])
            seen[part.owner] += [len(passage.tokens) for passage in part.passages]
    assert seen == {number: lengths for number, (_, lengths) in enumerate(requests)}
