"""What the receiver took in and answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from sqlalchemy import Integer, LargeBinary, UniqueConstraint, func, select

from exchange.store.columns import FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, stale


@dataclass(frozen=True, slots=True)
class ReceivedBatchRow:
    """A batch that the receiver took in and answered."""

    sender: Annotated[str, Stored("sender_id", Name(128), key=True)]
    resource: Annotated[str, Stored("resource_name", Name(64), key=True)]
    batch_no: Annotated[str, Stored("batch_no", Name(32), key=True)]
    statement: Annotated[str, Stored("statement_digest", Name(160))]
    rows: Annotated[int, Stored("row_count", Integer)]
    path: Annotated[str, Stored("file_path", FreeText, null=True)]
    receipt_no: Annotated[str, Stored("receipt_no", Name(64))]
    receipt: Annotated[bytes, Stored("receipt", LargeBinary)] = field(repr=False)
    received_at: Annotated[datetime, Stored("received_at", Moment)]


RECEIVED = RowTable(
    "received", ReceivedBatchRow, UniqueConstraint("receipt_no", name="uq_received_no")
)


class ReceivedBatches:
    """The batches that were taken in."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def add(self, row: ReceivedBatchRow) -> ReceivedBatchRow:
        """Keep a batch with its receipt, unless there is one with this number; return what is kept.

        Two requests with one batch at the same time get one and the same receipt. The caller
        compares ``statement``: another digest under the same number is another batch.
        """
        with self._lender.write() as connection:
            RECEIVED.insert_missing(connection, [row])
            stored = RECEIVED.get(connection, row.sender, row.resource, row.batch_no)
        if stored is None:
            raise stale(f"batch {row.resource}/{row.batch_no}")
        return stored

    def get(self, sender: str, resource: str, batch_no: str) -> ReceivedBatchRow | None:
        """Find a batch."""
        with self._lender.read() as connection:
            return RECEIVED.get(connection, sender, resource, batch_no)

    def find(
        self, *, sender: str | None = None, resource: str | None = None, limit: int = 1000
    ) -> list[ReceivedBatchRow]:
        """Find batches, newest first."""
        c = RECEIVED.c
        order = (c.received_at.desc(), c.resource, c.batch_no.desc())
        query = select(*RECEIVED.columns).order_by(*order)
        for column, value in ((c.sender, sender), (c.resource, resource)):
            if value is not None:
                query = query.where(column == value)
        with self._lender.read() as connection:
            return RECEIVED.read(connection, query.limit(limit))

    def counts(self) -> tuple[int, int]:
        """Count batches and rows."""
        query = select(func.count(), func.coalesce(func.sum(RECEIVED.c.rows), 0))
        with self._lender.read() as connection:
            batches, rows = connection.execute(query).one()
        return int(batches), int(rows)
