"""The tables, in SQL that every database of domain.md §10 understands.

Names have at most 30 bytes and are reserved nowhere; no JSONB, arrays, partial indexes,
sequences or RETURNING. Keys come from the domain. Lengths count characters.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from exchange.errors import Rejected
from exchange.text import Text as Sentence

if TYPE_CHECKING:
    from sqlalchemy import Dialect

MAX_TEXT = 4_000
"""Longest free text kept, in characters; longer ones are cut and end in an ellipsis."""


class Moment(TypeDecorator[datetime]):
    """A time as text, ``2026-11-23T01:02:03.004Z``: sorts, reads and travels everywhere."""

    impl = String(24)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write an aware time in UTC, cut to the millisecond."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a time without zone"
            raise ValueError(message)
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Read it back, aware."""
        del dialect
        return None if value is None else datetime.fromisoformat(value)


class Name(TypeDecorator[str]):
    """A short identifier; never empty where it is a key. Too long or broken: refused."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        """Take the longest length in characters."""
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write NULL for an empty name: some databases cannot tell them apart."""
        del dialect
        if value and (len(value) > self.length or not _storable(value)):
            raise Rejected(
                Sentence(
                    f"「{value[:60]!a}」不能作为标识保存(至多 {self.length} 个字符)",
                    f"{value[:60]!a} cannot be stored as a name of up to {self.length} characters",
                ),
                hint=Sentence(
                    "缩短它,并去掉不可见字符", "shorten it and remove control characters"
                ),
            )
        return value or None

    def process_result_value(self, value: str | None, dialect: Dialect) -> str:
        """Read NULL as empty."""
        del dialect
        return value or ""


class Words(TypeDecorator[str]):
    """Free text, often from other systems: cut to size, unstorable characters replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write NULL for an empty text."""
        del dialect
        if not value:
            return None
        if not _storable(value):  # NUL, or bytes of a file name that were no text
            value = value.replace("\0", "\ufffd").encode(errors="replace").decode()
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"

    def process_result_value(self, value: str | None, dialect: Dialect) -> str:
        """Read NULL as empty."""
        del dialect
        return value or ""


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


metadata = MetaData()

deliveries = Table(
    "deliveries",
    metadata,
    Column("resource_name", Name(64), primary_key=True),
    Column("batch_no", Name(32), primary_key=True),
    Column("log_topic", Name(249), nullable=False),
    Column("log_part", Integer, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Column("statement_digest", Name(160), nullable=False),
    Column("root_digest", Name(160), nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("delivery_state", Name(16), nullable=False),
    Column("pull_id", Name(64)),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment),
    Column("lease_owner", Name(128)),
    Column("trouble_code", Name(64)),
    Column("trouble_text", Words),
    Column("receipt_no", Name(64)),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("version_no", Integer, nullable=False),
)
Index("ix_deliveries_state", deliveries.c.delivery_state, deliveries.c.resource_name)
Index("ix_deliveries_pull", deliveries.c.pull_id)

receipts = Table(
    "receipts",
    metadata,
    Column("resource_name", Name(64), primary_key=True),
    Column("batch_no", Name(32), primary_key=True),
    Column("receipt_no", Name(64), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("rows_sent", Integer, nullable=False),
    Column("rows_accepted", Integer, nullable=False),
    Column("rows_rejected", Integer, nullable=False),
    UniqueConstraint("receipt_no", name="uq_receipts_no"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("log_topic", Name(249), primary_key=True),
    Column("log_part", Integer, primary_key=True),
    Column("log_offset", BigInteger, primary_key=True),
    Column("resource_name", Name(64), nullable=False),
    Column("source_name", Name(128), nullable=False),
    Column("pull_id", Name(64), nullable=False),
    Column("locator", Words),
    Column("row_count", Integer, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("catalog_version", Name(64)),
    Column("created_at", Moment, nullable=False),
    Column("replayed", Integer, nullable=False),
    Column("dismissed", Integer, nullable=False),
)
Index("ix_quarantine_resource", quarantine.c.resource_name, quarantine.c.created_at)
Index("ix_quarantine_pull", quarantine.c.pull_id)

quarantine_rows = Table(
    "quarantine_rows",
    metadata,
    Column("log_topic", Name(249), primary_key=True),
    Column("log_part", Integer, primary_key=True),
    Column("log_offset", BigInteger, primary_key=True),
    Column("row_no", Integer, primary_key=True),
    Column("row_state", Name(16), nullable=False),
    Column("touched_by", Name(128), nullable=False),
    Column("touched_at", Moment, nullable=False),
    Column("note_text", Words),
    ForeignKeyConstraint(
        ["log_topic", "log_part", "log_offset"],
        ["quarantine.log_topic", "quarantine.log_part", "quarantine.log_offset"],
        name="fk_quarantine_rows",
    ),
)

pulls = Table(
    "pulls",
    metadata,
    Column("pull_id", Name(64), primary_key=True),
    Column("source_name", Name(128), nullable=False),
    Column("resource_name", Name(64), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("pull_state", Name(16), nullable=False),
    Column("rows_pulled", BigInteger, nullable=False),
    Column("trouble_code", Name(64)),
    Column("trouble_text", Words),
)
Index("ix_pulls_started", pulls.c.started_at)

source_notes = Table(
    "source_notes",
    metadata,
    Column("pull_id", Name(64), primary_key=True),
    Column("locator", Name(400), primary_key=True),
    Column("row_no", BigInteger, primary_key=True, autoincrement=False),
    Column("note_kind", Name(32), nullable=False),
    Column("note_text", Words),
)

received = Table(
    "received",
    metadata,
    Column("sender_id", Name(128), primary_key=True),
    Column("resource_name", Name(64), primary_key=True),
    Column("batch_no", Name(32), primary_key=True),
    Column("statement_digest", Name(160), nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("file_path", Words),
    Column("receipt_no", Name(64), nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
    UniqueConstraint("receipt_no", name="uq_received_no"),
)

witnessed = Table(
    "witnessed",
    metadata,
    Column("sender_id", Name(128), primary_key=True),
    Column("log_origin", Name(160), primary_key=True),
    Column("log_size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("seen_at", Moment, nullable=False),
)

audit_trail = Table(
    "audit_trail",
    metadata,
    Column("entry_no", BigInteger, primary_key=True, autoincrement=False),
    Column("entry_at", Moment, nullable=False),
    Column("actor_name", Name(128), nullable=False),
    Column("action_name", Name(64), nullable=False),
    Column("subject_name", Name(400)),
    Column("detail", Words),
    Column("previous_digest", Name(160)),
    Column("entry_digest", Name(160), nullable=False),
)

seals = Table(
    "seals",
    metadata,
    Column("es_id", Name(64), primary_key=True),
    Column("seal_name", Name(64), nullable=False),
    Column("seal_state", Name(16), nullable=False),
    Column("apply_no", Name(64)),
    Column("applied_at", Moment),
    Column("approve_no", Name(64)),
    Column("approved_at", Moment),
    Column("filing_no", Name(64)),
    Column("filed_at", Moment),
    Column("police_code", Name(14)),
    Column("reason_text", Words),
    Column("content", LargeBinary),
    Column("updated_at", Moment, nullable=False),
    Column("version_no", Integer, nullable=False),
)
Index("ix_seals_name", seals.c.seal_name)
