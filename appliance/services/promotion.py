"""Moves versions through dev, test and prod: a gate that measures, and an approval by somebody else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from appliance.access.approvals import parse_public_key, statement, verify
from appliance.api import types as t
from appliance.evaluation.gate import Check, Verdict, judge, parse_gates, policy_of
from appliance.kernel.clock import to_text
from appliance.kernel.errors import Conflict, Forbidden, GateRefused, NotFound
from appliance.registry.refs import check_name
from appliance.registry.stages import Stage, check_step, parse_stage
from appliance.services.context import Context
from appliance.services.gate_facts import authors_of, facts_of
from appliance.services.models import model_detail
from appliance.services.records import find_model, ref_of, stage_of
from appliance.store.schema import approvals, approvers, stages, verdicts


def promote(ctx: Context, text: str, body: t.Promote) -> t.ModelDetail:
    """Move a version one stage on. Asking for a stage it has already reached changes nothing."""
    wanted = parse_stage(body.stage)
    with ctx.appliance.database.read() as connection:
        ref = ref_of(find_model(connection, text))
    ctx.authorise("model.promote", ref)
    with ctx.appliance.database.write() as connection:
        row = find_model(connection, ref)
        reached = set(connection.execute(select(stages.c.stage).where(stages.c.model_id == row.id)).scalars())
        if wanted in reached:
            return model_detail(connection, row)
        check_step(ref, Stage(stage_of(connection, row.id)), wanted)
        verdict = gate_verdict(ctx, connection, row, wanted)
        phase = "done" if verdict.passed else "refused"
        text = "; ".join(_check_text(check) for check in verdict.checks)
        ctx.record(connection, "model.promote", ref, phase=phase, stage=str(wanted), verdict=text)
        _keep_verdict(ctx, connection, row, wanted, verdict)
        if verdict.passed:
            connection.execute(
                insert(stages).values(
                    model_id=row.id,
                    stage=wanted,
                    verdict={"text": text},
                    by=ctx.caller.user,
                    at=to_text(ctx.appliance.clock()),
                )
            )
            return model_detail(connection, row)
    raise refusal(ref, wanted, verdict)


def _keep_verdict(ctx: Context, connection: Connection, row: Row[Any], stage: Stage, verdict: Verdict) -> None:
    """Keep the whole verdict with the version, refused or not."""
    connection.execute(
        insert(verdicts).values(
            model_id=row.id,
            stage=stage,
            passed=verdict.passed,
            checks=[asdict(check) for check in verdict.checks],
            by=ctx.caller.user,
            at=to_text(ctx.appliance.clock()),
        )
    )


def refusal(ref: str, stage: Stage, verdict: Verdict) -> GateRefused:
    """Return the error that tells which checks failed, with the measured and the wanted figures."""
    failed = "; ".join(_check_text(check) for check in verdict.failures)
    return GateRefused(
        "gate.refused",
        f"{ref} does not pass the gate to {stage}: {failed}.",
        hint="See `intramuros model show` for its evaluations and approvals.",
    )


def _check_text(check: Check) -> str:
    return f"{check.name} {check.measured}, wanted {check.wanted}"


def gate_verdict(ctx: Context, connection: Connection, row: Row[Any], stage: Stage) -> Verdict:
    """Judge a version for a stage from what was measured and who approved."""
    gates = ctx.appliance.paths.gates
    policy = parse_gates(gates.read_text(), source=str(gates))
    return judge(stage, policy, facts_of(ctx, connection, row, stage, policy_of(stage, policy)))


def approve(ctx: Context, text: str, body: t.Approve) -> t.ModelDetail:
    """Record somebody's consent: by an enrolled key's signature, or by the caller's Unix group."""
    stage = parse_stage(body.stage)
    with ctx.appliance.database.read() as connection:
        row = find_model(connection, text)
        ref = ref_of(row)
    if not body.signature:
        ctx.authorise("model.approve", ref)
    approver, method = _who(ctx, row, stage, body)
    if approver in authors_of(row):
        with ctx.appliance.database.write() as connection:
            ctx.record(connection, "model.approve", ref, phase="refused", approver=approver, why="author")
        raise Forbidden(
            "approval.own_work",
            f"{approver} made {ref} and cannot approve it.",
            hint="Somebody else must approve: a member of intramuros-approver, or an enrolled approver's key.",
        )
    with ctx.appliance.database.write() as connection:
        already = connection.execute(
            select(approvals.c.id).where(
                approvals.c.model_id == row.id, approvals.c.stage == stage, approvals.c.approver == approver
            )
        ).first()
        if already is None:
            connection.execute(
                insert(approvals).values(
                    model_id=row.id,
                    stage=stage,
                    approver=approver,
                    method=method,
                    signature=body.signature,
                    at=to_text(ctx.appliance.clock()),
                )
            )
            ctx.record(
                connection,
                "model.approve",
                ref,
                stage=str(stage),
                approver=approver,
                method=method,
                digest=row.digest,
                signature=body.signature,
            )
        return model_detail(connection, row)


def enrol(ctx: Context, body: t.EnrolApprover) -> t.ApproverView:
    """Make a person's public key count. The same key again changes nothing; another key for a name is refused."""
    ctx.authorise("approver.enrol", body.name)
    check_name(body.name, what="approver")
    parse_public_key(body.public_key)
    with ctx.appliance.database.write() as connection:
        row = connection.execute(select(approvers).where(approvers.c.name == body.name)).first()
        if row is not None and row.public_key != body.public_key:
            raise Conflict(
                "approver.exists",
                f"{body.name} is enrolled with another key.",
                hint="Choose another name; a key is never replaced silently.",
            )
        if row is None:
            _require_own_key(connection, body)
            connection.execute(
                insert(approvers).values(
                    name=body.name,
                    public_key=body.public_key,
                    added_by=ctx.caller.user,
                    added_at=to_text(ctx.appliance.clock()),
                )
            )
            ctx.record(connection, "approver.enrol", body.name, public_key=body.public_key)
        return _approver_view(connection.execute(select(approvers).where(approvers.c.name == body.name)).one())


def _require_own_key(connection: Connection, body: t.EnrolApprover) -> None:
    """One key under two names would be two consents of one person."""
    known = connection.execute(select(approvers.c.name, approvers.c.public_key)).all()
    same = [row.name for row in known if parse_public_key(row.public_key) == parse_public_key(body.public_key)]
    if same:
        raise Conflict(
            "approver.key_in_use",
            f"This key is already enrolled for {same[0]}.",
            hint="Every approver needs a key of their own.",
        )


def list_approvers(ctx: Context) -> tuple[t.ApproverView, ...]:
    """Return the enrolled approvers."""
    with ctx.appliance.database.read() as connection:
        return tuple(_approver_view(row) for row in connection.execute(select(approvers).order_by(approvers.c.name)))


def _approver_view(row: Row[Any]) -> t.ApproverView:
    return t.ApproverView(name=row.name, public_key=row.public_key, added_by=row.added_by, added_at=row.added_at)


def _who(ctx: Context, row: Row[Any], stage: Stage, body: t.Approve) -> tuple[str, str]:
    """Return who consents and how it is known. A signature that is not theirs is recorded and refused."""
    if not body.signature:
        return ctx.caller.user, "group"
    with ctx.appliance.database.read() as connection:
        known = connection.execute(select(approvers).where(approvers.c.name == body.approver)).first()
    if known is None:
        raise NotFound(
            "approver.unknown",
            f"No approver {body.approver!r} is enrolled.",
            hint="Enrol one with `intramuros approver add`.",
        )
    try:
        verify(known.public_key, statement(row.digest, stage, ctx.appliance.instance), body.signature)
    except Forbidden:
        with ctx.appliance.database.write() as connection:
            ctx.record(connection, "model.approve", ref_of(row), phase="refused", approver=known.name, why="signature")
        raise
    return known.name, "key"
