"""How a deployment is kept in memory, and how a revision is served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; what is deployed already is of kind generate with every default."""
    op.add_column("deployments", sa.Column("policy", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("revisions", sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))
