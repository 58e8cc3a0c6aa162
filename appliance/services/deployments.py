"""Records which version is wanted under which served name. The daemon's deployer makes it so.

A revision is never changed in place: starting -> live -> superseded, or starting -> failed; all of them are retired
when the name is removed. `rollback` is a new revision that points at the version before the live one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from appliance.api import types as t
from appliance.kernel.clock import to_text
from appliance.kernel.errors import Conflict, IntramurosError, NotFound
from appliance.registry.refs import check_name
from appliance.registry.stages import Stage
from appliance.services.context import Context
from appliance.services.promotion import gate_verdict, refusal
from appliance.services.records import find_model, ref_of, stage_of
from appliance.services.served_draft import draft_description
from appliance.services.serving_options import (
    Artifact,
    artifact_of,
    merged_options,
    merged_policy,
    options_of,
    policy_of,
)
from appliance.store.schema import deployments, models, revisions

_SHOWN = 20
_SUPERSEDED = "a newer revision was asked for"


def deploy(ctx: Context, name: str, body: t.Deploy) -> t.DeploymentView:
    """Wish for a version behind a name. Needs stage prod, or an override with a reason, which is audited.

    The answer's `revision` is the one that fulfils this wish: a new one, or the live one that has this version already.
    """
    check_name(name, what="deployment")
    ctx.authorise("deployment.deploy", name)
    if body.override:
        ctx.authorise("deployment.override", name)
    with ctx.appliance.database.write() as connection:
        if (again := _repeated(connection, name, body.request_id)) is not None:
            return again
        row = find_model(connection, body.model)
        ref = ref_of(row)
        present = _live_row(connection, name)
        live_options = options_of(present) if present is not None else None
        options = merged_options(connection, row, body.options, live_options, any_stage=bool(body.override))
        policy = merged_policy(_policy(connection, name), body.policy)
        if (
            present is not None
            and (present.model_id, live_options) == (row.id, options)
            and not _starting(connection, name)
        ):
            _set_policy(ctx, connection, name, policy)
            return msgspec.structs.replace(deployment_view(connection, name), revision=present.number)
        refused: IntramurosError | None = None
        if stage_of(connection, row.id) != Stage.PROD and not body.override:
            verdict = gate_verdict(ctx, connection, row, Stage.PROD)
            refused = refusal(ref, Stage.PROD, verdict)
            if verdict.passed:
                refused = Conflict(
                    "deploy.not_in_prod",
                    f"{ref} is at {stage_of(connection, row.id)}; only versions at prod are deployed.",
                    hint=f"Promote it with `intramuros model promote {ref} --to prod`.",
                )
            ctx.record(connection, "deployment.deploy", name, phase="refused", model=ref, why=refused.code)
        else:
            _insert(ctx, connection, name, row, request_id=body.request_id, reason=body.override, options=options)
            _set_policy(ctx, connection, name, policy)
            ctx.record(
                connection,
                "deployment.deploy",
                name,
                phase="intent",
                model=ref,
                digest=row.digest,
                override=body.override,
                options=msgspec.to_builtins(options),
            )
            view = deployment_view(connection, name)
    if refused is not None:
        raise refused
    ctx.appliance.doorbell.ring()
    return view


def roll_back(ctx: Context, name: str, body: t.RollBack) -> t.DeploymentView:
    """Wish for the version that was live before. Raises Conflict when there is none."""
    ctx.authorise("deployment.rollback", name)
    with ctx.appliance.database.write() as connection:
        if (again := _repeated(connection, name, body.request_id)) is not None:
            return again
        _find(connection, name)
        live = _live_row(connection, name)
        previous = _previous_model(connection, live)
        if live is None or previous is None:
            raise Conflict(
                "rollback.nothing_before",
                f"{name} has no earlier version to return to.",
                hint="See `intramuros deployments` for its revisions.",
            )
        before = _newest_of(connection, name, previous)
        options = options_of(before)
        _insert(ctx, connection, name, previous, request_id=body.request_id, reason="", options=options, rollback=True)
        ctx.record(
            connection, "deployment.rollback", name, phase="intent", model=ref_of(previous), digest=previous.digest
        )
        view = deployment_view(connection, name)
    ctx.appliance.doorbell.ring()
    return view


def remove(ctx: Context, name: str) -> t.DeploymentView:
    """Stop serving a name. Streams in flight finish."""
    ctx.authorise("deployment.deploy", name)
    with ctx.appliance.database.write() as connection:
        _find(connection, name)
        now = to_text(ctx.appliance.clock())
        connection.execute(
            update(revisions)
            .where(revisions.c.deployment == name, revisions.c.state.in_(("starting", "live", "superseded")))
            .values(state="retired")
        )
        connection.execute(
            update(deployments).where(deployments.c.name == name).values(removed_at=now, live_revision=None)
        )
        ctx.record(connection, "deployment.remove", name)
        view = deployment_view(connection, name)
    ctx.appliance.doorbell.ring()
    return view


def mark_live(ctx: Context, number: int) -> None:
    """Record that a revision's engine answered and that traffic now goes there."""
    with ctx.appliance.database.write() as connection:
        row = connection.execute(select(revisions).where(revisions.c.number == number)).one()
        if row.state != "starting":
            return
        connection.execute(
            update(revisions)
            .where(revisions.c.deployment == row.deployment, revisions.c.state == "live")
            .values(state="superseded")
        )
        connection.execute(update(revisions).where(revisions.c.number == number).values(state="live"))
        connection.execute(update(deployments).where(deployments.c.name == row.deployment).values(live_revision=number))
        ctx.record(connection, _action(row), row.deployment, revision=number)


def mark_failed(ctx: Context, number: int, reason: str) -> None:
    """Record that a revision could not start; what was live stays live."""
    with ctx.appliance.database.write() as connection:
        row = connection.execute(select(revisions).where(revisions.c.number == number)).one()
        if row.state != "starting":
            return
        connection.execute(update(revisions).where(revisions.c.number == number).values(state="failed", reason=reason))
        ctx.record(connection, _action(row), row.deployment, phase="failed", revision=number, why=reason)


def list_deployments(ctx: Context) -> tuple[t.DeploymentView, ...]:
    """Return every served name."""
    with ctx.appliance.database.read() as connection:
        names = connection.execute(
            select(deployments.c.name).where(deployments.c.removed_at == "").order_by(deployments.c.name)
        ).scalars()
        return tuple(deployment_view(connection, name) for name in names)


def show(ctx: Context, name: str) -> t.DeploymentView:
    """Return one served name with its revisions."""
    with ctx.appliance.database.read() as connection:
        _find(connection, name)
        return deployment_view(connection, name)


def deployment_view(connection: Connection, name: str) -> t.DeploymentView:
    """Return a deployment with its newest revisions and, however old, the live one."""
    query = (
        select(revisions, models.c.name.label("model_name"), models.c.version, models.c.digest)
        .join(models, models.c.id == revisions.c.model_id)
        .where(revisions.c.deployment == name)
    )
    rows = list(connection.execute(query.order_by(revisions.c.number.desc()).limit(_SHOWN)))
    live = _live_row(connection, name)
    if live is not None and live.number not in {row.number for row in rows}:
        rows = [*rows, connection.execute(query.where(revisions.c.number == live.number)).one()]
    previous = _previous_model(connection, live)
    newest = rows[0] if rows else None
    if newest is not None and newest.state in ("starting", "failed"):
        state = newest.state
    else:
        state = "live" if live is not None else "stopped"
    live_model = connection.execute(select(models).where(models.c.id == live.model_id)).one() if live else None
    return t.DeploymentView(
        name=name,
        state=state,
        model=ref_of(live_model) if live_model else "",
        previous=ref_of(previous) if previous else "",
        revision=newest.number if newest else 0,
        since=live.at if live else "",
        revisions=tuple(
            t.RevisionView(
                number=row.number,
                model=f"{row.model_name}@{row.version}",
                digest=row.digest,
                state=row.state,
                by=row.by,
                at=row.at,
                reason=row.reason or ("rollback" if row.is_rollback else ""),
                options=options_of(row),
            )
            for row in rows
        ),
        policy=_policy(connection, name),
    )


def set_policy(ctx: Context, name: str, body: t.PolicyChange) -> t.DeploymentView:
    """Change how a deployment is kept in memory; nothing is restarted for it."""
    ctx.authorise("deployment.deploy", name)
    with ctx.appliance.database.write() as connection:
        _find(connection, name)
        _set_policy(ctx, connection, name, merged_policy(_policy(connection, name), body))
        view = deployment_view(connection, name)
    ctx.appliance.doorbell.ring()
    return view


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A version that might be deployed, and how."""

    ref: str
    description: dict[str, Any]
    artifact: Artifact
    options: t.ServingOptions
    policy: t.Policy
    draft: dict[str, Any]
    """description of its draft model"""


def planned(ctx: Context, name: str, body: t.PlanDeploy) -> Planned:
    """Return what `deploy` would serve. Raises what it would raise for the model and its options."""
    check_name(name, what="deployment")
    with ctx.appliance.database.read() as connection:
        row = find_model(connection, body.model)
        live = _live_row(connection, name)
        live_options = options_of(live) if live is not None else None
        options = merged_options(connection, row, body.options, live_options, any_stage=True)
        return Planned(
            ref=ref_of(row),
            description=row.description,
            artifact=artifact_of(row, options.kind),
            options=options,
            policy=_policy(connection, name),
            draft=draft_description(connection, options.draft),
        )


def _policy(connection: Connection, name: str) -> t.Policy:
    row = connection.execute(select(deployments).where(deployments.c.name == name)).first()
    return policy_of(row) if row is not None and not row.removed_at else t.Policy()


def _set_policy(ctx: Context, connection: Connection, name: str, policy: t.Policy) -> None:
    if policy != _policy(connection, name):
        values = msgspec.to_builtins(policy)
        connection.execute(update(deployments).where(deployments.c.name == name).values(policy=values))
        ctx.record(connection, "deployment.policy", name, **values)


def _newest_of(connection: Connection, name: str, model: Row[Any]) -> Row[Any]:
    """Return the newest revision of a name that served this version; one that failed never did."""
    query = select(revisions).where(
        revisions.c.deployment == name,
        revisions.c.model_id == model.id,
        revisions.c.state.in_(("live", "superseded")),
    )
    return connection.execute(query.order_by(revisions.c.number.desc()).limit(1)).one()


def _insert(
    ctx: Context,
    connection: Connection,
    name: str,
    model: Row[Any],
    *,
    request_id: str,
    reason: str,
    options: t.ServingOptions,
    rollback: bool = False,
) -> None:
    now = to_text(ctx.appliance.clock())
    known = connection.execute(select(deployments).where(deployments.c.name == name)).first()
    if known is None:
        connection.execute(insert(deployments).values(name=name, created_at=now))
    elif known.removed_at:
        connection.execute(update(deployments).where(deployments.c.name == name).values(removed_at="", policy={}))
    # A wish that was not fulfilled yet gives way to the newer one.
    unfulfilled = (revisions.c.deployment == name, revisions.c.state == "starting")
    for row in connection.execute(select(revisions).where(*unfulfilled)).all():
        ctx.record(connection, _action(row), name, phase="failed", revision=row.number, why=_SUPERSEDED)
    connection.execute(update(revisions).where(*unfulfilled).values(state="failed", reason=_SUPERSEDED))
    connection.execute(
        insert(revisions).values(
            deployment=name,
            model_id=model.id,
            previous=known.live_revision if known is not None else None,
            is_rollback=rollback,
            state="starting",
            reason=reason,
            request_id=request_id or None,
            by=ctx.caller.user,
            at=now,
            options=msgspec.to_builtins(options),
        )
    )


def _repeated(connection: Connection, name: str, request_id: str) -> t.DeploymentView | None:
    if not request_id:
        return None
    known = connection.execute(select(revisions).where(revisions.c.request_id == request_id)).first()
    if known is None:
        return None
    if known.deployment != name:
        raise Conflict("request.repeated", f"The request {request_id} was already used for {known.deployment}.")
    return msgspec.structs.replace(deployment_view(connection, name), revision=known.number)


def _action(revision: Row[Any]) -> str:
    return "deployment.rollback" if revision.is_rollback else "deployment.deploy"


def _find(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(
        select(deployments).where(deployments.c.name == name, deployments.c.removed_at == "")
    ).first()
    if row is None:
        raise NotFound("deployment.unknown", f"Nothing is deployed as {name}.", hint="See `intramuros deployments`.")
    return row


def _live_row(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(
        select(revisions)
        .join(deployments, deployments.c.live_revision == revisions.c.number)
        .where(deployments.c.name == name)
    ).first()


def _starting(connection: Connection, name: str) -> bool:
    query = select(revisions.c.number).where(revisions.c.deployment == name, revisions.c.state == "starting")
    return connection.execute(query).first() is not None


def _previous_model(connection: Connection, live: Row[Any] | None) -> Row[Any] | None:
    """Return the version that was live before `live`, skipping revisions of the same version.

    What was taken back stays back: after a rollback the way leads on from the revision that it restored, never to the
    version it left.
    """
    if live is None:
        return None
    seen: Row[Any] | None = live
    left: set[str] = {live.model_id}
    while seen is not None and seen.previous is not None:
        before = connection.execute(select(revisions).where(revisions.c.number == seen.previous)).first()
        if before is not None and seen.is_rollback:
            left.add(before.model_id)
        seen = before
        if seen is not None and seen.model_id not in left:
            return connection.execute(
                select(models).where(models.c.id == seen.model_id, models.c.removed_at == "")
            ).first()
    return None
