"""When a data set version was removed: its number is never given to another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; nothing was removed so far."""
    op.add_column("datasets", sa.Column("removed_at", sa.String(), nullable=False, server_default=sa.text("''")))
