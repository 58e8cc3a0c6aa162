from __future__ import annotations

import pytest

from appliance.api.column_text import parse_columns
from appliance.kernel.errors import BadInput


def test_pairs_become_a_mapping() -> None:
    assert parse_columns(["text=body", "label=queue"]) == {"text": "body", "label": "queue"}


@pytest.mark.parametrize(
    ("pairs", "message", "hint"),
    [
        (["prompt"], "Columns cannot be 'prompt'.", "Write them like prompt=question."),
        (
            ["label=category", "text=body", "label=label"],
            "label is mapped twice: to category and to label.",
            "A part comes from one column; leave one of the two out.",
        ),
    ],
)
def test_what_is_no_mapping_is_refused(pairs: list[str], message: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_columns(pairs)
    assert (refused.value.code, refused.value.message, refused.value.hint) == ("dataset.mapping", message, hint)
