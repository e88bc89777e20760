"""What a store remembers of itself and of the other parts of its node."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "parts",
        sa.Column("part_name", sa.String(128), nullable=False),
        sa.Column("identity_code", sa.String(64)),
        sa.Column("high_mark", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("part_name"),
    )
