from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.fair_queue import OUTPUT_WEIGHT, FairQueue
from appliance.engine.frames import Priority
from appliance.engine.scheduler import Sequence


def _request(tenant: str, priority: Priority = Priority.INTERACTIVE) -> Sequence:
    return Sequence(tenant=tenant, tokens=[1], prompt=1, limit=2, priority=priority)


def _take(queue: FairQueue, cost: int) -> str:
    sequence = next(queue.in_turn())
    queue.remove(sequence)
    queue.charge(sequence.tenant, prompt=cost)
    return sequence.tenant


def test_tenants_take_turns_by_what_they_were_given() -> None:
    queue = FairQueue()
    for tenant in ("a", "a", "a", "b", "b", "b"):
        queue.push(_request(tenant))
    assert [_take(queue, 300), *(_take(queue, 100) for _ in range(5))] == ["a", "b", "b", "b", "a", "a"]


def test_generated_tokens_count() -> None:
    queue = FairQueue()
    queue.push(_request("a"))
    queue.push(_request("b"))
    queue.charge("a", generated=10)
    queue.charge("b", prompt=int(10 * OUTPUT_WEIGHT) - 1)
    assert [_take(queue, 0), _take(queue, 0)] == ["b", "a"]


def test_interactive_goes_first_whatever_it_was_given() -> None:
    queue = FairQueue()
    queue.push(_request("a", Priority.BATCH))
    queue.push(_request("c", Priority.NORMAL))
    queue.push(_request("b"))
    queue.charge("b", prompt=1000)
    queue.charge("c", prompt=100)
    assert [sequence.tenant for sequence in queue.in_turn()] == ["b", "c", "a"]
    assert (queue.waiting(Priority.BATCH), queue.of("a"), len(queue)) == (1, 1, 3)


def test_who_was_away_has_no_credit() -> None:
    queue = FairQueue()
    for _ in range(20):
        queue.push(_request("busy"))
    for _ in range(9):
        _take(queue, 100)
    for _ in range(3):
        queue.push(_request("back"))
    assert [_take(queue, 100) for _ in range(4)] in (
        ["busy", "back", "busy", "back"],
        ["back", "busy", "back", "busy"],
    )


def test_who_comes_back_keeps_its_place() -> None:
    queue = FairQueue()
    first, second = _request("a"), _request("a")
    queue.push(second)
    queue.push(first, first=True)
    assert list(queue.in_turn()) == [first, second]
    with pytest.raises(ValueError, match="deque"):
        queue.remove(_request("a"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 100)), min_size=1, max_size=60))
def test_backlogged_tenants_are_never_far_apart(services: list[tuple[int, int]]) -> None:
    """Whatever the requests cost: while all wait, service differs by one request's at most (VTC, theorem 4.4)."""
    queue, given_to = FairQueue(), dict.fromkeys("abc", 0)
    for tenant in "abc":
        for _ in range(len(services)):
            queue.push(_request(tenant))
    for _, cost in services:
        given_to[_take(queue, cost)] += cost
        assert max(given_to.values()) - min(given_to.values()) <= 100


@settings(deadline=None)
@given(st.lists(st.sampled_from(["push a", "push b", "push c", "take", "charge a", "charge b"]), max_size=80))
def test_nobody_is_lost_and_the_books_stay_small(acts: list[str]) -> None:
    queue, waiting = FairQueue(), list[str]()
    for act in acts:
        match act.split():
            case ["push", tenant]:
                queue.push(_request(tenant))
                waiting.append(tenant)
            case ["charge", tenant]:
                queue.charge(tenant, generated=7)
            case _ if waiting:
                waiting.remove(_take(queue, 50))
        assert sorted(sequence.tenant for sequence in queue.in_turn()) == sorted(waiting)
        assert len(queue) == len(waiting)
        assert len(queue._served) <= 3
