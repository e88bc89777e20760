"""The first tables.

Types are written out: what a released migration makes must not change with the classes of rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "deliveries",
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("batch_no", sa.String(32), nullable=False),
        sa.Column("lane_no", sa.Integer(), nullable=False),
        sa.Column("log_topic", sa.String(249), nullable=False),
        sa.Column("log_part", sa.Integer(), nullable=False),
        sa.Column("log_offset", sa.BigInteger(), nullable=False),
        sa.Column("statement_digest", sa.String(160), nullable=False),
        sa.Column("root_digest", sa.String(160), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("delivery_state", sa.String(16), nullable=False),
        sa.Column("pull_id", sa.String(64)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(24)),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("trouble_code", sa.String(64)),
        sa.Column("trouble_text", sa.Text()),
        sa.Column("receipt_no", sa.String(64)),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("updated_at", sa.String(24), nullable=False),
        sa.Column("version_no", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("resource_name", "batch_no"),
    )
    op.create_index("ix_deliveries_pull", "deliveries", ["pull_id"])
    op.create_index("ix_deliveries_state", "deliveries", ["delivery_state", "resource_name"])
    op.create_table(
        "receipts",
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("batch_no", sa.String(32), nullable=False),
        sa.Column("receipt_no", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(24), nullable=False),
        sa.Column("rows_sent", sa.Integer(), nullable=False),
        sa.Column("rows_accepted", sa.Integer(), nullable=False),
        sa.Column("rows_rejected", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("resource_name", "batch_no"),
        sa.UniqueConstraint("receipt_no", name="uq_receipts_no"),
    )
    op.create_table(
        "quarantine",
        sa.Column("log_topic", sa.String(249), nullable=False),
        sa.Column("log_part", sa.Integer(), nullable=False),
        sa.Column("log_offset", sa.BigInteger(), nullable=False),
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("source_name", sa.String(128), nullable=False),
        sa.Column("pull_id", sa.String(64), nullable=False),
        sa.Column("locator", sa.Text()),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("catalog_version", sa.String(64)),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("replayed", sa.Integer(), nullable=False),
        sa.Column("dismissed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("log_topic", "log_part", "log_offset"),
    )
    op.create_index("ix_quarantine_pull", "quarantine", ["pull_id"])
    op.create_index("ix_quarantine_resource", "quarantine", ["resource_name", "created_at"])
    op.create_table(
        "quarantine_rows",
        sa.Column("log_topic", sa.String(249), nullable=False),
        sa.Column("log_part", sa.Integer(), nullable=False),
        sa.Column("log_offset", sa.BigInteger(), nullable=False),
        sa.Column("row_no", sa.Integer(), nullable=False),
        sa.Column("row_state", sa.String(16), nullable=False),
        sa.Column("touched_by", sa.String(128), nullable=False),
        sa.Column("touched_at", sa.String(24), nullable=False),
        sa.Column("note_text", sa.Text()),
        sa.PrimaryKeyConstraint("log_topic", "log_part", "log_offset", "row_no"),
        sa.ForeignKeyConstraint(
            ["log_topic", "log_part", "log_offset"],
            ["quarantine.log_topic", "quarantine.log_part", "quarantine.log_offset"],
            name="fk_quarantine_rows",
        ),
    )
    op.create_table(
        "pulls",
        sa.Column("pull_id", sa.String(64), nullable=False),
        sa.Column("source_name", sa.String(128), nullable=False),
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("started_at", sa.String(24), nullable=False),
        sa.Column("ended_at", sa.String(24)),
        sa.Column("pull_state", sa.String(16), nullable=False),
        sa.Column("rows_pulled", sa.BigInteger(), nullable=False),
        sa.Column("trouble_code", sa.String(64)),
        sa.Column("trouble_text", sa.Text()),
        sa.PrimaryKeyConstraint("pull_id"),
    )
    op.create_index("ix_pulls_started", "pulls", ["started_at"])
    op.create_table(
        "source_notes",
        sa.Column("pull_id", sa.String(64), nullable=False),
        sa.Column("locator", sa.String(400), nullable=False),
        sa.Column("row_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note_kind", sa.String(32), nullable=False),
        sa.Column("note_text", sa.Text()),
        sa.PrimaryKeyConstraint("pull_id", "locator", "row_no"),
    )
    op.create_table(
        "received",
        sa.Column("sender_id", sa.String(128), nullable=False),
        sa.Column("resource_name", sa.String(64), nullable=False),
        sa.Column("batch_no", sa.String(32), nullable=False),
        sa.Column("statement_digest", sa.String(160), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("file_path", sa.Text()),
        sa.Column("receipt_no", sa.String(64), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(24), nullable=False),
        sa.PrimaryKeyConstraint("sender_id", "resource_name", "batch_no"),
        sa.UniqueConstraint("receipt_no", name="uq_received_no"),
    )
    op.create_table(
        "audit_trail",
        sa.Column("entry_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entry_at", sa.String(24), nullable=False),
        sa.Column("actor_name", sa.String(128), nullable=False),
        sa.Column("action_name", sa.String(64), nullable=False),
        sa.Column("subject_name", sa.String(400)),
        sa.Column("detail", sa.Text()),
        sa.Column("previous_digest", sa.String(160)),
        sa.Column("entry_digest", sa.String(160), nullable=False),
        sa.PrimaryKeyConstraint("entry_no"),
    )
