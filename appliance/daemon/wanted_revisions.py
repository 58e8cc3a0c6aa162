"""Which revisions the database says should have an engine: those that are live, and those that start."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from appliance.daemon.residency import Wanted
from appliance.services.profiles import profile_of
from appliance.services.served_draft import draft_description
from appliance.services.serving_options import artifact_of, options_of, policy_of
from appliance.store.database import Database
from appliance.store.schema import deployments, models, revisions


def wanted_revisions(database: Database) -> tuple[list[Wanted], list[Wanted]]:
    """Return the live ones and the starting ones, as of one moment."""
    query = (
        select(revisions, models.c.name, models.c.version, models.c.files, models.c.description, deployments.c.policy)
        .join(models, models.c.id == revisions.c.model_id)
        .join(deployments, deployments.c.name == revisions.c.deployment)
        .where(deployments.c.removed_at == "")
    )
    with database.read() as connection:
        live = connection.execute(query.where(deployments.c.live_revision == revisions.c.number)).all()
        starting = connection.execute(query.where(revisions.c.state == "starting")).all()
        return (
            [_wanted(connection, row, starting=False) for row in live],
            [_wanted(connection, row, starting=True) for row in starting],
        )


def _wanted(connection: Connection, row: Row[Any], *, starting: bool) -> Wanted:
    options = options_of(row)
    artifact = artifact_of(row, options.kind)
    return Wanted(
        number=row.number,
        starting=starting,
        deployment=row.deployment,
        ref=f"{row.name}@{row.version}",
        artifact=artifact,
        profile=profile_of(connection, artifact.digest),
        options=options,
        policy=policy_of(row),
        description=row.description,
        draft=draft_description(connection, options.draft),
    )
