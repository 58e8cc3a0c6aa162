"""Which part of its campaign a job is: trial, fold or step. A job's row names the campaign alone; the steps' rows know.

A job that another campaign takes over, because it is an equal run, stays a part of the one that started it.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from appliance.api import types as t
from appliance.store.schema import campaign_steps, campaigns, jobs


def parts_of(connection: Connection, job_ids: Collection[str]) -> dict[str, t.JobPart]:
    """Return the part that each of these jobs is; jobs that are none are left out."""
    query = (
        select(campaigns.c.kind, campaign_steps)
        .join(campaigns, campaigns.c.id == campaign_steps.c.campaign_id)
        .join(jobs, (jobs.c.id == campaign_steps.c.job_id) & (jobs.c.campaign_id == campaign_steps.c.campaign_id))
        .where(campaign_steps.c.job_id.in_(job_ids))
        .order_by(campaign_steps.c.number.desc())  # of equal trials, which share a job, the first is named
    )
    return {
        row.job_id: t.JobPart(
            kind=row.kind,
            name=row.name,
            values=row.spec if row.kind == "search" else {},
            pruned=row.state == "pruned",
        )
        for row in connection.execute(query)
    }
