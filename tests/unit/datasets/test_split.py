from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.datasets.prepare import HELDOUT, TRAIN, hashed_side, prompt_digest
from appliance.datasets.split import LEFT_OUT, Split, Way, parse_way, sides_of, time_of, what_decides
from appliance.kernel.errors import BadInput
from tests.unit.datasets.conftest import asked, labelled


def way(by: str, *, train: int = 80, heldout: int = 20, seed: int = 0) -> Way:
    return parse_way(by, train=train, heldout=heldout, seed=seed)


def split(rows: list[dict[str, Any]], chosen: Way) -> list[str]:
    deciding = [what_decides(row, prompt_digest(row), chosen) for row in rows]
    return sides_of([one for one in deciding if one is not None], chosen)


@pytest.mark.parametrize(
    ("text", "shares", "code"),
    [
        ("chance", (80, 20), "dataset.split_by"),
        ("", (80, 20), "dataset.split_by"),
        (None, (80, 20), "dataset.split_by"),
        ("group", (80, 20), "dataset.split_by"),
        ("time:", (80, 20), "dataset.split_by"),
        ("hash:x", (80, 20), "dataset.split_by"),
        ("hash", (90, 20), "dataset.split_shares"),
        ("hash", (0, 20), "dataset.split_shares"),
        ("hash", (80.0, 20), "dataset.split_shares"),
        ("hash", (True, 20), "dataset.split_shares"),
    ],
)
def test_ways_that_are_none(text: object, shares: tuple[object, object], code: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse_way(text, train=shares[0], heldout=shares[1], seed=0)
    assert raised.value.code == code


def test_by_hash_a_row_has_the_side_that_an_import_gives_it() -> None:
    rows = [asked(f"q{i}", "a") for i in range(300)]
    expected = [hashed_side(3, prompt_digest(row), heldout_percent=20) for row in rows]
    assert split(rows, way("hash", seed=3)) == expected
    some = split(rows, way("hash", train=30, heldout=20, seed=3))
    assert {LEFT_OUT, TRAIN, HELDOUT} == set(some)
    assert [side for side in some if side == HELDOUT] == [side for side in expected if side == HELDOUT]


def test_a_stratified_split_keeps_every_label_in_proportion() -> None:
    rows = [labelled(f"t{label}{i}", label) for label, count in (("a", 100), ("b", 10), ("c", 3)) for i in range(count)]
    sides = split(rows, way("stratified"))
    heldout = Counter(row["label"] for row, side in zip(rows, sides, strict=True) if side == HELDOUT)
    assert heldout == {"a": 20, "b": 2, "c": 1}
    assert split(rows, way("stratified")) == sides
    assert split(rows, way("stratified", seed=1)) != sides


def test_what_cannot_be_stratified_is_refused() -> None:
    with pytest.raises(BadInput) as raised:
        split([asked("q", "a")], way("stratified"))
    assert raised.value.code == "dataset.split_by"


def test_groups_stay_together() -> None:
    rows = [labelled(f"t{i}", "x", who=f"g{i % 10}") for i in range(100)]
    sides = split(rows, way("group:who"))
    assert Counter(sides) == {TRAIN: 80, HELDOUT: 20}
    for group in range(10):
        assert len({side for i, side in enumerate(sides) if i % 10 == group}) == 1


def test_the_newest_are_held_out_and_one_time_stays_together() -> None:
    days = ["2026-01-01"] * 3 + ["2026-01-02"] * 5 + ["2026-01-03"] * 2
    rows = [labelled(f"t{i}", "x", day=day) for i, day in enumerate(days)]
    assert split(rows, way("time:day")) == [TRAIN] * 8 + [HELDOUT] * 2
    assert split(rows, way("time:day", train=50)) == [LEFT_OUT] * 3 + [TRAIN] * 5 + [HELDOUT] * 2
    assert split(rows[::-1], way("time:day")) == [HELDOUT] * 2 + [TRAIN] * 8


@pytest.mark.parametrize("days", [["2026-01-01"] * 10, ["2026-01-01"] + ["2026-01-02"] * 9])
def test_times_that_allow_no_such_split_are_refused(days: list[str]) -> None:
    rows = [labelled(f"t{i}", "x", day=day) for i, day in enumerate(days)]
    with pytest.raises(BadInput) as raised:
        split(rows, way("time:day"))
    assert raised.value.code == "dataset.split_by"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020/03/27", "2020-03-27T00:00:00+00:00"),
        ("27.3.2020", "2020-03-27T00:00:00+00:00"),
        ("2020-03-27T10:00:00+02:00", "2020-03-27T08:00:00+00:00"),
        ("1585267200", "2020-03-27T00:00:00+00:00"),
        ("yesterday", ""),
        ("", ""),
        ("2020-13-01", ""),
    ],
)
def test_times_are_understood(text: str, expected: str) -> None:
    assert time_of(text) == expected


def test_a_row_without_a_value_decides_nothing() -> None:
    assert what_decides(labelled("t", "x", day="soon"), b"", way("time:day")) is None
    assert what_decides(labelled("t", "x"), b"", way("group:day")) is None
    assert what_decides(labelled("t", "x"), b"p", way("group:label")) == Split(prompt=b"p", value="x")


_UNITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=80)


@given(_UNITS, st.sampled_from(["hash", "stratified"]), st.integers(0, 3), st.integers(1, 99))
def test_what_is_asked_alike_is_on_one_side(units: list[tuple[int, str]], by: str, seed: int, heldout: int) -> None:
    rows = [Split(prompt=str(number).encode(), label=label if by == "stratified" else "") for number, label in units]
    sides = sides_of(rows, way(by, train=100 - heldout, heldout=heldout, seed=seed))
    assert LEFT_OUT not in sides
    found: dict[bytes, set[str]] = {}
    for row, side in zip(rows, sides, strict=True):
        found.setdefault(row.prompt, set()).add(side)
    assert all(len(one) == 1 for one in found.values())
