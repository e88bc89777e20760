"""Refused records settle when a newer good record of their key is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Count them."""
    op.add_column(
        "quarantine", sa.Column("settled", sa.Integer(), nullable=False, server_default="0")
    )
