"""What the receiver has seen of evidence logs, and has signed along.

A log is its origin, whoever shows it: one row a log, so that no caller can show another history
under a second name. Beside it stands what each caller showed last, which its receipts name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

from sqlalchemy import BigInteger, Connection, LargeBinary, bindparam, delete, select, update

from exchange.store.columns import Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, stale

if TYPE_CHECKING:
    from exchange.store.audit import AuditTrail

WITNESSED_LINE: Final = "witness.signed"
"""Action of the line of the audit trail of every checkpoint that is signed along."""


@dataclass(frozen=True, slots=True)
class WitnessedLogRow:
    """The newest checkpoint of an evidence log that the receiver has signed along."""

    origin: Annotated[str, Stored("log_origin", Name(160), key=True)]
    signer: Annotated[str, Stored("signer_digest", Name(64), null=True)]
    """SHA-256 (hex) of the SubjectPublicKeyInfo that signed it; empty: not noted then."""
    size: Annotated[int, Stored("log_size", BigInteger)]
    note: Annotated[bytes, Stored("note", LargeBinary)] = field(repr=False)
    """The checkpoint's text."""
    seen_at: Annotated[datetime, Stored("seen_at", Moment)]
    sender: Annotated[str, Stored("sender_id", Name(128))]
    """Who showed it."""


@dataclass(frozen=True, slots=True)
class WitnessedCheckpointRow:
    """The checkpoint of a log that a caller showed last."""

    sender: Annotated[str, Stored("sender_id", Name(128), key=True)]
    origin: Annotated[str, Stored("log_origin", Name(160), key=True)]
    size: Annotated[int, Stored("log_size", BigInteger)]
    note: Annotated[bytes, Stored("note", LargeBinary)] = field(repr=False)
    seen_at: Annotated[datetime, Stored("seen_at", Moment)]


LOGS = RowTable("witnessed_logs", WitnessedLogRow)
WITNESSED = RowTable("witnessed", WitnessedCheckpointRow)
_MOVE = (
    update(LOGS.table)
    .where(LOGS.has_key)
    .where(LOGS.c.size == bindparam("read_size", type_=LOGS.c.size.type))
)
_FORGET = delete(WITNESSED.table).where(WITNESSED.has_key)


def witnessed_detail(size: int, root: bytes) -> str:
    """Return what the line of the audit trail says of a state that was signed along."""
    return json.dumps({"size": size, "root": root.hex()})


class WitnessedCheckpoints:
    """The newest checkpoint of each log, and what each caller showed last."""

    def __init__(self, lender: Lender, audit: AuditTrail) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._audit = audit

    def get(self, origin: str) -> WitnessedLogRow | None:
        """Find what was seen of a log last, whoever showed it."""
        with self._lender.read() as connection:
            return LOGS.get(connection, origin)

    def of(self, sender: str) -> Sequence[WitnessedCheckpointRow]:
        """Find what a caller showed, the newest first."""
        query = select(*WITNESSED.columns).where(WITNESSED.c.sender == sender)
        with self._lender.read() as connection:
            return WITNESSED.read(connection, query.order_by(WITNESSED.c.seen_at.desc()))

    def logs(self) -> list[WitnessedLogRow]:
        """Find what was seen last of all logs."""
        with self._lender.read() as connection:
            return LOGS.read(connection, select(*LOGS.columns))

    def shown(self) -> list[WitnessedCheckpointRow]:
        """Find what all callers showed last."""
        with self._lender.read() as connection:
            return WITNESSED.read(connection, select(*WITNESSED.columns))

    def move(self, before: WitnessedLogRow | None, row: WitnessedLogRow, root: bytes) -> None:
        """Put ``row`` in the place of ``before``, with a line of the audit trail.

        ``root`` is that of the checkpoint. Raises Stale when another request was faster.
        """
        shown = WitnessedCheckpointRow(row.sender, row.origin, row.size, row.note, row.seen_at)

        def write(connection: Connection) -> None:
            if before is None:
                late = bool(LOGS.insert_missing(connection, [row]))
            else:
                place = LOGS.at(row.origin) | {"read_size": before.size}
                change = LOGS.values(row, ("signer", "size", "note", "seen_at", "sender"))
                late = connection.execute(_MOVE, place | change).rowcount != 1
            if late:
                raise stale(f"log {row.origin}")
            connection.execute(_FORGET, WITNESSED.at(row.sender, row.origin))
            WITNESSED.insert_missing(connection, [shown])

        detail = witnessed_detail(row.size, root)
        self._audit.append(row.sender, WITNESSED_LINE, row.origin, detail, beside=write)
