"""Receipts: written once, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from sqlalchemy import Connection, Integer, LargeBinary, UniqueConstraint, func, insert, select
from sqlalchemy.exc import IntegrityError

from exchange.store.columns import Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, contradiction


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt (回执) whose every check passed."""

    receipt_no: Annotated[str, Stored("receipt_no", Name(64))]
    resource: Annotated[str, Stored("resource_name", Name(64), key=True)]
    batch_no: Annotated[str, Stored("batch_no", Name(32), key=True)]
    content: Annotated[bytes, Stored("content", LargeBinary)] = field(repr=False)
    received_at: Annotated[datetime, Stored("received_at", Moment)]
    rows_sent: Annotated[int, Stored("rows_sent", Integer)]
    rows_accepted: Annotated[int, Stored("rows_accepted", Integer)]
    rows_rejected: Annotated[int, Stored("rows_rejected", Integer)]


RECEIPTS = RowTable("receipts", ReceiptRow, UniqueConstraint("receipt_no", name="uq_receipts_no"))
_ADD = insert(RECEIPTS.table)


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
            return RECEIPTS.get(connection, resource, batch_no)

    def find(self, *, resource: str | None = None, limit: int = 1000) -> list[ReceiptRow]:
        """Find receipts, newest batch first."""
        query = select(*RECEIPTS.columns).order_by(RECEIPTS.c.batch_no.desc(), RECEIPTS.c.resource)
        if resource is not None:
            query = query.where(RECEIPTS.c.resource == resource)
        with self._lender.read() as connection:
            return RECEIPTS.read(connection, query.limit(limit))

    def walk(self) -> Iterator[ReceiptRow]:
        """Yield all receipts by resource and batch; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._page(after):
            yield from page
            after = (page[-1].resource, page[-1].batch_no)

    def _page(self, after: tuple[object, ...]) -> list[ReceiptRow]:
        with self._lender.read() as connection:
            return RECEIPTS.page(connection, after)

    def counts(self) -> Mapping[str, int]:
        """Count receipts by resource."""
        query = select(RECEIPTS.c.resource, func.count()).group_by(RECEIPTS.c.resource)
        with self._lender.read() as connection:
            return {resource: int(count) for resource, count in connection.execute(query)}


def add_receipt(connection: Connection, row: ReceiptRow) -> bool:
    """Add a receipt in a transaction that is open already."""
    known = RECEIPTS.get(connection, row.resource, row.batch_no)
    if known is None:
        try:
            with connection.begin_nested():
                connection.execute(_ADD, RECEIPTS.values(row))
        except IntegrityError:  # another transaction was faster, or the number is taken
            known = RECEIPTS.get(connection, row.resource, row.batch_no)
            if known is None:
                raise
        else:
            return True
    if (known.receipt_no, known.content) != (row.receipt_no, row.content):
        raise contradiction(f"receipt of {row.resource}/{row.batch_no}")
    return False
