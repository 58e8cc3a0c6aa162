"""What the class and the share group of an API key do, from HTTPS down to a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.access.keys import FreshKey
from tests.factories.engine_client import connected, running_worker
from tests.factories.gateway_box import GatewayBox
from tests.factories.tiny_llama import make_tiny_gguf

pytestmark = pytest.mark.slow

DOCUMENT = "The quick brown fox jumps over the lazy dog while the other dogs sleep in the sun. " * 2
JOBS = 12


@pytest.fixture
def box(tmp_path: Path) -> Iterator[GatewayBox]:
    made = GatewayBox(tmp_path / "box")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("tiny"))


def _asked(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "desk", "prompt": prompt, "temperature": 0, "max_tokens": 4, "ignore_eos": True, **more}


async def _cached(box: GatewayBox, key: FreshKey, prompt: str) -> int:
    async with box.http(key) as client:
        answer = await client.post("/v1/completions", json=_asked(prompt))
    assert answer.status_code == 200, answer.text
    cached: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached


async def test_a_batch_key_waits_behind_an_interactive_one(box: GatewayBox, model: Path) -> None:
    """One slot: what runs for a batch key gives it up, which requests of one class never do for each other."""
    night = box.add_key("night", priority="batch")
    with running_worker(model, socket := box.serve("desk", 1), "--slots", "1"), connected(socket) as engine:
        await box.start()
        async with box.http(night) as batch, box.http() as people:
            job = _asked("Summarise the archive.", max_tokens=200)
            running, begun = asyncio.Event(), []

            async def work(number: int) -> int:
                async with batch.stream("POST", "/v1/completions", json=job | {"stream": True}) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {"):
                            begun.append(number)
                            running.set()
                return number

            jobs = [asyncio.create_task(work(number)) for number in range(JOBS)]
            await running.wait()
            assert engine.state().preempted == 0
            assert (await people.post("/v1/completions", json=_asked("A question."))).status_code == 200
            assert sum(task.done() for task in jobs) < JOBS
            state = engine.state()
            assert state.preempted >= 1
            assert state.waiting_batch >= 1
            assert sorted(await asyncio.gather(*jobs)) == list(range(JOBS))
            assert set(begun) == set(range(JOBS))


async def test_one_group_shares_a_cached_prefix_and_nobody_else_does(box: GatewayBox, model: Path) -> None:
    first, second = (box.add_key(f"law-{number}", share_group="law") for number in (1, 2))
    strangers = [
        box.add_key("alone"),
        box.add_key("other", share_group="sales"),
        box.add_key("named-like-a-key", share_group=first.id),
        box.add_key("batch", share_group="", priority="batch"),
    ]
    with running_worker(model, box.serve("desk", 1), "--idle-cells", "1024"):
        await box.start()
        assert await _cached(box, first, DOCUMENT) == 0
        for stranger in strangers:
            assert await _cached(box, stranger, DOCUMENT) == 0
        assert await _cached(box, second, DOCUMENT) > 0
        assert await _cached(box, first, DOCUMENT) > 0
        box.more_keys[1] = msgspec.structs.replace(box.more_keys[1], share_group="")
        await box.adopt()  # the key left the group: what the group has is not its own
        assert await _cached(box, second, DOCUMENT) == 0
