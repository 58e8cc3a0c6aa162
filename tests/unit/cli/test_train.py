from __future__ import annotations

import pytest

from appliance.cli.train import parameters_of
from appliance.kernel.errors import BadInput


def test_values_are_json_where_they_can_be_else_text() -> None:
    pairs = ("steps=10", "learning_rate=1e-3", "name=chat", "list=[1,2]", "flag=true", "empty=", "equation=a=b")
    assert parameters_of(pairs) == {
        "steps": 10,
        "learning_rate": 0.001,
        "name": "chat",
        "list": [1, 2],
        "flag": True,
        "empty": "",
        "equation": "a=b",
    }


@pytest.mark.parametrize("pair", ["steps", "=1", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(BadInput):
        parameters_of((pair,))
