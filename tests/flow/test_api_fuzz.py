"""The API against its own description: schemathesis makes requests from /openapi.json, right ones and wrong ones.

Whatever comes, the real gateway and engine answer with a documented status and document, never with a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from appliance.gateway.table import Limits
from tests.factories.engine_client import running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow

EXAMPLES = 15


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayBox]:
    model = make_tiny_gguf(tmp_path_factory.mktemp("tiny"))
    made = GatewayBox(tmp_path_factory.mktemp("box"))
    made.limits = Limits()
    with running_worker(model, made.serve("desk", 1)), made.running():
        yield made


PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"),
    *("/v1/embeddings", "/v1/rerank", "/v1/classify", "/v1/moderations"),
    *("/v1/models", "/v1/models/{model}", "/healthz"),
)


@pytest.fixture(scope="module")
def described(box: GatewayBox) -> Any:
    headers, url = {"authorization": f"Bearer {box.key.secret}"}, f"https://localhost:{box.port}/openapi.json"
    document = httpx.get(url, headers=headers, verify=box.trust()).raise_for_status().json()
    assert sorted(document["paths"]) == sorted(PATHS)
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"const": "desk"}  # others end at the door
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize(
    ("path", "mode"),
    [*((path, GenerationMode.POSITIVE) for path in PATHS), *((path, GenerationMode.NEGATIVE) for path in PATHS[:5])],
)
def test_no_request_finds_an_undocumented_answer(
    box: GatewayBox, described: Any, path: str, mode: GenerationMode
) -> None:
    operation = described[path]["GET" if path.startswith(("/v1/models", "/healthz")) else "POST"]

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
