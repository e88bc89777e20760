"""Deliveries: one row per sealed batch, moved on by compare-and-set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, update

from exchange.store.receipts import add_receipt
from exchange.store.rows import DeliveryRow, ReceiptRow
from exchange.store.sql import (
    Lender,
    at,
    columns,
    contradiction,
    insert_missing,
    keyed,
    made,
    select_keys,
    stale,
    values,
)
from exchange.store.tables import deliveries as table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

KEY = ("resource_name", "batch_no")
NAMES = {
    "resource": "resource_name",
    "batch_no": "batch_no",
    "topic": "log_topic",
    "partition": "log_part",
    "offset": "log_offset",
    "statement": "statement_digest",
    "root": "root_digest",
    "rows": "row_count",
    "state": "delivery_state",
    "pull": "pull_id",
    "attempts": "attempts",
    "due": "due_at",
    "owner": "lease_owner",
    "code": "trouble_code",
    "reason": "trouble_text",
    "receipt_no": "receipt_no",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "version": "version_no",
}
MOVING = (
    *("state", "attempts", "due", "owner", "code", "reason", "receipt_no"),
    *("updated_at", "version"),
)
"""Fields that a save changes; the others say what was sealed and never change."""
SEALED = ("topic", "partition", "offset", "statement", "root", "rows", "pull")

_BY_KEY = select(*columns(table, NAMES)).where(keyed(table, KEY))
_SAVE = (
    update(table)
    .where(keyed(table, KEY))
    .where(table.c.version_no == bindparam("at_version", type_=table.c.version_no.type))
)


class Deliveries:
    """The deliveries of all resources."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime]) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock

    def add(self, rows: Sequence[DeliveryRow]) -> int:
        """Add new deliveries; those already there stay as they are. Return how many were new.

        Raises Integrity when a batch number is there with another seal or address.
        """
        now = self._clock()
        new = [values(replace(r, created_at=now, updated_at=now, version=0), NAMES) for r in rows]
        with self._lender.write() as connection:
            known = insert_missing(connection, table, new, KEY)
            _compare(connection, [row for row in rows if (row.resource, row.batch_no) in known])
        return len({(row.resource, row.batch_no) for row in rows}) - len(known)

    def save(self, row: DeliveryRow, *, receipt: ReceiptRow | None = None) -> DeliveryRow:
        """Save the moving fields of a row that was read before, with its receipt if it has one.

        Return the row as it stands now. Raises Stale, a Transient, when another worker saved
        it meanwhile: of two workers that take the same delivery, one gets it.
        """
        saved = replace(row, updated_at=self._clock(), version=row.version + 1)
        moved = values(saved, {name: NAMES[name] for name in MOVING})
        with self._lender.write() as connection:
            done = connection.execute(
                _SAVE,
                at(KEY, (row.resource, row.batch_no)) | {"at_version": row.version} | moved,
            )
            if done.rowcount != 1:
                raise stale(f"delivery {row.resource}/{row.batch_no}")
            if receipt is not None:
                add_receipt(connection, receipt)
        return saved

    def get(self, resource: str, batch_no: str) -> DeliveryRow | None:
        """Find one delivery."""
        with self._lender.read() as connection:
            found = connection.execute(_BY_KEY, at(KEY, (resource, batch_no))).one_or_none()
        return None if found is None else made(DeliveryRow, found)

    def first(self, resource: str, partition: int, states: Collection[str]) -> DeliveryRow | None:
        """Find the first delivery of a resource's partition among ``states``."""
        query = (
            select(func.min(table.c.batch_no))
            .where(table.c.resource_name == resource)
            .where(table.c.log_part == partition)
            .where(table.c.delivery_state.in_(states))
        )
        with self._lender.read() as connection:
            batch_no = connection.execute(query).scalar()
        row = None if batch_no is None else self.get(resource, batch_no)
        return row if row is not None and row.state in states else None  # it may have moved on

    def find(
        self,
        *,
        resource: str | None = None,
        states: Collection[str] | None = None,
        limit: int = 1000,
    ) -> list[DeliveryRow]:
        """Find deliveries, newest batch first."""
        query = select(*columns(table, NAMES)).order_by(
            table.c.batch_no.desc(), table.c.resource_name
        )
        if resource is not None:
            query = query.where(table.c.resource_name == resource)
        if states is not None:
            query = query.where(table.c.delivery_state.in_(states))
        with self._lender.read() as connection:
            return [made(DeliveryRow, row) for row in connection.execute(query.limit(limit))]

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by resource and state."""
        query = select(table.c.resource_name, table.c.delivery_state, func.count()).group_by(
            table.c.resource_name, table.c.delivery_state
        )
        with self._lender.read() as connection:
            return {
                (resource, state): count for resource, state, count in connection.execute(query)
            }


def _compare(connection: Connection, rows: Sequence[DeliveryRow]) -> None:
    """Refuse rows that tell another story than those with the same key in the table."""
    names = {name: NAMES[name] for name in ("resource", "batch_no", *SEALED)}
    keys = [(row.resource, row.batch_no) for row in rows]
    there = {
        (found.resource, found.batch_no): found
        for found in select_keys(connection, table, columns(table, names), KEY, keys)
    }
    for row in rows:
        found = there[row.resource, row.batch_no]
        if any(getattr(found, name) != getattr(row, name) for name in names):
            raise contradiction(f"delivery {row.resource}/{row.batch_no}")
