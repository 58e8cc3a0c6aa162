from __future__ import annotations

import asyncio

import pytest

from appliance.daemon.runtime import go_on_doing
from appliance.kernel.errors import IntramurosError, StorageFailure


@pytest.mark.parametrize("failure", [StorageFailure("storage.full", "No space left."), OSError(28, "No space left")])
async def test_a_loop_goes_on_after_the_disk_was_full(
    failure: IntramurosError | OSError, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = asyncio.Queue[int]()

    async def work() -> None:
        rounds.put_nowait(0)
        raise failure

    loop = asyncio.create_task(go_on_doing("jobs", work, pause=0.0))
    for _ in range(3):
        await asyncio.wait_for(rounds.get(), 5)
    assert not loop.done()
    loop.cancel()
    assert "jobs goes on in 0 s" in capsys.readouterr().err


async def test_a_defect_still_ends_the_daemon() -> None:
    async def work() -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        await go_on_doing("jobs", work, pause=0.0)
