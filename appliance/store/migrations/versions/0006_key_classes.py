"""The class of an API key's requests, and the group of keys that share cached prefixes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; present keys are served and kept apart as before."""
    op.add_column("api_keys", sa.Column("priority", sa.String(), nullable=False, server_default="interactive"))
    op.add_column("api_keys", sa.Column("share_group", sa.String(), nullable=False, server_default=sa.text("''")))
