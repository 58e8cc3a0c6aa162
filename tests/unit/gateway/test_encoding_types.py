"""Documents of the addresses that encode: what is understood, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.gateway.encoding_types import MAX_TEXTS, EncodingPlan
from appliance.gateway.endpoints import ENCODINGS
from appliance.gateway.refusals import Refusal


def parse(path: str, **fields: Any) -> EncodingPlan:
    return ENCODINGS[f"/v1/{path}"].parse(json.dumps({"model": "m", **fields}).encode())


def refused(path: str, **fields: Any) -> tuple[str, str | None, str]:
    with pytest.raises(Refusal) as refused:
        parse(path, **fields)
    assert refused.value.status == 400
    return refused.value.code, refused.value.param, refused.value.message


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_every_form_of_input(given: Any, texts: tuple[Any, ...]) -> None:
    assert parse("embeddings", input=given).texts == texts


@pytest.mark.parametrize(
    "given",
    ["", [], [""], [[]], [["a"]], ["a", 1], [[1], "a"], [True], [1.5], [-1], [1 << 40], {"a": 1}, None, 7, [None]],
)
def test_other_inputs_are_refused(given: Any) -> None:
    code, field, _ = refused("embeddings", input=given)
    assert code == "invalid_request_error"
    assert field is not None
    assert field.partition("[")[0] == "input"


def test_too_many_texts() -> None:
    assert str(MAX_TEXTS) in refused("embeddings", input=["a"] * (MAX_TEXTS + 1))[2]
    assert len(parse("embeddings", input=["a"] * MAX_TEXTS).texts) == MAX_TEXTS


def test_embedding_options() -> None:
    plan = parse("embeddings", input="a", encoding_format="base64", dimensions=7, truncate=True, user="u")
    assert (plan.base64, plan.dimensions, plan.truncate) == (True, 7, True)
    assert refused("embeddings", input="a", encoding_format="int8")[:2] == ("unsupported", "encoding_format")
    assert refused("embeddings", input="a", dimensions=0)[1] == "dimensions"


def test_rerank_takes_texts_and_documents() -> None:
    plan = parse("rerank", query="q", documents=["a", {"text": "b"}], top_n=1, return_documents=True)
    assert (plan.kind, plan.query, plan.texts, plan.top_n, plan.return_documents) == (
        "rerank",
        "q",
        ("a", "b"),
        1,
        True,
    )
    assert refused("rerank", query="q", documents=[])[1] == "documents"
    assert refused("rerank", documents=["a"])[1] == "query"
    assert refused("rerank", query="q", documents=[{"title": "x"}])[1] is not None


def test_moderation_needs_no_model_and_joins_parts() -> None:
    parts = b'[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]'
    plan = ENCODINGS["/v1/moderations"].parse(b'{"input": ' + parts + b"}")
    assert (plan.model, plan.kind, plan.texts) == ("", "classify", ("a\nb",))
    assert parse("moderations", input=["a", "b"]).texts == ("a", "b")
    assert refused("moderations", input=[{"type": "image_url"}])[:2] == ("unsupported", "input[0].type")
    assert refused("moderations", input=["a", {"type": "text", "text": "b"}])[1] == "input"
    assert refused("moderations", input=[])[1] == "input"


def test_a_body_that_is_no_document_is_refused() -> None:
    for parse_body in (endpoint.parse for endpoint in ENCODINGS.values()):
        with pytest.raises(Refusal):
            parse_body(b"[")
