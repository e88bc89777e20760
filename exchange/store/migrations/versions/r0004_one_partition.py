"""A delivery's partition is kept once: ``lane_no`` always was ``log_part``."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Drop the copy."""
    op.drop_column("deliveries", "lane_no")
