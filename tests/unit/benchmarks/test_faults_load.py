from __future__ import annotations

import pytest

from benchmarks.faults_load import Attempt, slowest_end


def attempt(end: str, begun: float, ended: float) -> Attempt:
    return Attempt(end="answered" if end == "answered" else "retryable", begun=begun, ended=ended)


def test_bad_news_is_waited_for_from_the_fault_or_from_a_later_beginning() -> None:
    attempts = [
        attempt("answered", 0.0, 90.0),
        attempt("retryable", 0.0, 10.5),  # under way at the fault
        attempt("retryable", 11.0, 13.0),  # sent while nothing answered
        attempt("retryable", 1.0, 4.0),  # before any fault
    ]
    assert slowest_end(attempts[:2], [10.0]) == pytest.approx(0.5)
    assert slowest_end(attempts[:3], [10.0]) == pytest.approx(2.0)
    assert slowest_end(attempts, [10.0, 20.0]) == pytest.approx(3.0)
    assert slowest_end([], []) == 0.0
