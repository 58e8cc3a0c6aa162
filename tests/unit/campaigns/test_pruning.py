from __future__ import annotations

import pytest

from appliance.campaigns.pruning import pruned_at, upto

EARLIER = [{10: 1.0, 20: 0.8}, {10: 2.0, 20: 1.0}, {10: 3.0, 20: 1.5}, {10: 4.0, 20: 2.0}]


@pytest.mark.parametrize(
    ("reports", "step"),
    [
        ({10: 2.4, 20: 1.2}, None),
        ({10: 2.6}, 10),
        ({10: 2.0, 18: 2.6, 20: 1.9}, None),  # its best was good
        ({10: 2.5, 19: 2.6}, None),
        ({20: 9.0}, None),  # it is done
        ({10: 0.5, 20: 9.0}, None),  # it was good once: its best counts
        ({}, None),
        ({15: 2.6}, 15),  # what the others had last by then
        ({5: 99.0}, None),  # none of the others had said anything by then
    ],
)
def test_a_trial_stops_where_its_best_is_worse_than_the_median(reports: dict[int, float], step: int | None) -> None:
    assert pruned_at(reports, EARLIER, minimize=True) == step


def test_a_figure_to_be_maximised_is_turned_round() -> None:
    assert pruned_at({10: 2.4}, EARLIER, minimize=False) == 10
    assert pruned_at({10: 2.6}, EARLIER, minimize=False) is None


def test_nothing_is_stopped_before_enough_is_known() -> None:
    assert pruned_at({10: 99.0}, EARLIER[:3], minimize=True) is None


def test_a_stopped_trial_had_said_no_more_than_this() -> None:
    assert upto({10: 1.0, 20: 2.0}, 10) == {10: 1.0}
