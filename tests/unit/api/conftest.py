from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from appliance.api import types as t
from appliance.api.client import Client
from appliance.api.server import PeerProtocol, build_app
from appliance.kernel.events import Progress
from appliance.services import campaigns, deployments
from appliance.services.context import Appliance, Context
from tests.factories.appliance import open_test_appliance


class StillRuntime:
    """A daemon in which nothing runs."""

    def __init__(self) -> None:
        self.stopped = False

    def progress(self) -> dict[str, Progress]:
        return {}

    def units(self) -> tuple[t.UnitView, ...]:
        return ()

    def isolated(self) -> bool:
        return True

    def hindered(self) -> dict[str, str]:
        return {}

    def shut_down(self) -> None:
        self.stopped = True

    async def job_events(self, ctx: Context, job: str, after: int, hold: float) -> t.JobEvents:
        return t.JobEvents(events=(), next=after, state=f"held {hold:.0f} s")

    def log(self, job: str) -> tuple[t.JobEvent, ...]:
        return ()

    async def campaign(self, ctx: Context, campaign: str, seen: str, hold: float) -> t.CampaignDetail:
        return campaigns.show(ctx, campaign)

    async def deployment(self, ctx: Context, name: str, revision: int, hold: float) -> t.DeploymentView:
        return deployments.show(ctx, name)

    async def deployments(self, ctx: Context) -> tuple[t.DeploymentView, ...]:
        raise KeyError("a defect")

    async def try_prompt(self, ctx: Context, name: str, body: t.TryPrompt) -> t.TryAnswer:
        raise OSError(28, "No space left on device")

    async def serving(self, ctx: Context) -> t.ServingView:
        return t.ServingView(budget=0, used=0, available=0, models=(), decisions=())

    async def plan_deploy(self, ctx: Context, name: str, body: t.PlanDeploy) -> t.PlanView:
        raise KeyError("a defect")


class Api:
    """A control API on a Unix socket, its appliance and its runtime."""

    def __init__(self, appliance: Appliance, socket: Path, runtime: StillRuntime) -> None:
        self.appliance = appliance
        self.socket = socket
        self.runtime = runtime

    def client(self) -> Client:
        return Client(self.socket, patience=5.0)


@contextmanager
def serving(folder: Path, *, owner_uid: int | None, on_box: bool = False) -> Iterator[Api]:
    """Serve the API of a fresh appliance in a thread; `owner_uid` is whom it takes for the owner."""
    appliance = open_test_appliance(folder / "state")
    runtime = StillRuntime()
    config = uvicorn.Config(
        build_app(appliance, runtime, owner_uid=owner_uid, on_box=on_box),
        uds=str(folder / "api.sock"),
        http=PeerProtocol,
        lifespan="off",
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield Api(appliance, folder / "api.sock", runtime)
    server.should_exit = True
    thread.join()
    appliance.database.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose owner is the user of this test; the tests of a module share it."""
    with serving(tmp_path_factory.mktemp("api"), owner_uid=os.getuid()) as served:
        yield served
