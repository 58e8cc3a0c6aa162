"""Reading rows back: how references become rows, and rows become the views of the control API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, select

from appliance.api import types as t
from appliance.catalog.purpose import kind_of
from appliance.jobs.spec import FileEntry
from appliance.kernel.errors import NotFound
from appliance.registry.refs import parse_ref
from appliance.registry.stages import highest
from appliance.store.schema import approvals, campaigns, datasets, evaluations, jobs, models, stages, suites, verdicts

_TAIL = 8
"""Last characters of an id that name it; the first ones are its time, which neighbours share."""


def file_entries(document: Any) -> tuple[FileEntry, ...]:
    """Decode a `files` column."""
    return msgspec.convert(document or [], tuple[FileEntry, ...])


def find_model(connection: Connection, text: str) -> Row[Any]:
    """Return the row of `name` (newest) or `name@version`. Raises NotFound."""
    ref = parse_ref(text, what="model")
    query = select(models).where(models.c.name == ref.name, models.c.removed_at == "")
    if ref.version:
        query = query.where(models.c.version == ref.version)
    row = connection.execute(query.order_by(models.c.version.desc()).limit(1)).first()
    if row is None:
        raise NotFound("model.unknown", f"There is no model {text}.", hint="See `intramuros model list`.")
    return row


def find_dataset(connection: Connection, text: str) -> Row[Any]:
    """Return the row of a data set. Raises NotFound."""
    ref = parse_ref(text, what="data set")
    query = select(datasets).where(datasets.c.name == ref.name, datasets.c.removed_at == "")
    if ref.version:
        query = query.where(datasets.c.version == ref.version)
    row = connection.execute(query.order_by(datasets.c.version.desc()).limit(1)).first()
    if row is None:
        raise NotFound("dataset.unknown", f"There is no data set {text}.", hint="See `intramuros dataset list`.")
    return row


def find_suite(connection: Connection, text: str) -> Row[Any]:
    """Return the row of a suite: `name` (newest) or `name@version`. Raises NotFound."""
    ref = parse_ref(text, what="suite")
    query = select(suites).where(suites.c.name == ref.name, suites.c.removed_at == "")
    if ref.version:
        query = query.where(suites.c.version == ref.version)
    row = connection.execute(query.order_by(suites.c.version.desc()).limit(1)).first()
    if row is None:
        raise NotFound("suite.unknown", f"There is no suite {text}.", hint="See `intramuros suite list`.")
    return row


def served_gguf(files: Iterable[FileEntry]) -> FileEntry | None:
    """Return a version's own GGUF file, if it has one; an adapter beside it lies deeper and is no model."""
    return next((entry for entry in files if entry.path.endswith(".gguf") and "/" not in entry.path), None)


def find_job(connection: Connection, text: str) -> Row[Any]:
    """Return the job that an id, its beginning or its last characters name. Raises NotFound when none or several do."""
    rows = _named(connection, jobs, text.removeprefix("run:"))
    if len(rows) != 1:
        why = "More than one job is called" if rows else "There is no job"
        raise NotFound("job.unknown", f"{why} {text!r}.", hint="See `intramuros job list`.")
    return rows[0]


def find_campaign(connection: Connection, text: str) -> Row[Any]:
    """Return the campaign that an id names as a job's does; `kfold:ID` names its kind too. Raises NotFound."""
    kind, _, wanted = text.rpartition(":")
    rows = [row for row in _named(connection, campaigns, wanted) if kind in ("", row.kind)]
    if len(rows) != 1:
        why = "More than one campaign is called" if rows else "There is no campaign"
        hint = "See `intramuros search list`, `kfold list` or `pipeline list`."
        raise NotFound("campaign.unknown", f"{why} {text!r}.", hint=hint)
    return rows[0]


def _named(connection: Connection, table: Table, text: str) -> list[Row[Any]]:
    """Return at most two rows whose id begins so or, where none does, ends so: lists show the last eight characters."""
    wanted = text.upper()
    found: list[Row[Any]] = []
    if wanted:
        found = list(connection.execute(select(table).where(table.c.id.startswith(wanted, autoescape=True)).limit(2)))
    if not found and len(wanted) >= _TAIL:
        found = list(connection.execute(select(table).where(table.c.id.endswith(wanted, autoescape=True)).limit(2)))
    return found


def verification_views(connection: Connection, runs: Iterable[str]) -> tuple[t.VerificationView, ...]:
    """Return how often these jobs' runs were done again and with which verdict, newest first."""
    wanted = set(runs)
    query = (
        select(campaigns)
        .where(campaigns.c.kind == "rerun", campaigns.c.state == "succeeded")
        .order_by(campaigns.c.id.desc())
    )
    return tuple(
        t.VerificationView(
            campaign=row.id,
            run=row.spec["run"],
            by=row.created_by,
            at=row.finished_at,
            identical=row.summary["identical"],
            files=row.summary["files"],
            differing=tuple(row.summary["differing"]),
        )
        for row in connection.execute(query)
        if row.spec["run"] in wanted
    )


def ref_of(row: Row[Any]) -> str:
    """Return `name@version`."""
    return f"{row.name}@{row.version}"


def stage_of(connection: Connection, model_id: str) -> str:
    """Return the furthest stage of a model version."""
    return highest(
        {row.stage for row in connection.execute(select(stages.c.stage).where(stages.c.model_id == model_id))}
    )


def model_view(connection: Connection, row: Row[Any]) -> t.ModelView:
    """Return one registered version."""
    files = file_entries(row.files)
    described: dict[str, Any] = row.description
    return t.ModelView(
        ref=ref_of(row),
        name=row.name,
        version=row.version,
        digest=row.digest,
        kind=row.kind,
        stage=stage_of(connection, row.id),
        formats=formats_of(files),
        architecture=str(described.get("architecture", "")),
        parameters=int(described.get("parameters") or 0),
        context_length=int(described.get("context_length") or 0),
        size=sum(entry.size for entry in files),
        licence=row.licence,
        created_by=row.created_by,
        created_at=row.created_at,
        purpose=kind_of(described),
    )


def formats_of(files: Iterable[FileEntry]) -> tuple[str, ...]:
    """Return which weight formats a version has."""
    entries = tuple(files)
    found = []
    if any(entry.path.endswith(".safetensors") for entry in entries):
        found.append("safetensors")
    if served_gguf(entries):
        found.append("gguf")
    return tuple(found)


def dataset_view(row: Row[Any]) -> t.DatasetView:
    """Return one data set version."""
    summary: dict[str, Any] = row.summary
    figures: dict[str, Any] = summary.get("statistics", {})
    return t.DatasetView(
        ref=ref_of(row),
        name=row.name,
        version=row.version,
        digest=row.digest,
        form=summary["form"],
        train_rows=summary["train_rows"],
        heldout_rows=summary["heldout_rows"],
        rejected_rows=summary["rejected_rows"],
        duplicate_rows=summary["duplicate_rows"],
        labels=max(figures.get(part, {}).get("labels", 0) for part in ("train", "heldout")),
        personal=sum(summary.get("personal", {}).values()),
        synthetic="synthetic" in summary,
        size=sum(entry.size for entry in file_entries(row.files)),
        created_by=row.created_by,
        created_at=row.created_at,
    )


def evaluation_views(connection: Connection, subject_digest: str) -> tuple[t.EvaluationView, ...]:
    """Return every evaluation of the weights with that digest, newest first."""
    rows = connection.execute(
        select(evaluations)
        .where(evaluations.c.subject_digest == subject_digest)
        .order_by(evaluations.c.at.desc(), evaluations.c.id.desc())
    )
    return tuple(
        t.EvaluationView(
            id=row.id,
            subject=row.subject,
            dataset=row.dataset,
            metrics=row.metrics,
            examples=row.examples,
            at=row.at,
            job=row.job_id,
            suite=row.suite,
            intervals=msgspec.convert(row.detail.get("intervals", {}), dict[str, tuple[float, float]]),
            informative=row.detail.get("informative", {}),
        )
        for row in rows
    )


def suite_view(row: Row[Any]) -> t.SuiteView:
    """Return one version of a suite."""
    summary: dict[str, Any] = row.summary
    return t.SuiteView(
        ref=ref_of(row),
        name=row.name,
        version=row.version,
        digest=row.digest,
        description=summary.get("description", ""),
        data=tuple(summary["data"]),
        tasks=tuple(msgspec.convert(summary["tasks"], list[t.SuiteTaskView])),
        created_by=row.created_by,
        created_at=row.created_at,
    )


def verdict_views(connection: Connection, model_id: str) -> tuple[t.VerdictView, ...]:
    """Return what the gates said of a version, newest first."""
    rows = connection.execute(
        select(verdicts).where(verdicts.c.model_id == model_id).order_by(verdicts.c.id.desc()).limit(20)
    )
    return tuple(
        t.VerdictView(
            stage=row.stage,
            passed=row.passed,
            by=row.by,
            at=row.at,
            checks=tuple(msgspec.convert(row.checks, list[t.CheckView])),
        )
        for row in rows
    )


def approval_views(connection: Connection, model_id: str) -> tuple[t.ApprovalView, ...]:
    """Return the approvals of a version, oldest first."""
    rows = connection.execute(select(approvals).where(approvals.c.model_id == model_id).order_by(approvals.c.id))
    return tuple(t.ApprovalView(stage=row.stage, approver=row.approver, method=row.method, at=row.at) for row in rows)
