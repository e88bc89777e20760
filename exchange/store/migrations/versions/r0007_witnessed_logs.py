"""A witness knows a log by its origin, whoever shows it: the longest that any caller showed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
_COLUMNS = ("log_origin", "log_size", "note", "seen_at", "sender_id")


def upgrade() -> None:
    """Create the table and fill it; what each caller showed last stays where it is."""
    new = op.create_table(
        "witnessed_logs",
        sa.Column("log_origin", sa.String(160), nullable=False),
        sa.Column("signer_digest", sa.String(64)),
        sa.Column("log_size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.String(24), nullable=False),
        sa.Column("sender_id", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("log_origin"),
    )
    old = sa.table("witnessed", *map(sa.column, _COLUMNS))
    order = (old.c.log_origin, old.c.log_size.desc(), old.c.seen_at.desc())
    longest: dict[str, dict[str, object]] = {}
    for row in op.get_bind().execute(sa.select(old).order_by(*order)).mappings():
        longest.setdefault(row["log_origin"], dict(row))
    if longest:
        op.get_bind().execute(sa.insert(new), list(longest.values()))
