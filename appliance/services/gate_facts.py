"""Gathers what a gate judges: what was measured of a version, of its base, of its baseline, and of production.

Reads only. The rule of each gate stands in `evaluation.gate`; here it is only found what the gate file asks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from appliance.catalog.purpose import kind_of
from appliance.evaluation.difference import Difference
from appliance.evaluation.gate import Facts, Measured, StagePolicy
from appliance.kernel.errors import BadInput, NotFound
from appliance.registry.stages import Stage
from appliance.services.context import Context
from appliance.services.evaluations import by_metric, differences, newest
from appliance.services.records import file_entries, find_suite, ref_of, served_gguf
from appliance.store.schema import approvals, deployments, models, revisions, stages


def facts_of(ctx: Context, connection: Connection, row: Row[Any], stage: Stage, asked: StagePolicy) -> Facts:
    """Return everything that a stage's policy asks about a version."""
    base = row.lineage.get("base")
    measured = newest(connection, row.weights_digest, on=_own_data(row))
    approved = connection.execute(
        select(approvals.c.approver).where(approvals.c.model_id == row.id, approvals.c.stage == stage)
    ).scalars()
    against = any(condition.not_worse_than_production for condition in asked.conditions)
    production = _production(connection, row) if against else None
    own = (measured.dataset_digest,) if measured else ()
    names = {condition.suite for condition in asked.conditions if condition.suite}
    kind = kind_of(row.description)
    quantised = row.description.get("quantised") or {}
    return Facts(
        metrics=measured.metrics if measured else None,
        base_metrics=_figures(newest(connection, base["digest"], on=own)) if base and own else None,
        has_base=base is not None,
        parity=bool(row.parity.get("passed")) if row.parity else None,
        approvals=tuple(name for name in approved if name not in authors_of(row)),
        author=row.created_by,
        kind=kind,
        parity_applies=kind == "generate" or served_gguf(file_entries(row.files)) is not None,
        perplexity_ratio=quantised.get("perplexity_ratio"),
        baseline=_baseline(row.description),
        suites={name: _on_suite(ctx, connection, row, name, production) for name in sorted(names)},
        production=ref_of(production) if production is not None else "",
        against_production=_against(ctx, connection, measured, production, own),
    )


def authors_of(row: Row[Any]) -> tuple[str, ...]:
    """Return everybody who made or registered a version: none of them may approve it."""
    return tuple(sorted({row.created_by, *row.lineage.get("authors", [])}))


def _on_suite(ctx: Context, connection: Connection, row: Row[Any], name: str, production: Row[Any] | None) -> Measured:
    """Return what was measured on a suite; without a version the newest counts, so an old evaluation does not pass."""
    try:
        on = (find_suite(connection, name).digest,)
    except (NotFound, BadInput):
        return Measured()  # a gate that names no suite there is does not pass
    measured = newest(connection, row.weights_digest, on=on)
    base = row.lineage.get("base")
    return Measured(
        metrics=_figures(measured),
        base_metrics=_figures(newest(connection, base["digest"], on=on)) if base else None,
        informative=measured.detail.get("informative", {}) if measured else {},
        against_production=_against(ctx, connection, measured, production, on),
    )


def _against(
    ctx: Context, connection: Connection, measured: Row[Any] | None, production: Row[Any] | None, on: tuple[str, ...]
) -> Mapping[str, Difference] | None:
    if measured is None or production is None or not on:
        return None
    before = newest(connection, production.weights_digest, on=on)
    if before is None:
        return None
    try:
        return by_metric(differences(ctx, connection, before, measured))
    except (NotFound, BadInput):
        return None  # without scores for rows in common nothing was measured on both


def _production(connection: Connection, row: Row[Any]) -> Row[Any] | None:
    """Return the version of the same name that is served now, or else the newest other one at the stage prod."""
    served = (
        select(models)
        .join(revisions, revisions.c.model_id == models.c.id)
        .join(deployments, deployments.c.live_revision == revisions.c.number)
        .where(models.c.name == row.name, models.c.id != row.id, deployments.c.removed_at == "")
        .order_by(models.c.version.desc())
    )
    reached = (
        select(models)
        .join(stages, stages.c.model_id == models.c.id)
        .where(models.c.name == row.name, models.c.id != row.id, models.c.removed_at == "", stages.c.stage == "prod")
        .order_by(models.c.version.desc())
    )
    return connection.execute(served.limit(1)).first() or connection.execute(reached.limit(1)).first()


def _own_data(row: Row[Any]) -> tuple[str, ...]:
    """Return the digests of the data a version was tuned on: its gate counts their held-out parts and no other."""
    if row.lineage.get("base") is None:
        return ()
    return tuple(item["digest"] for item in row.lineage.get("datasets", []))


def _figures(evaluation: Row[Any] | None) -> Mapping[str, float] | None:
    return dict(evaluation.metrics) if evaluation is not None else None


def _baseline(description: Mapping[str, Any]) -> Mapping[str, float] | None:
    """Return the figures of the untuned baseline that a training run measured beside its model, by metric."""
    told = description.get("baseline")
    if isinstance(told, dict):
        return {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
    figures = description.get("metrics") or {}
    found = {name.removeprefix("baseline_"): value for name, value in figures.items() if name.startswith("baseline_")}
    return found or None
