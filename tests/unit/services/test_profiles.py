from __future__ import annotations

from sqlalchemy import update

from appliance.api import types as t
from appliance.services import jobs as service
from appliance.services.context import Context
from appliance.services.profiles import profile_of
from appliance.services.records import find_job
from appliance.store.schema import jobs
from tests.factories.appliance import finish_job, imported_model


def tuned(ctx: Context, ref: str, threads: int, ubatch: int) -> str:
    job = service.submit(ctx, t.SubmitJob(kind="tune", inputs={"model": ref}))
    finish_job(ctx, job.id, {}, {"profile": {"threads": threads, "ubatch": ubatch, "format": "F32"}})
    return job.id


def digest_of(ctx: Context, job: str) -> str:
    with ctx.appliance.database.read() as connection:
        return str(find_job(connection, job).spec["inputs"]["model"]["digest"])


def test_the_newest_run_on_this_processor_counts_and_for_that_file_alone(ctx: Context) -> None:
    ref = imported_model(ctx, "tiny", {"model.gguf": b"1"})
    other = imported_model(ctx, "other", {"model.gguf": b"2"})
    first = tuned(ctx, ref, 1, 128)
    second = tuned(ctx, ref, 2, 512)
    unfinished = service.submit(ctx, t.SubmitJob(kind="tune", inputs={"model": ref}))
    assert len({first, second, unfinished.id}) == 3
    with ctx.appliance.database.read() as connection:
        found = profile_of(connection, digest_of(ctx, first))
        assert found is not None
        assert (found.job, found.threads, found.ubatch) == (second, 2, 512)
    third = tuned(ctx, other, 3, 64)
    with ctx.appliance.database.read() as connection:
        found = profile_of(connection, digest_of(ctx, first))
        assert found is not None
        assert found.job == second
    with ctx.appliance.database.write() as connection:
        spec = find_job(connection, third).spec
        spec["environment"]["cpu"] = "another"
        connection.execute(update(jobs).where(jobs.c.id == third).values(spec=spec))
        assert profile_of(connection, spec["inputs"]["model"]["digest"]) is None
