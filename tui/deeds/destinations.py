"""Where the console goes after a deed: the record of what the answer tells of."""

from __future__ import annotations

from appliance.api import types as t
from tui.deed import Target


def to_job(job: t.JobView) -> tuple[str, Target]:
    """Follow a job."""
    return "job", Target(name=job.id, words={"id": job.id, "name": job.id, "title": job.title})


def to_campaign(view: t.CampaignView) -> tuple[str, Target]:
    """Follow a search, k-fold, pipeline or repetition."""
    return "campaign", Target(name=view.id, words={"id": view.id, "name": view.id, "title": view.title})


def to_model(detail: t.ModelDetail) -> tuple[str, Target]:
    """Look at a model version."""
    ref = detail.model.ref
    return "model", Target(name=ref, words={"ref": ref, "model": ref})
