"""What the receiver has seen of evidence logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "witnessed",
        sa.Column("sender_id", sa.String(128), nullable=False),
        sa.Column("log_origin", sa.String(160), nullable=False),
        sa.Column("log_size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.String(24), nullable=False),
        sa.PrimaryKeyConstraint("sender_id", "log_origin"),
    )
