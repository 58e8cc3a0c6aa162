"""The API against its own description: schemathesis makes requests from /openapi.json, right ones and wrong ones.

Whatever comes, the real gateway and engine answer with a documented status and document, never with a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from appliance.gateway.table import Limits
from tests.factories.engine_client import running_encoder, running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_encoder import make_tiny_bert_gguf
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow

EXAMPLES = 15


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayBox]:
    folder = tmp_path_factory.mktemp("tiny")
    made = GatewayBox(tmp_path_factory.mktemp("box"))
    made.limits = Limits()
    with ExitStack() as stack:
        stack.enter_context(running_worker(make_tiny_gguf(folder), made.serve("desk", 1)))
        for revision, (kind, labels) in enumerate(LABELS.items(), start=2):
            encoder = make_tiny_bert_gguf(folder / f"{kind}.gguf", labels=tuple(labels))
            stack.enter_context(
                running_encoder(encoder, made.serve(kind, revision, kind=kind, categories=labels), kind)
            )
        stack.enter_context(made.running())
        yield made


LABELS: dict[str, dict[str, str]] = {
    "embed": {},
    "rerank": {"relevance": "relevance"},
    "classify": {"card": "card", "money": "money", "other": "other"},
}
"""kind of encoder -> label -> category of moderation"""
ENCODERS = {
    "/v1/embeddings": "embed",
    "/v1/rerank": "rerank",
    "/v1/classify": "classify",
    "/v1/moderations": "classify",
}
TALK = {"type": "array", "minItems": 1, "maxItems": 3, "items": {"const": {"role": "user", "content": "Tell me more."}}}
POSTED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [40, 41]},
    "/v1/embeddings": {"input": "card"},
    "/v1/rerank": {"query": "card", "documents": ["card", "money"]},
    "/v1/classify": {"input": "card"},
    "/v1/moderations": {"input": "card"},
}
"""path -> what is answered there, but for the model"""
PATHS = (*POSTED, "/v1/models", "/v1/models/{model}", "/healthz")


@pytest.fixture(scope="module")
def described(box: GatewayBox) -> Any:
    headers, url = {"authorization": f"Bearer {box.key.secret}"}, f"https://localhost:{box.port}/openapi.json"
    document = httpx.get(url, headers=headers, verify=box.trust()).raise_for_status().json()
    assert sorted(document["paths"]) == sorted(PATHS)
    for path in POSTED:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        asked = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        asked["properties"]["model"] = {"const": ENCODERS.get(path, "desk")}  # others end at the door
    # What a role asks of a message is in no schema: half of the talks are ones that can be answered.
    talk = document["components"]["schemas"]["ChatRequest"]["properties"]
    talk["messages"] = {"anyOf": [TALK, talk["messages"]]}
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize("path", POSTED)
def test_what_is_fuzzed_can_be_answered(box: GatewayBox, path: str) -> None:
    headers, body = {"authorization": f"Bearer {box.key.secret}"}, POSTED[path] | {"model": ENCODERS.get(path, "desk")}
    answer = httpx.post(f"https://localhost:{box.port}{path}", headers=headers, json=body, verify=box.trust())
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_the_events_of_a_stream_are_as_described(box: GatewayBox, described: Any, path: str) -> None:
    case = described[path]["POST"].Case(body=POSTED[path] | {"model": "desk", "stream": True, "seed": 1})
    answer = case.call_and_validate(
        base_url=f"https://localhost:{box.port}",
        headers={"authorization": f"Bearer {box.key.secret}"},
        verify=str(box.paths.authority_certificate),
        timeout=60,
        excluded_checks=[ignored_auth],
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "mode"),
    [*((path, GenerationMode.POSITIVE) for path in PATHS), *((path, GenerationMode.NEGATIVE) for path in POSTED)],
)
def test_no_request_finds_an_undocumented_answer(
    box: GatewayBox, described: Any, path: str, mode: GenerationMode
) -> None:
    operation = described[path]["POST" if path in POSTED else "GET"]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def try_one(case: Case[Any]) -> None:
        case.call_and_validate(
            base_url=f"https://localhost:{box.port}",
            headers={"authorization": f"Bearer {box.key.secret}"},
            verify=str(box.paths.authority_certificate),
            timeout=60,
            excluded_checks=[
                positive_data_acceptance,  # rules between two fields are in no schema
                ignored_auth,  # it repeats a request with the key that is given here
            ],
        )

    try_one()
