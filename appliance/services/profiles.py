"""Serving profiles: what `tune` found to be fastest for one GGUF file on this processor."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from appliance.jobs.spec import JobKind
from appliance.services.machine import processor
from appliance.store.schema import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Settings for one file. `job` is the tuning run that found them."""

    threads: int
    ubatch: int
    job: str


def profile_of(connection: Connection, digest: str) -> Profile | None:
    """Return the newest profile of a GGUF file that was measured on this processor."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.spec, jobs.c.summary)
        .where(jobs.c.kind == JobKind.TUNE, jobs.c.state == "succeeded")
        .order_by(jobs.c.id.desc())
    )
    for row in rows:
        if row.spec["inputs"]["model"]["digest"] == digest and row.spec["environment"]["cpu"] == processor():
            found = row.summary["profile"]
            return Profile(threads=found["threads"], ubatch=found["ubatch"], job=row.id)
    return None
