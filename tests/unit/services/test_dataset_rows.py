from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from appliance.kernel.errors import BadInput
from appliance.services import dataset_rows
from appliance.services.context import Context
from tests.factories.appliance import head, stored_dataset, trail

ROWS = [{"text": f"row {number} é"} for number in range(25)]


def lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in rows)


def test_pages_join_to_the_whole_and_each_is_audited(ctx: Context) -> None:
    ref = stored_dataset(ctx, "x", train=lines(ROWS), heldout=b"")
    before = head(ctx)
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = dataset_rows.page(ctx, ref, part="train", after=after, limit=10)
        found += page.rows
        if not page.next:
            break
        after = page.next
    assert found == ROWS
    assert trail(ctx, since=before) == [("dataset.read", "done")] * 3
    empty = dataset_rows.page(ctx, ref, part="heldout", after=0, limit=10)
    assert (empty.rows, empty.next) == ((), 0)


@pytest.mark.parametrize(("part", "after"), [("elsewhere", 0), ("train", 3), ("train", 10**9)])
def test_places_that_are_none_are_refused(ctx: Context, part: str, after: int) -> None:
    ref = stored_dataset(ctx, "x", train=lines(ROWS))
    with pytest.raises(BadInput) as raised:
        dataset_rows.page(ctx, ref, part=part, after=after, limit=10)
    assert raised.value.code == "dataset.part"


def test_a_page_has_a_bounded_size(ctx: Context) -> None:
    ref = stored_dataset(ctx, "x", train=lines([{"text": "x" * 1_000_000}] * 8))
    page = dataset_rows.page(ctx, ref, part="train", after=0, limit=5000)
    assert len(page.rows) == 5
    assert page.next


def test_versions_are_compared_by_row_and_side(ctx: Context) -> None:
    kept, moved, gone, new = ({"text": word} for word in ("kept", "moved", "gone", "new"))
    one = stored_dataset(ctx, "x", train=lines([kept, moved, gone]), samples=[{"text": "a", "meta": {"day": "1"}}])
    other = stored_dataset(ctx, "x", train=lines([kept | {"meta": {"day": "2"}}, new]), heldout=lines([moved]))
    found = dataset_rows.diff(ctx, one, other)
    assert (found.before.dataset.ref, found.after.dataset.ref) == ("x@1", "x@2")
    assert found.kept == {"train": 1, "heldout": 0}
    assert found.added == {"train": 1, "heldout": 0}
    assert found.removed == {"train": 1, "heldout": 0}
    assert found.moved == {"train": 0, "heldout": 1}
    assert found.columns == {"added": (), "removed": ("meta.day", "text")}
