from __future__ import annotations

from typing import Any

import pytest

from appliance.kernel.errors import BadInput
from appliance.training.ranks.placement import Placement, launch_arguments
from appliance.training.recipes.registry import parse_recipe


def test_ranks_on_one_host_meet_on_its_loopback() -> None:
    given = launch_arguments(Placement(ranks=2), run_id="r")
    assert (given["min_nodes"], given["max_nodes"], given["nproc_per_node"]) == (1, 1, 2)
    assert (given["rdzv_endpoint"], given["local_addr"]) == ("127.0.0.1:0", "127.0.0.1")


def test_hosts_are_fixed_in_number_and_meet_at_the_first() -> None:
    placement = Placement(hosts=("10.0.0.1", "10.0.0.2", "10.0.0.3"), ranks=4, port=29400)
    given = launch_arguments(placement, run_id="r")
    assert (given["min_nodes"], given["max_nodes"], given["rdzv_endpoint"]) == (3, 3, "10.0.0.1:29400")
    assert placement.world == 12
    assert given["rdzv_configs"]["is_host"]


def test_a_rank_is_the_same_in_every_attempt() -> None:
    third = Placement(hosts=("10.0.0.1", "10.0.0.2", "10.0.0.3"), ranks=4, port=29400, node=2)
    assert [third.rank(local) for local in range(4)] == [8, 9, 10, 11]
    given = launch_arguments(third, run_id="r")
    assert not given["rdzv_configs"]["is_host"]
    assert (given["local_addr"], given["rdzv_endpoint"]) == ("10.0.0.3", "10.0.0.1:29400")


@pytest.mark.parametrize(
    "fields",
    [
        {"ranks": 2, "evaluate_every": 5},
        {"ranks": 8, "batch_size": 4},
        {"ranks": 0},
        {"ranks": 3, "boxes": ["alpha", "beta"]},
        {"ranks": 1, "boxes": ["alpha", "beta"]},
        {"ranks": 2, "boxes": ["alpha", "alpha"]},
        {"ranks": 1, "boxes": ["../alpha"]},
    ],
)
def test_what_does_not_fit_ranks_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        parse_recipe("train.full", fields)
