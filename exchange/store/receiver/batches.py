"""What the receiver took in and answered, the chains of statements, what a person admitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

from sqlalchemy import BigInteger, Integer, LargeBinary, UniqueConstraint, func, select, update

from exchange.store.columns import FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, stale

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from exchange.store.audit import AuditTrail

RECEIVED_LINE: Final = "receiver.received"
"""Action of the line of the audit trail of every batch that is taken."""
ANYBODY: Final = "-"
"""Sender of batches that were received before senders were kept."""


@dataclass(frozen=True, slots=True)
class ReceivedBatchRow:
    """A batch that the receiver took in and answered.

    A number belongs to its sender (rid), department and resource. ``version`` is 1 but for a
    batch that a person admitted under a number in use: the versions before it stay.
    """

    department: Annotated[str, Stored("department_code", Name(18), key=True)]
    resource: Annotated[str, Stored("resource_name", Name(64), key=True)]
    batch_no: Annotated[str, Stored("batch_no", Name(32), key=True)]
    sender: Annotated[str, Stored("sender_id", Name(128), key=True)]
    version: Annotated[int, Stored("version_no", Integer, key=True)]
    statement: Annotated[str, Stored("statement_digest", Name(160))]
    rows: Annotated[int, Stored("row_count", Integer)]
    path: Annotated[str, Stored("file_path", FreeText, null=True)]
    receipt_no: Annotated[str, Stored("receipt_no", Name(64))]
    receipt: Annotated[bytes, Stored("receipt", LargeBinary)] = field(repr=False)
    received_at: Annotated[datetime, Stored("received_at", Moment)]


@dataclass(frozen=True, slots=True)
class ChainRow:
    """The chain of statements of one partition of a resource, as one sender delivers it."""

    department: Annotated[str, Stored("department_code", Name(18), key=True)]
    resource: Annotated[str, Stored("resource_name", Name(64), key=True)]
    partition: Annotated[int, Stored("part_no", BigInteger, key=True)]
    sender: Annotated[str, Stored("sender_id", Name(128), key=True)]
    statement: Annotated[str, Stored("statement_digest", Name(160))]
    """Digest of the newest statement."""
    batch_no: Annotated[str, Stored("batch_no", Name(32))]
    """Its batch number."""
    sealed_at: Annotated[str, Stored("sealed_at", Name(24))]
    """Its time of sealing, UTC text as in statements."""
    missing: Annotated[str, Stored("missing_digest", Name(160), null=True)]
    """The statement before the oldest one, which may still come; empty: there is none."""


@dataclass(frozen=True, slots=True)
class AdmissionRow:
    """A statement that a person lets in although its number or its place in the chain is wrong."""

    statement: Annotated[str, Stored("statement_digest", Name(160), key=True)]
    reason: Annotated[str, Stored("reason", FreeText, null=True)]
    actor: Annotated[str, Stored("actor_name", Name(128))]
    admitted_at: Annotated[datetime, Stored("admitted_at", Moment)]


RECEIVED = RowTable(
    "received_batches",
    ReceivedBatchRow,
    UniqueConstraint("receipt_no", name="uq_received_batches_no"),
)
CHAINS = RowTable("received_chains", ChainRow)
ADMISSIONS = RowTable("admissions", AdmissionRow)


def received_detail(row: ReceivedBatchRow) -> str:
    """Return what the line of the audit trail says of a batch: what must not change afterwards."""
    said = {
        "version": row.version,
        "statement": row.statement,
        "rows": row.rows,
        "file": row.path,
        "receipt": row.receipt_no,
        "digest": f"sha256:{hashlib.sha256(row.receipt).hexdigest()}",
        "received_at": row.received_at.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    return json.dumps(said, ensure_ascii=False)


class _TakenError(Exception):
    """The batch is there already."""


class ReceivedBatches:
    """The batches that were taken in."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime], audit: AuditTrail) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock
        self._audit = audit

    def add(
        self, row: ReceivedBatchRow, before: ChainRow | None = None, after: ChainRow | None = None
    ) -> ReceivedBatchRow:
        """Keep a batch with its receipt, unless there is one with this key; return what is kept.

        Two requests with one batch at the same time get one and the same receipt. The caller
        compares ``statement``: another digest under the same number is another batch. ``after``
        takes the place of ``before`` in the same transaction, and the audit trail gets its line;
        raises Stale, and keeps nothing, when the chain has moved meanwhile.
        """
        key = tuple(getattr(row, name) for name in RECEIVED.key)

        def write(connection: Connection) -> None:
            if RECEIVED.insert_missing(connection, [row]):
                raise _TakenError
            if after is not None:
                _move(connection, before, after)

        place = f"{row.department}/{row.resource}/{row.batch_no}"
        with suppress(_TakenError):
            detail = received_detail(row)
            self._audit.append(row.sender, RECEIVED_LINE, place, detail, beside=write)
            return row
        with self._lender.read() as connection:
            stored = RECEIVED.get(connection, *key)
        if stored is None:
            raise stale(f"batch {row.resource}/{row.batch_no}")
        return stored

    def answered(self, receipt_no: str) -> ReceivedBatchRow | None:
        """Find the batch that was answered with a receipt."""
        query = select(*RECEIVED.columns).where(RECEIVED.c.receipt_no == receipt_no)
        with self._lender.read() as connection:
            rows = RECEIVED.read(connection, query)
        return rows[0] if rows else None

    def chains(self) -> Iterator[ChainRow]:
        """Yield all chains by department and resource; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._chain_page(after):
            yield from page
            after = tuple(getattr(page[-1], name) for name in CHAINS.key)

    def _chain_page(self, after: tuple[object, ...]) -> list[ChainRow]:
        with self._lender.read() as connection:
            return CHAINS.page(connection, after)

    def admissions(self) -> list[AdmissionRow]:
        """Find everything that people let in."""
        with self._lender.read() as connection:
            return ADMISSIONS.read(connection, select(*ADMISSIONS.columns))

    def numbered(self, department: str, resource: str, batch_no: str) -> list[ReceivedBatchRow]:
        """Find the batches of one number: of every sender, all versions, the oldest first."""
        c = RECEIVED.c
        query = select(*RECEIVED.columns).where(
            c.department == department, c.resource == resource, c.batch_no == batch_no
        )
        with self._lender.read() as connection:
            return RECEIVED.read(connection, query.order_by(c.sender, c.version))

    def chain(self, department: str, resource: str, partition: int, sender: str) -> ChainRow | None:
        """Find where a chain stands; None: nothing of it was received."""
        with self._lender.read() as connection:
            return CHAINS.get(connection, department, resource, partition, sender)

    def move(self, before: ChainRow | None, after: ChainRow) -> None:
        """Let a chain go on with a batch that another caller has delivered already.

        Raises Stale, and changes nothing, when the chain has moved meanwhile.
        """
        with self._lender.write() as connection:
            _move(connection, before, after)

    def admit(self, statement: str, reason: str, actor: str) -> None:
        """Let a statement in, as a person decided: with its line of the audit trail."""
        row = AdmissionRow(statement, reason, actor, self._clock())

        def write(connection: Connection) -> None:
            ADMISSIONS.insert_missing(connection, [row])

        self._audit.append(actor, "receiver.admit", statement, reason, beside=write)

    def admission(self, statement: str) -> AdmissionRow | None:
        """Find whether a person lets a statement in."""
        with self._lender.read() as connection:
            return ADMISSIONS.get(connection, statement)

    def find(
        self,
        *,
        department: str | None = None,
        resource: str | None = None,
        sender: str | None = None,
        limit: int = 1000,
    ) -> list[ReceivedBatchRow]:
        """Find batches, newest first."""
        c = RECEIVED.c
        order = (c.received_at.desc(), c.resource, c.batch_no.desc(), c.version.desc())
        query = select(*RECEIVED.columns).order_by(*order)
        wanted = ((c.department, department), (c.resource, resource), (c.sender, sender))
        for column, value in wanted:
            if value is not None:
                query = query.where(column == value)
        with self._lender.read() as connection:
            return RECEIVED.read(connection, query.limit(limit))

    def walk(self) -> Iterator[ReceivedBatchRow]:
        """Yield all batches in the order of their keys; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._page(after):
            yield from page
            after = tuple(getattr(page[-1], name) for name in RECEIVED.key)

    def _page(self, after: tuple[object, ...]) -> list[ReceivedBatchRow]:
        with self._lender.read() as connection:
            return RECEIVED.page(connection, after)

    def counts(self) -> tuple[int, int]:
        """Count batches and rows."""
        query = select(func.count(), func.coalesce(func.sum(RECEIVED.c.rows), 0))
        with self._lender.read() as connection:
            batches, rows = connection.execute(query).one()
        return int(batches), int(rows)


def _move(connection: Connection, before: ChainRow | None, after: ChainRow) -> None:
    key = (after.department, after.resource, after.partition, after.sender)
    if before is None:
        late = bool(CHAINS.insert_missing(connection, [after]))
    else:
        c = CHAINS.c
        change = {c[name]: getattr(after, name) for name in _MOVING}
        unmoved = (c.statement == before.statement, c.missing.is_not_distinct_from(before.missing))
        statement = update(CHAINS.table).where(CHAINS.has_key, *unmoved).values(change)
        late = connection.execute(statement, CHAINS.at(*key)).rowcount != 1
    if late:
        raise stale(f"chain {after.department}/{after.resource}/{after.partition}")


_MOVING = ("statement", "batch_no", "sealed_at", "missing")
