"""Deliveries: one row per sealed batch, moved on by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from sqlalchemy import BigInteger, Connection, Index, Integer, bindparam, func, select, update

from exchange.store.columns import FreeText, Moment, Name
from exchange.store.node.receipts import ReceiptRow, add_receipt
from exchange.store.sql import Lender, RowTable, Stored, contradiction, stale


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One sealed batch on its way to the province (投递)."""

    resource: Annotated[str, Stored("resource_name", Name(64), key=True)]
    batch_no: Annotated[str, Stored("batch_no", Name(32), key=True)]
    """批次号: unique per resource; as text, later batches sort behind earlier ones."""
    topic: Annotated[str, Stored("log_topic", Name(249))]
    partition: Annotated[int, Stored("log_part", Integer)]
    offset: Annotated[int, Stored("log_offset", BigInteger)]
    """Topic, partition and offset are the address of the sealed batch in the log."""
    statement: Annotated[str, Stored("statement_digest", Name(160))]
    """Digest of the sealed statement, ``<hash>:<hex>`` or plain hex."""
    root: Annotated[str, Stored("root_digest", Name(160))]
    rows: Annotated[int, Stored("row_count", Integer)]
    state: Annotated[str, Stored("delivery_state", Name(16))]
    pull: Annotated[str, Stored("pull_id", Name(64), null=True)] = ""
    """The pull that the rows came from."""
    attempts: Annotated[int, Stored("attempts", Integer)] = 0
    due: Annotated[datetime | None, Stored("due_at", Moment, null=True)] = None
    """Not before this time; for a leased delivery, the end of the lease."""
    owner: Annotated[str, Stored("lease_owner", Name(128), null=True)] = ""
    """Worker that holds the lease."""
    code: Annotated[str, Stored("trouble_code", Name(64), null=True)] = ""
    reason: Annotated[str, Stored("trouble_text", FreeText, null=True)] = ""
    """Code and text of the last trouble, as given."""
    receipt_no: Annotated[str, Stored("receipt_no", Name(64), null=True)] = ""
    created_at: Annotated[datetime | None, Stored("created_at", Moment)] = None
    updated_at: Annotated[datetime | None, Stored("updated_at", Moment)] = None
    version: Annotated[int, Stored("version_no", Integer)] = 0
    """Rises with each save; a save of an older version is refused."""


DELIVERIES = RowTable("deliveries", DeliveryRow)
Index("ix_deliveries_state", DELIVERIES.c.state, DELIVERIES.c.resource)
Index("ix_deliveries_pull", DELIVERIES.c.pull)
_SAVE = (
    update(DELIVERIES.table)
    .where(DELIVERIES.has_key)
    .where(DELIVERIES.c.version == bindparam("read_version", type_=DELIVERIES.c.version.type))
)
_MOVING = (
    *("state", "attempts", "due", "owner", "code", "reason", "receipt_no"),
    *("updated_at", "version"),
)
"""Fields that a save changes; the others say what was sealed and never change."""
_SEALED = ("topic", "partition", "offset", "statement", "root", "rows", "pull")


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
        new = [replace(row, created_at=now, updated_at=now, version=0) for row in rows]
        with self._lender.write() as connection:
            known = DELIVERIES.insert_missing(connection, new)
            _compare(connection, [row for row in rows if (row.resource, row.batch_no) in known])
        return len({(row.resource, row.batch_no) for row in rows}) - len(known)

    def save(self, row: DeliveryRow, *, receipt: ReceiptRow | None = None) -> DeliveryRow:
        """Save the moving fields of a row that was read before, with its receipt if it has one.

        Return the row as it stands now. Raises Stale, a Transient, when another worker saved
        it meanwhile: of two workers that take the same delivery, one gets it.
        """
        with self._lender.write() as connection:
            saved = self._save(connection, row)
            if receipt is not None:
                add_receipt(connection, receipt)
        return saved

    def saving(self, row: DeliveryRow) -> Callable[[Connection], None]:
        """Return what saves a row in a transaction of others, such as that of the audit trail."""

        def write(connection: Connection) -> None:
            self._save(connection, row)

        return write

    def _save(self, connection: Connection, row: DeliveryRow) -> DeliveryRow:
        saved = replace(row, updated_at=self._clock(), version=row.version + 1)
        place = DELIVERIES.at(row.resource, row.batch_no) | {"read_version": row.version}
        result = connection.execute(_SAVE, place | DELIVERIES.values(saved, _MOVING))
        if result.rowcount != 1:
            raise stale(f"delivery {row.resource}/{row.batch_no}")
        return saved

    def get(self, resource: str, batch_no: str) -> DeliveryRow | None:
        """Find one delivery."""
        with self._lender.read() as connection:
            return DELIVERIES.get(connection, resource, batch_no)

    def first(self, resource: str, partition: int, states: Collection[str]) -> DeliveryRow | None:
        """Find the first delivery of a resource's partition among ``states``."""
        query = (
            select(func.min(DELIVERIES.c.batch_no))
            .where(DELIVERIES.c.resource == resource)
            .where(DELIVERIES.c.partition == partition)
            .where(DELIVERIES.c.state.in_(states))
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
        query = select(*DELIVERIES.columns).order_by(
            DELIVERIES.c.batch_no.desc(), DELIVERIES.c.resource
        )
        if resource is not None:
            query = query.where(DELIVERIES.c.resource == resource)
        if states is not None:
            query = query.where(DELIVERIES.c.state.in_(states))
        with self._lender.read() as connection:
            return DELIVERIES.read(connection, query.limit(limit))

    def walk(self, resource: str) -> Iterator[DeliveryRow]:
        """Yield all deliveries of a resource, oldest batch first; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._page(after, resource):
            yield from page
            after = (page[-1].resource, page[-1].batch_no)

    def _page(self, after: tuple[object, ...], resource: str) -> list[DeliveryRow]:
        with self._lender.read() as connection:
            return DELIVERIES.page(connection, after, DELIVERIES.c.resource == resource)

    def newest(self, resource: str) -> DeliveryRow | None:
        """Find the delivery of a resource with the highest batch number."""
        query = select(func.max(DELIVERIES.c.batch_no)).where(DELIVERIES.c.resource == resource)
        with self._lender.read() as connection:
            number = connection.execute(query).scalar()
            return None if number is None else DELIVERIES.get(connection, resource, number)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by resource and state."""
        query = select(DELIVERIES.c.resource, DELIVERIES.c.state, func.count()).group_by(
            DELIVERIES.c.resource, DELIVERIES.c.state
        )
        with self._lender.read() as connection:
            return {
                (resource, state): count for resource, state, count in connection.execute(query)
            }


def _compare(connection: Connection, rows: Sequence[DeliveryRow]) -> None:
    """Refuse rows that tell another story than those with the same key in the table."""
    names = (*DELIVERIES.key, *_SEALED)
    wanted = [DELIVERIES.c[name].label(name) for name in names]
    keys = [(row.resource, row.batch_no) for row in rows]
    stored = {
        (row.resource, row.batch_no): row
        for row in DELIVERIES.select_keys(connection, wanted, keys)
    }
    for row in rows:
        before = stored[row.resource, row.batch_no]
        if any(getattr(before, name) != getattr(row, name) for name in names):
            raise contradiction(f"delivery {row.resource}/{row.batch_no}")
