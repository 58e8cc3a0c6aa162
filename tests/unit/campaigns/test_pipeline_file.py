from __future__ import annotations

import pytest

from appliance.campaigns.pipeline_file import parse_pipeline_file, substitute
from appliance.kernel.errors import BadInput

GOOD = """\
pipeline: faq
steps:
  - data: faq@1
  - name: tune
    train: {recipe: lora, base: a@1, data: "${data.ref}", with: {rank: 4}}
  - register: {run: "${tune.run}", name: faq}
  - promote: {model: "${register.ref}", to: test}
  - deploy: {model: "${register.ref}", as: faq}
"""


def test_a_pipeline_is_read_in_its_order() -> None:
    file = parse_pipeline_file(GOOD.encode(), name="p.yaml")
    assert file.name == "faq"
    assert [(step.name, step.verb) for step in file.steps] == [
        ("data", "data"),
        ("tune", "train"),
        ("register", "register"),
        ("promote", "promote"),
        ("deploy", "deploy"),
    ]


@pytest.mark.parametrize(
    ("was", "put", "line", "fault"),
    [
        ("pipeline: faq", "pipeline: FAQ!", 1, "name"),
        ("steps:", "stages:", 1, "steps"),
        ("${tune.run}", "${train.run}", 6, "no earlier step"),
        ("${data.ref}", "${register.ref}", 4, "no earlier step"),
        ("${tune.run}", "${tune.ref}", 6, "it has run, digest"),
        ("to: test", "to: moon", 7, "moon"),
        ("as: faq", "named: faq", 8, "named"),
        ("name: tune", "name: data", 4, "two steps"),
        ("  - data: faq@1", "  - sing: faq@1", 3, "a step is one of"),
        ("  - data: faq@1", "  - {data: faq@1, train: {recipe: lora}}", 3, "a step is one of"),
        ("  - data: faq@1", "  - 5", 3, "a step is one of"),
        ("  - data: faq@1", "  - name: data\n    evaluate: {model: a@1}", 4, "one of data and suite"),
        (
            "  - data: faq@1",
            "  - name: data\n    evaluate: {model: a@1, data: b, suite: c}",
            4,
            "one of data and suite",
        ),
        ("pipeline: faq", "pipeline: faq\nshell: rm", 2, "shell"),
    ],
)
def test_a_fault_is_named_with_its_line(was: str, put: str, line: int, fault: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_pipeline_file(GOOD.replace(was, put).encode(), name="p.yaml")
    assert refused.value.code == "pipeline.file"
    assert f"p.yaml, line {line}:" in refused.value.message
    assert fault in refused.value.message


@pytest.mark.parametrize("key", ["schedule", "on_drift"])
def test_what_starts_a_pipeline_by_itself_is_refused_as_not_yet_there(key: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_pipeline_file((GOOD + f"{key}: daily 02:00\n").encode(), name="p.yaml")
    assert refused.value.code == "pipeline.not_yet"


def test_values_are_replaced_in_every_text_and_never_executed() -> None:
    given = {"a": "x ${s.v} ${s.v}", "b": ["${s.v}", 5], "c": {"d": "$(id) `id` ${s.v}"}}
    assert substitute(given, lambda wanted: f"<{wanted}>") == {
        "a": "x <s.v> <s.v>",
        "b": ["<s.v>", 5],
        "c": {"d": "$(id) `id` <s.v>"},
    }
