"""The receiver's side: what was received and answered."""

from __future__ import annotations

from sqlalchemy import func, select

from exchange.store.rows import ReceivedRow
from exchange.store.sql import Lender, at, columns, insert_missing, keyed, made, values
from exchange.store.tables import received

KEY = ("sender_id", "resource_name", "batch_no")
NAMES = {
    "sender": "sender_id",
    "resource": "resource_name",
    "batch_no": "batch_no",
    "statement": "statement_digest",
    "rows": "row_count",
    "path": "file_path",
    "receipt_no": "receipt_no",
    "receipt": "receipt",
    "received_at": "received_at",
}

_BY_KEY = select(*columns(received, NAMES)).where(keyed(received, KEY))


class Received:
    """The batches that were taken in."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def add(self, row: ReceivedRow) -> ReceivedRow:
        """Keep a batch with its receipt, unless there is one with this number; return what is kept.

        Two requests with one batch at the same time get one and the same receipt. The caller
        compares ``statement``: another digest under the same number is another batch.
        """
        with self._lender.write() as connection:
            insert_missing(connection, received, [values(row, NAMES)], KEY)
            key = at(KEY, (row.sender, row.resource, row.batch_no))
            return made(ReceivedRow, connection.execute(_BY_KEY, key).one())

    def get(self, sender: str, resource: str, batch_no: str) -> ReceivedRow | None:
        """Find a batch."""
        key = at(KEY, (sender, resource, batch_no))
        with self._lender.read() as connection:
            found = connection.execute(_BY_KEY, key).one_or_none()
        return None if found is None else made(ReceivedRow, found)

    def find(
        self, *, sender: str | None = None, resource: str | None = None, limit: int = 1000
    ) -> list[ReceivedRow]:
        """Find batches, newest first."""
        query = select(*columns(received, NAMES)).order_by(
            received.c.received_at.desc(), received.c.resource_name, received.c.batch_no.desc()
        )
        if sender is not None:
            query = query.where(received.c.sender_id == sender)
        if resource is not None:
            query = query.where(received.c.resource_name == resource)
        with self._lender.read() as connection:
            return [made(ReceivedRow, row) for row in connection.execute(query.limit(limit))]

    def counts(self) -> tuple[int, int]:
        """Count batches and rows."""
        query = select(func.count(), func.coalesce(func.sum(received.c.row_count), 0))
        with self._lender.read() as connection:
            batches, rows = connection.execute(query).one()
        return int(batches), int(rows)
