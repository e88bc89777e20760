"""Numbers are unique per caller and resource; chains of statements; what a person admits.

Batches from before do not say who sent them: their sender is ``-``, which counts as anybody.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
_KEPT = (
    "resource_name, batch_no, statement_digest, row_count, file_path, receipt_no, receipt,"
    " received_at"
)


def upgrade() -> None:
    """Create the tables; batches that are there move over."""
    op.create_table(
        "received_batches",
        sa.Column("department_code", sa.String(18), nullable=False),
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("batch_no", sa.String(32), nullable=False),
        sa.Column("sender_id", sa.String(128), nullable=False),
        sa.Column("version_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("statement_digest", sa.String(160), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("file_path", sa.Text()),
        sa.Column("receipt_no", sa.String(64), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(24), nullable=False),
        sa.PrimaryKeyConstraint(
            "department_code", "resource_name", "batch_no", "sender_id", "version_no"
        ),
        sa.UniqueConstraint("receipt_no", name="uq_received_batches_no"),
    )
    op.execute(
        f"INSERT INTO received_batches (department_code, sender_id, version_no, {_KEPT})"  # noqa: S608 - constants
        f" SELECT sender_id, '-', 1, {_KEPT} FROM received"
    )
    op.drop_table("received")
    op.create_table(
        "received_chains",
        sa.Column("department_code", sa.String(18), nullable=False),
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("part_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sender_id", sa.String(128), nullable=False),
        sa.Column("statement_digest", sa.String(160), nullable=False),
        sa.Column("batch_no", sa.String(32), nullable=False),
        sa.Column("sealed_at", sa.String(24), nullable=False),
        sa.Column("missing_digest", sa.String(160)),
        sa.PrimaryKeyConstraint("department_code", "resource_name", "part_no", "sender_id"),
    )
    op.create_table(
        "admissions",
        sa.Column("statement_digest", sa.String(160), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("actor_name", sa.String(128), nullable=False),
        sa.Column("admitted_at", sa.String(24), nullable=False),
        sa.PrimaryKeyConstraint("statement_digest"),
    )
