from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.residency.plan import TURN, Decision, Member, Place, Room, decide, size, span

NOW = 1000.0
GIB = 1 << 30


def member(revision: int, needs: int = 1, place: Place = Place.RESIDENT, **more: Any) -> Member:
    return Member(revision=revision, name=f"m{revision}", needs=needs * GIB, place=place, **more)


def outcome(*members: Member, budget: int = 4, available: int = 100) -> list[tuple[str, int]]:
    return [(entry.action, entry.revision) for entry in told(*members, budget=budget, available=available)]


def told(*members: Member, budget: int = 4, available: int = 100) -> list[Decision]:
    return decide(members, Room(budget=budget * GIB, available=available * GIB), NOW)


def test_what_fits_is_loaded_and_what_is_not_asked_for_does_not_push_others_out() -> None:
    assert outcome(member(1), member(2, 2, Place.ABSENT, home=True)) == [("load", 2)]
    assert outcome(member(1, 3), member(2, 2, Place.ABSENT, home=True)) == [("wait", 2)]
    assert outcome(member(1), member(2, 1, Place.ABSENT)) == []


def test_the_least_recently_used_leaves_for_one_that_is_asked_for() -> None:
    asked = member(9, 2, Place.ABSENT, asked=True)
    assert outcome(member(1, 2, used=10), member(2, 2, used=5), asked) == [("unload", 2), ("wait", 9)]
    [unload, wait] = told(member(1, 2, used=940), member(2, 2, used=950), asked)
    assert unload.why == "least recently used (1 min ago); frees 2.0 GiB for m9"
    assert "loads when what leaves has left" in wait.why


def test_only_as_many_leave_as_needed_and_what_leaves_already_counts() -> None:
    asked = member(9, 2, Place.ABSENT, asked=True)
    assert outcome(member(1, 2, Place.LEAVING), member(2, 2), asked) == [("wait", 9)]
    assert outcome(member(1, used=1), member(2, used=2), member(3, used=3), member(4, used=4), asked) == [
        ("unload", 1),
        ("unload", 2),
        ("wait", 9),
    ]


def test_pinned_models_stay_and_the_refusal_says_so() -> None:
    [refusal] = told(member(1, 3, pinned=True), member(9, 2, Place.ABSENT, asked=True))
    assert (refusal.action, refusal.why) == (
        "refuse",
        "needs 2.0 GiB; serving may use 4.0 GiB, of which pinned models hold 3.0 GiB",
    )
    assert outcome(member(9, 5, Place.ABSENT, asked=True)) == [("refuse", 9)]


def test_a_pinned_model_comes_in_by_itself_and_pushes_others_out() -> None:
    assert outcome(member(1, 3), member(2, 2, Place.ABSENT, pinned=True)) == [("unload", 1), ("wait", 2)]


def test_what_answers_keeps_its_turn_and_leaves_after_it() -> None:
    asked = member(9, 4, Place.ABSENT, asked=True)
    assert outcome(member(1, 3, active=1, since=NOW - TURN + 1), asked) == [("wait", 9)]
    assert outcome(member(1, 3, active=1, since=NOW - TURN), asked) == [("unload", 1), ("wait", 9)]


def test_an_idle_model_leaves_after_its_time_unless_pinned_or_busy() -> None:
    assert outcome(member(1, used=900, idle_timeout=60)) == [("unload", 1)]
    assert outcome(member(1, used=980, idle_timeout=60)) == []
    assert outcome(member(1, since=980, idle_timeout=60)) == []
    assert outcome(member(1, used=900, idle_timeout=60, pinned=True)) == []
    assert outcome(member(1, used=900, idle_timeout=60, active=1)) == []


def test_what_the_system_has_left_bounds_too() -> None:
    [wait] = told(member(9, 2, Place.ABSENT, asked=True), available=1)
    assert wait.action == "wait"
    assert "the system has 1.0 GiB available" in wait.why


def test_two_that_are_asked_for_do_not_count_the_same_memory_twice() -> None:
    first, second = (member(number, 3, Place.ABSENT, asked=True) for number in (8, 9))
    assert outcome(member(1, 4), first, second) == [("unload", 1), ("wait", 8), ("wait", 9)]
    assert outcome(first, second) == [("load", 8), ("wait", 9)]


members_of = st.lists(
    st.builds(
        Member,
        revision=st.integers(1, 10**6),
        name=st.just("m"),
        needs=st.integers(1, 8),
        place=st.sampled_from(Place),
        pinned=st.booleans(),
        asked=st.booleans(),
        home=st.booleans(),
        active=st.integers(0, 2),
        used=st.floats(0, NOW),
        since=st.floats(0, NOW),
        idle_timeout=st.sampled_from([0.0, 10.0]),
    ),
    max_size=8,
    unique_by=lambda entry: entry.revision,
)


@settings(deadline=None)
@given(members_of, st.integers(0, 20), st.integers(0, 20))
def test_loads_never_exceed_the_budget_and_nobody_pinned_or_asked_for_leaves(
    members: list[Member], budget: int, available: int
) -> None:
    known = {entry.revision: entry for entry in members}
    decisions = decide(members, Room(budget=budget, available=available), NOW)
    loads = [known[entry.revision] for entry in decisions if entry.action == "load"]
    taken = sum(entry.needs for entry in members if entry.place != Place.ABSENT)
    if loads:
        assert taken + sum(entry.needs for entry in loads) <= budget
        assert sum(entry.needs for entry in loads) <= available
    for entry in decisions:
        who = known[entry.revision]
        if entry.action == "unload":
            assert who.place == Place.RESIDENT
            assert not who.pinned
            assert not who.asked
        else:
            assert who.place == Place.ABSENT
    unloads = [entry.revision for entry in decisions if entry.action == "unload"]
    assert len(unloads) == len(set(unloads))


def test_words() -> None:
    assert (size(3 << 20), size(3 << 29), span(59), span(90), span(7200), span(2 * 86400)) == (
        "3 MiB",
        "1.5 GiB",
        "59 s",
        "2 min",
        "2 h",
        "2 d",
    )


def on_gpu(revision: int, vram: int, place: Place = Place.RESIDENT, device: str = "CUDA0", **more: Any) -> Member:
    return member(revision, 1, place, device=device, device_needs=vram * GIB, **more)


def said(*members: Member, **devices: int) -> list[Decision]:
    room = Room(budget=8 * GIB, available=100 * GIB, devices={name: size * GIB for name, size in devices.items()})
    return decide(members, room, NOW)


def test_a_model_needs_room_in_main_memory_and_on_its_device() -> None:
    [load] = said(on_gpu(1, 3), on_gpu(2, 4, Place.ABSENT, home=True), CUDA0=8)
    assert load.why == (
        "needs 1.0 GiB, which leaves 6.0 GiB of serving's memory; and 4.0 GiB of CUDA0, which leaves 1.0 GiB there"
    )
    [wait] = said(on_gpu(1, 3), on_gpu(2, 6, Place.ABSENT, home=True), CUDA0=8)
    assert (wait.action, wait.why) == ("wait", "needs 6.0 GiB of CUDA0, 5.0 GiB are free; loads when asked for")


def test_only_those_on_the_short_device_leave_and_it_is_named() -> None:
    asked = on_gpu(9, 6, Place.ABSENT, asked=True)
    unload, wait = said(on_gpu(1, 3, used=9), on_gpu(2, 3, device="CUDA1", used=1), member(3), asked, CUDA0=8, CUDA1=8)
    assert (unload.revision, unload.why) == (1, "least recently used (17 min ago); frees 3.0 GiB of CUDA0 for m9")
    assert wait.action == "wait"


def test_what_no_device_can_hold_is_refused_in_words() -> None:
    [refusal] = said(on_gpu(9, 9, Place.ABSENT, asked=True), CUDA0=8)
    assert (refusal.action, refusal.why) == ("refuse", "needs 9.0 GiB of CUDA0; serving may use 8.0 GiB there")
    [gone] = said(on_gpu(9, 1, Place.ABSENT, asked=True))
    assert (gone.action, gone.why) == ("refuse", "needs 1.0 GiB of CUDA0; serving may use 0 MiB there")
    [held] = said(on_gpu(1, 3, pinned=True), on_gpu(9, 6, Place.ABSENT, asked=True), CUDA0=8)
    assert held.why.endswith("8.0 GiB there, of which pinned models hold 3.0 GiB")
    [busy] = said(on_gpu(1, 3, active=1, since=NOW), on_gpu(9, 6, Place.ABSENT, asked=True), CUDA0=8)
    assert busy.why == "needs 6.0 GiB of CUDA0 and has to wait: what is in memory is pinned, loading or answering"


@settings(deadline=None)
@given(
    members_of,
    st.lists(st.tuples(st.sampled_from(["", "A", "B"]), st.integers(0, 8)), min_size=8, max_size=8),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_loads_exceed_no_memory(members: list[Member], devices: list[tuple[str, int]], main: int, gpu: int) -> None:
    placed = [
        dataclasses.replace(entry, device=device, device_needs=needs if device else 0)
        for entry, (device, needs) in zip(members, devices, strict=False)
    ]
    known = {entry.revision: entry for entry in placed}
    decisions = decide(placed, Room(budget=main, available=main, devices={"A": gpu, "B": gpu}), NOW)
    for device in ("A", "B"):
        loads = [known[entry.revision] for entry in decisions if entry.action == "load"]
        taken = sum(entry.device_needs for entry in placed if entry.place != Place.ABSENT and entry.device == device)
        if coming := sum(entry.device_needs for entry in loads if entry.device == device):
            assert taken + coming <= gpu
