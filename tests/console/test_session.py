"""The session: what it raises, and when it counts the service as lost."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.api import calls
from appliance.kernel.errors import InternalError, NotFound, Unavailable
from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import session_over


async def test_greeting_learns_who_we_are_once() -> None:
    appliance = FakeAppliance(roles=("operator",))
    session = session_over(appliance)
    await session.greet()
    await session.greet()
    assert session.roles == {"operator"}
    assert session.version == "0.1.0"
    assert appliance.sent == [("GET", "/v1/whoami"), ("GET", "/v1/status")]


async def test_silence_is_remembered_and_forgotten() -> None:
    appliance = FakeAppliance()
    session = session_over(appliance)
    appliance.away = True
    with pytest.raises(Unavailable):
        await session.send(calls.status())
    assert session.lost is not None
    assert session.lost.code == "api.not_running"
    appliance.away = False
    await session.send(calls.status())
    assert session.lost is None


async def test_busy_engine_is_no_lost_service() -> None:
    appliance = FakeAppliance()
    appliance.failures["GET /v1/models"] = Unavailable("engine.starting", "The engine is starting.")
    session = session_over(appliance)
    with pytest.raises(Unavailable):
        await session.send(calls.models())
    assert session.lost is None


async def test_refusal_of_a_call_means_that_somebody_answered() -> None:
    session = session_over(FakeAppliance())
    session.lost = Unavailable("api.not_running", "")
    with pytest.raises(NotFound):
        await session.send(calls.model("nobody@1"))
    assert session.lost is None


@pytest.mark.parametrize(
    ("raised", "code"),
    [(msgspec.ValidationError("Expected `int`"), "console.answer"), (RuntimeError("surprise"), "console.defect")],
)
async def test_a_defect_becomes_one_line(raised: Exception, code: str) -> None:
    class Broken(FakeAppliance):
        def answer(self, method: str, path: str, query: dict[str, str]) -> object:
            raise raised

    with pytest.raises(InternalError) as caught:
        await session_over(Broken()).send(calls.models())
    assert caught.value.code == code


async def test_being_cancelled_is_no_defect() -> None:
    session = session_over(FakeAppliance())
    task = asyncio.create_task(session.send(calls.job_events("01K03ZQ5XA0000000000000001", wait=10)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
