"""Runs that consist of runs (campaigns), which run repeats which, and the lock of each run's packages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables and columns; the jobs that are there belong to no campaign, repeat none, and have no lock."""
    op.add_column("jobs", sa.Column("campaign_id", sa.String(26), nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("repeats", sa.String(26), nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("lock", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.create_index("jobs_by_campaign", "jobs", ["campaign_id"])
    op.create_table(
        "locks",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.String(), nullable=False),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_uid", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=False),
        sa.Column("problem", sa.JSON()),
        sa.Column("summary", sa.JSON()),
    )
    op.create_index("campaigns_by_state", "campaigns", ["state"])
    op.create_table(
        "campaign_steps",
        sa.Column("campaign_id", sa.String(26), sa.ForeignKey("campaigns.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.String(26), nullable=False),
        sa.Column("outcome", sa.JSON()),
        sa.Column("problem", sa.JSON()),
        sa.Column("at", sa.String(), nullable=False),
    )
    op.create_index("campaign_steps_by_job", "campaign_steps", ["job_id"])
