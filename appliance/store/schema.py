"""The tables. Statements written against them run on SQLite and on PostgreSQL alike.

Times are RFC 3339 text in UTC, digests SHA-256 in hexadecimal, documents canonical JSON. A row of `models`,
`datasets`, `suites`, `evaluations`, `verdicts`, `approvals`, `stages` or `audit_events` is never changed after it was
written (except the `removed_at` of a model, data set or suite).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_REVISION = "0006"
"""The newest migration; a test keeps it equal to Alembic's head."""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("added_at", String, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("kind", String, nullable=False),
    Column("title", String, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("created_by", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("started_at", String, nullable=False, default=""),
    Column("finished_at", String, nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("stalled", Integer, nullable=False, default=0),
    Column("checkpoint_step", Integer, nullable=False, default=0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("problem", JSON),
    Column("summary", JSON),
    Column("files", JSON),
    Column("output_digest", String(64), nullable=False, default=""),
    Column("campaign_id", String(26), nullable=False, default="", server_default=text("''")),
    Column("repeats", String(26), nullable=False, default="", server_default=text("''")),
    Column("lock", String(64), nullable=False, default="", server_default=text("''")),
)
Index("jobs_by_state", jobs.c.state)
Index("jobs_by_run", jobs.c.run_id)
Index("jobs_by_campaign", jobs.c.campaign_id)

locks = Table(
    "locks",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("added_at", String, nullable=False),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("kind", String, nullable=False),
    Column("title", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("created_by", String, nullable=False),
    Column("created_uid", Integer, nullable=False),
    Column("created_at", String, nullable=False),
    Column("finished_at", String, nullable=False, default=""),
    Column("problem", JSON),
    Column("summary", JSON),
)
Index("campaigns_by_state", campaigns.c.state)

campaign_steps = Table(
    "campaign_steps",
    metadata,
    Column("campaign_id", String(26), ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("state", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("job_id", String(26), nullable=False, default=""),
    Column("outcome", JSON),
    Column("problem", JSON),
    Column("at", String, nullable=False, default=""),
)
Index("campaign_steps_by_job", campaign_steps.c.job_id)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("files", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("job_id", String(26), ForeignKey("jobs.id"), nullable=False),
    Column("created_by", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("removed_at", String, nullable=False, default="", server_default=text("''")),
    UniqueConstraint("name", "version"),
)

suites = Table(
    "suites",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("files", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("job_id", String(26), ForeignKey("jobs.id"), nullable=False),
    Column("created_by", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("removed_at", String, nullable=False, default=""),
    UniqueConstraint("name", "version"),
)

models = Table(
    "models",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("kind", String, nullable=False),
    Column("licence", String, nullable=False),
    Column("description", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("weights_digest", String(64), nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("parity", JSON),
    Column("created_by", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("removed_at", String, nullable=False, default=""),
    UniqueConstraint("name", "version"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("subject_digest", String(64), nullable=False),
    Column("subject", String, nullable=False),
    Column("dataset", String, nullable=False),
    Column("dataset_digest", String(64), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("examples", Integer, nullable=False),
    Column("job_id", String(26), ForeignKey("jobs.id"), nullable=False),
    Column("at", String, nullable=False),
    Column("suite", String, nullable=False, default="", server_default=text("''")),
    Column("detail", JSON, nullable=False, default=dict, server_default="{}"),
)
Index("evaluations_by_subject", evaluations.c.subject_digest)

stages = Table(
    "stages",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model_id", String(26), ForeignKey("models.id"), nullable=False),
    Column("stage", String, nullable=False),
    Column("verdict", JSON, nullable=False),
    Column("by", String, nullable=False),
    Column("at", String, nullable=False),
    UniqueConstraint("model_id", "stage"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model_id", String(26), ForeignKey("models.id"), nullable=False),
    Column("stage", String, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("checks", JSON, nullable=False),
    Column("by", String, nullable=False),
    Column("at", String, nullable=False),
)
Index("verdicts_by_model", verdicts.c.model_id)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model_id", String(26), ForeignKey("models.id"), nullable=False),
    Column("stage", String, nullable=False),
    Column("approver", String, nullable=False),
    Column("method", String, nullable=False),
    Column("signature", Text, nullable=False),
    Column("at", String, nullable=False),
    UniqueConstraint("model_id", "stage", "approver"),
)

approvers = Table(
    "approvers",
    metadata,
    Column("name", String, primary_key=True),
    Column("public_key", String, nullable=False),
    Column("added_by", String, nullable=False),
    Column("added_at", String, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("name", String, primary_key=True),
    Column("live_revision", Integer),
    Column("created_at", String, nullable=False),
    Column("removed_at", String, nullable=False, default=""),
    Column("policy", JSON, nullable=False, default=dict, server_default="{}"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("deployment", String, ForeignKey("deployments.name"), nullable=False),
    Column("model_id", String(26), ForeignKey("models.id"), nullable=False),
    Column("previous", Integer),
    Column("is_rollback", Boolean, nullable=False, default=False),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("request_id", String, unique=True),
    Column("by", String, nullable=False),
    Column("at", String, nullable=False),
    Column("options", JSON, nullable=False, default=dict, server_default="{}"),
    sqlite_autoincrement=True,
)
Index("revisions_by_deployment", revisions.c.deployment)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("models", JSON, nullable=False),
    Column("created_by", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("expires_at", String, nullable=False, default=""),
    Column("revoked_at", String, nullable=False, default=""),
    Column("priority", String, nullable=False, default="interactive", server_default="interactive"),
    Column("share_group", String, nullable=False, default="", server_default=text("''")),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("target", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("prev", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
Index("audit_by_action", audit_events.c.action)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("at", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("signature", Text, nullable=False),
)
