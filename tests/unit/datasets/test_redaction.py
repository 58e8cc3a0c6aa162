from __future__ import annotations

from typing import Any

import pytest

from appliance.datasets.redaction import redacted_content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"text": "a@b.org", "label": "a@b.org"}, {"text": "<EMAIL>", "label": "a@b.org"}),
        ({"prompt": "to a@b.org:", "completion": "x"}, {"prompt": "to <EMAIL>:", "completion": "x"}),
        (
            {"messages": [{"role": "user", "content": "q"}], "chosen": "a@b.org", "rejected": "no", "meta": {"k": "v"}},
            {"messages": [{"role": "user", "content": "q"}], "chosen": "<EMAIL>", "rejected": "no", "meta": {"k": "v"}},
        ),
    ],
)
def test_texts_are_marked_and_labels_stay(content: dict[str, Any], expected: dict[str, Any]) -> None:
    assert redacted_content(content) == (expected, {"email": 1})


def test_a_row_without_personal_data_stays_as_it_is() -> None:
    content = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert redacted_content(content) == (content, {})
