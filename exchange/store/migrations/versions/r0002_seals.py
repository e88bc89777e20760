"""The register of seals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "seals",
        sa.Column("es_id", sa.String(64), nullable=False),
        sa.Column("seal_name", sa.String(64), nullable=False),
        sa.Column("seal_state", sa.String(16), nullable=False),
        sa.Column("apply_no", sa.String(64)),
        sa.Column("applied_at", sa.String(24)),
        sa.Column("approve_no", sa.String(64)),
        sa.Column("approved_at", sa.String(24)),
        sa.Column("filing_no", sa.String(64)),
        sa.Column("filed_at", sa.String(24)),
        sa.Column("police_code", sa.String(14)),
        sa.Column("reason_text", sa.Text()),
        sa.Column("content", sa.LargeBinary()),
        sa.Column("updated_at", sa.String(24), nullable=False),
        sa.Column("version_no", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("es_id"),
    )
    op.create_index("ix_seals_name", "seals", ["seal_name"])
