from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from ulid import ULID

from appliance.kernel.clock import continue_ids_after, from_text, new_id, to_text, utc_now


def test_what_was_written_is_read_back_in_utc() -> None:
    here = datetime(2026, 3, 1, 12, 30, 15, 42, tzinfo=timezone(timedelta(hours=2)))
    assert to_text(here) == "2026-03-01T10:30:15.000042Z"
    assert from_text(to_text(here)) == here
    assert from_text(to_text(here)).tzinfo is UTC


def test_texts_sort_as_their_instants() -> None:
    instants = [utc_now() + timedelta(microseconds=step) for step in (0, 1, 999_999, 10**9)]
    assert sorted(map(to_text, instants)) == [to_text(instant) for instant in instants]


@pytest.mark.parametrize("text", ["", "2026-03-01", "2026-03-01T10:30:15.000042+00:00"])
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="match"):
        from_text(text)


def test_identifiers_are_unlike_each_other() -> None:
    found = {new_id() for _ in range(1000)}
    assert (len(found), {len(item) for item in found}) == (1000, {26})


def test_identifiers_sort_by_creation_although_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [new_id() for _ in range(100)]
    hour = 3600 * 10**9
    early = time.time_ns() - hour
    monkeypatch.setattr(time, "time_ns", lambda: early)
    found += [new_id() for _ in range(100)]
    assert found == sorted(found)


def test_identifiers_go_on_after_those_of_an_earlier_process() -> None:
    ahead = str(ULID.from_timestamp(time.time() + 0.2))
    assert new_id() < ahead
    continue_ids_after(ahead)
    continue_ids_after(new_id())
    assert ahead < new_id() < str(ULID.from_timestamp(time.time() + 3600.0))


def test_identifiers_of_a_thread_keep_their_order_beside_others() -> None:
    kept: list[list[str]] = [[] for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(new_id() for _ in range(3000))) for mine in kept]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert all(mine == sorted(mine) for mine in kept)
    assert len({item for mine in kept for item in mine}) == 4 * 3000
