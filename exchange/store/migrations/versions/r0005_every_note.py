"""Every note is kept: its place told several of them apart no more than one."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
_CHUNK = 1_000


def upgrade() -> None:
    """Key notes by all that they say; those that are there move over."""
    new = op.create_table(
        "source_notes_new",
        sa.Column("pull_id", sa.String(64), nullable=False),
        sa.Column("note_digest", sa.String(64), nullable=False),
        sa.Column("locator", sa.String(400)),
        sa.Column("row_no", sa.BigInteger(), nullable=False),
        sa.Column("note_kind", sa.String(32), nullable=False),
        sa.Column("note_text", sa.Text()),
        sa.PrimaryKeyConstraint("pull_id", "note_digest"),
    )
    connection = op.get_bind()
    old = sa.table(
        "source_notes",
        *map(sa.column, ("pull_id", "locator", "row_no", "note_kind", "note_text")),
    )
    found = connection.execute(sa.select(old)).mappings()
    while rows := [dict(row) for row in found.fetchmany(_CHUNK)]:
        for row in rows:
            said = [row["locator"] or "", row["row_no"], row["note_kind"], row["note_text"] or ""]
            digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
            row["note_digest"] = digest
        connection.execute(sa.insert(new), rows)
    op.drop_table("source_notes")
    op.rename_table("source_notes_new", "source_notes")
