from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert, select, update

from appliance.daemon import shared_work
from appliance.jobs.spec import JobKind
from appliance.services.context import Appliance, Context
from appliance.store import schema
from tests.factories.appliance import context, imported_dataset, queue_run

CAMPAIGN = {
    "id": "0" * 26,
    "kind": "kfold",
    "title": "",
    "spec": {},
    "state": "running",
    "created_by": "alice",
    "created_uid": 1000,
    "created_at": "",
}


def _child(ctx: Context, *, seed: int, state: str) -> str:
    job = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": "faq"}, seed=seed)
    with ctx.appliance.database.write() as connection:
        connection.execute(
            update(schema.jobs).where(schema.jobs.c.id == job.id).values(campaign_id=CAMPAIGN["id"], state=state)
        )
    return job.id


def _take_over(ctx: Context, job: str) -> Path:
    with ctx.appliance.database.read() as connection:
        row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == job)).one()
    shared_work.take_over(ctx, row)
    return ctx.appliance.paths.job(job) / "shared"


def test_jobs_of_a_campaign_take_over_what_succeeded_until_it_ends(appliance: Appliance) -> None:
    ctx = context(appliance)
    imported_dataset(ctx)
    with appliance.database.write() as connection:
        connection.execute(insert(schema.campaigns).values(**CAMPAIGN))
    first, second = (_child(ctx, seed=seed, state=state) for seed, state in enumerate(("succeeded", "queued")))
    other = queue_run(ctx, JobKind.TRAIN_SEED, {"corpus": "faq"}, seed=9).id
    sealed = appliance.paths.job(first) / "shared" / "vectors" / "chunk"
    sealed.parent.mkdir(parents=True)
    sealed.write_bytes(b"numbers")
    assert not _take_over(ctx, other).exists()
    taken = _take_over(ctx, second)
    assert (taken / "vectors" / "chunk").stat().st_ino == sealed.stat().st_ino
    sealed.with_name("later").write_bytes(b"")
    assert not (_take_over(ctx, second) / "vectors" / "later").exists()  # it has its own by now
    shared_work.sweep(ctx)
    assert sealed.exists()
    with appliance.database.write() as connection:
        connection.execute(update(schema.campaigns).values(state="succeeded"))
    shared_work.sweep(ctx)
    assert not sealed.exists()
    assert (taken / "vectors" / "chunk").exists()  # that job has not ended
