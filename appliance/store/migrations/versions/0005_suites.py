"""Evaluation suites, what an evaluation found beside its figures, and every verdict of a gate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables and columns; present evaluations are on data sets and have no intervals."""
    op.create_table(
        "suites",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("removed_at", sa.String(), nullable=False),
        sa.UniqueConstraint("name", "version"),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("model_id", sa.String(26), sa.ForeignKey("models.id"), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
    )
    op.create_index("verdicts_by_model", "verdicts", ["model_id"], unique=False)
    op.add_column("evaluations", sa.Column("suite", sa.String(), nullable=False, server_default=sa.text("''")))
    op.add_column("evaluations", sa.Column("detail", sa.JSON(), nullable=False, server_default="{}"))
