"""Receipts: written once, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from exchange.store.rows import ReceiptRow
from exchange.store.sql import (
    Lender,
    at,
    columns,
    contradiction,
    keyed,
    made,
    values,
)
from exchange.store.tables import receipts as table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

KEY = ("resource_name", "batch_no")
NAMES = {
    "receipt_no": "receipt_no",
    "resource": "resource_name",
    "batch_no": "batch_no",
    "content": "content",
    "received_at": "received_at",
    "rows_sent": "rows_sent",
    "rows_accepted": "rows_accepted",
    "rows_rejected": "rows_rejected",
}

_BY_KEY = select(*columns(table, NAMES)).where(keyed(table, KEY))
_ADD = insert(table)


class Receipts:
    """The receipts of all batches."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def add(self, row: ReceiptRow) -> bool:
        """Add a receipt; tell whether it is new. Raises Integrity when the batch has another."""
        with self._lender.write() as connection:
            return add_receipt(connection, row)

    def get(self, resource: str, batch_no: str) -> ReceiptRow | None:
        """Find the receipt of a batch."""
        with self._lender.read() as connection:
            return _get(connection, resource, batch_no)

    def find(self, *, resource: str | None = None, limit: int = 1000) -> list[ReceiptRow]:
        """Find receipts, newest batch first."""
        query = select(*columns(table, NAMES)).order_by(
            table.c.batch_no.desc(), table.c.resource_name
        )
        if resource is not None:
            query = query.where(table.c.resource_name == resource)
        with self._lender.read() as connection:
            return [made(ReceiptRow, row) for row in connection.execute(query.limit(limit))]

    def counts(self) -> Mapping[str, int]:
        """Count receipts by resource."""
        query = select(table.c.resource_name, func.count()).group_by(table.c.resource_name)
        with self._lender.read() as connection:
            return {resource: int(count) for resource, count in connection.execute(query)}


def add_receipt(connection: Connection, row: ReceiptRow) -> bool:
    """Add a receipt in a transaction that is open already."""
    there = _get(connection, row.resource, row.batch_no)
    if there is None:
        try:
            with connection.begin_nested():
                connection.execute(_ADD, values(row, NAMES))
        except IntegrityError:  # another transaction was faster, or the number is taken
            there = _get(connection, row.resource, row.batch_no)
            if there is None:
                raise
        else:
            return True
    if (there.receipt_no, there.content) != (row.receipt_no, row.content):
        raise contradiction(f"receipt of {row.resource}/{row.batch_no}")
    return False


def _get(connection: Connection, resource: str, batch_no: str) -> ReceiptRow | None:
    found = connection.execute(_BY_KEY, at(KEY, (resource, batch_no))).one_or_none()
    return None if found is None else made(ReceiptRow, found)
