"""What one job of a campaign has computed for all of them: the sealed folder `shared`, handed on by hard links.

Which work that is, and whether it fits, its seals say (`fit_task.shared_fingerprint`); here nobody looks inside.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Final

from sqlalchemy import Row, select

from appliance.services.campaigns import ACTIVE
from appliance.services.context import Context
from appliance.store.schema import campaigns, jobs

SHARED: Final = "shared"


def take_over(ctx: Context, job: Row[Any]) -> None:
    """Give a job that has no such folder yet that of the newest one of its campaign that succeeded.

    Where that goes wrong, the job computes it itself.
    """
    own = ctx.appliance.paths.job(job.id) / SHARED
    if not job.campaign_id or own.exists():
        return
    siblings = (jobs.c.campaign_id == job.campaign_id, jobs.c.state == "succeeded")
    with ctx.appliance.database.read() as connection:
        found = connection.execute(select(jobs.c.id).where(*siblings).order_by(jobs.c.id.desc())).scalars().all()
    for sibling in found:
        if (given := ctx.appliance.paths.job(sibling) / SHARED).is_dir():
            coming = own.with_name(f"{SHARED}.new")
            shutil.rmtree(coming, ignore_errors=True)
            try:
                shutil.copytree(given, coming, copy_function=os.link)
                coming.rename(own)
            except OSError:
                shutil.rmtree(coming, ignore_errors=True)
            return


def sweep(ctx: Context) -> None:
    """Drop the folders of jobs that succeeded, but those of campaigns that still go on."""
    with ctx.appliance.database.read() as connection:
        going_on = set(connection.execute(select(campaigns.c.id).where(campaigns.c.state.in_(ACTIVE))).scalars())
        ended = connection.execute(select(jobs.c.id, jobs.c.campaign_id).where(jobs.c.state == "succeeded")).all()
    for row in ended:
        if row.campaign_id not in going_on:
            shutil.rmtree(ctx.appliance.paths.job(row.id) / SHARED, ignore_errors=True)
