from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.errors import BadInput
from installer.storage.recovery_key import confirm, generate, normalise


class Person:
    """Writes the key down and types groups back, wrongly as often as told."""

    def __init__(self, *, mistakes: int = 0) -> None:
        self.paper = ""
        self.asked: list[int] = []
        self.mistakes = mistakes

    def show(self, key: str) -> None:
        assert not self.paper, "a key is shown once"
        self.paper = key

    def typed(self, group: int) -> str:
        self.asked.append(group)
        if len(self.asked) <= 2 * self.mistakes:
            return "cccccccc"
        return f" {self.paper.split('-')[group - 1].upper()} "


def test_a_key_is_spelled_as_systemd_spells_it() -> None:
    key = generate(lambda size: bytes(range(size)))
    assert key.startswith("cccbcdce-cfcgchci-")
    assert [len(group) for group in key.split("-")] == [8] * 8


def test_two_keys_are_never_the_same() -> None:
    assert len({generate() for _ in range(50)}) == 50


@given(st.binary(min_size=32, max_size=32))
def test_a_typed_key_may_be_spaced_and_written_in_capitals(raw: bytes) -> None:
    key = generate(lambda _: raw)
    assert normalise(f"  {key.replace('-', ' ').upper()}\n") == key


@pytest.mark.parametrize("typed", ["", "cbdefghi", "-".join(["cbdefghi"] * 7), "-".join(["cbdefghi"] * 9)])
def test_a_key_of_another_length_is_refused(typed: str) -> None:
    with pytest.raises(BadInput, match="64 letters"):
        normalise(typed)


def test_a_mistyped_letter_is_named_by_its_group_and_not_repeated() -> None:
    groups = ["cbdefghi"] * 8
    groups[4] = "cbdefgha"
    with pytest.raises(BadInput, match="Group 5") as caught:
        normalise("-".join(groups))
    assert "cbdefgha" not in str(caught.value)


def test_two_different_groups_are_typed_back() -> None:
    person = Person()
    confirm(generate(), person)
    assert len(set(person.asked)) == 2


def test_a_mistake_may_be_made_twice_but_not_three_times() -> None:
    confirm(generate(), Person(mistakes=2))
    with pytest.raises(BadInput, match="not typed back"):
        confirm(generate(), Person(mistakes=3))
