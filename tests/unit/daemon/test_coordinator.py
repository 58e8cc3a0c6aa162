from __future__ import annotations

import asyncio
import os
from typing import Any

from sqlalchemy import update

from appliance.api import types as t
from appliance.daemon.coordinator import Coordinator
from appliance.kernel.errors import StorageFailure
from appliance.kernel.events import Metric, Progress
from appliance.services import campaigns, kfolds, searches
from appliance.services.context import Appliance, Caller, Context
from appliance.store import schema
from tests.factories.appliance import context, imported_dataset
from tests.factories.campaigns import answered, end, open_jobs
from tests.unit.services.test_searches import SEARCH

RECIPE = "recipe: seed\ncorpus: faq\nwith: {layers: 1, hidden_size: 32, intermediate_size: 64}\n"


def call(appliance: Appliance, uid: int) -> Context:
    ctx = context(appliance)
    return Context(appliance=appliance, caller=Caller(user="alice", uid=uid, roles=ctx.caller.roles))


def coordinator(appliance: Appliance, log: Any = lambda _job: ()) -> Coordinator:
    return Coordinator(context(appliance, user="intramurosd"), log, owner_uid=os.getuid(), on_box=False)


async def until(appliance: Appliance, mover: Coordinator, condition: Any) -> None:
    appliance.doorbell.listen(lambda: mover.wake())
    moving = asyncio.create_task(mover.run())
    try:
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(condition):
                mover.wake()
                await asyncio.sleep(0.01)
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)


async def test_jobs_are_started_in_the_name_of_who_began(appliance: Appliance) -> None:
    ctx = call(appliance, os.getuid())
    imported_dataset(ctx)
    campaign = kfolds.submit(ctx, t.SubmitKfold(text=RECIPE, folds=2)).id
    await until(appliance, coordinator(appliance), lambda: len(open_jobs(ctx)) == 2)
    assert {(job.created_by, job.campaign_id) for job in open_jobs(ctx)} == {("alice", campaign)}


async def test_nothing_is_done_for_a_stranger(appliance: Appliance) -> None:
    ctx = call(appliance, 4_000_000)  # in no group of ours any more
    imported_dataset(ctx)
    campaign = kfolds.submit(ctx, t.SubmitKfold(text=RECIPE, folds=2)).id
    await until(appliance, coordinator(appliance), lambda: campaigns.show(ctx, campaign).campaign.state == "failed")
    problem = campaigns.show(ctx, campaign).campaign.problem
    assert problem is not None
    assert problem.code == "access.role"
    assert open_jobs(ctx) == []


async def test_a_defect_fails_its_campaign_and_no_other(appliance: Appliance) -> None:
    ctx = call(appliance, os.getuid())
    imported_dataset(ctx)
    broken = kfolds.submit(ctx, t.SubmitKfold(text=RECIPE, folds=2)).id
    with appliance.database.write() as connection:
        connection.execute(update(schema.campaigns).where(schema.campaigns.c.id == broken).values(spec={}))
    sound = kfolds.submit(ctx, t.SubmitKfold(text=RECIPE, folds=2)).id
    await until(appliance, coordinator(appliance), lambda: len(open_jobs(ctx)) == 2)
    problem = campaigns.show(ctx, broken).campaign.problem
    assert problem is not None
    assert problem.code == "campaign.defect"
    assert campaigns.show(ctx, sound).campaign.state == "running"


async def test_a_full_disk_is_waited_out(appliance: Appliance) -> None:
    ctx = call(appliance, os.getuid())
    imported_dataset(ctx)
    searches.submit(ctx, t.SubmitSearch(text=SEARCH))
    full = [True, True]

    def log(_job: str) -> tuple[t.JobEvent, ...]:
        if full:
            full.pop()
            raise StorageFailure("storage.full", "No space left on the disk.")
        return (
            t.JobEvent(seq=1, at="", event=Progress(phase="train")),
            t.JobEvent(seq=2, at="", event=Metric(name="validation_loss", value=2.0, step=5)),
            t.JobEvent(seq=3, at="", event=Metric(name="other", value=2.0, step=5)),
            t.JobEvent(seq=4, at="", event=Metric(name="heldout_loss", value=1.0)),
        )

    mover = coordinator(appliance, log)
    await until(appliance, mover, lambda: open_jobs(ctx))
    (question,) = open_jobs(ctx)
    end(ctx, question, answered(question), {})
    await until(appliance, mover, lambda: len(open_jobs(ctx)) == 2)
    end(ctx, open_jobs(ctx)[0], {"heldout_loss": 1.0}, {"a": b"b"})
    (campaign,) = campaigns.list_campaigns(ctx)
    await until(appliance, mover, lambda: campaigns.show(ctx, campaign.id).steps[0].state == "succeeded")
    assert campaigns.show(ctx, campaign.id).steps[0].outcome == {"value": 1.0, "reports": {"5": 2.0}}
    assert full == []
