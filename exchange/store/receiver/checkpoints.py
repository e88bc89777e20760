"""What the receiver has seen of its callers' evidence logs, and has signed along: a row a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from sqlalchemy import BigInteger, LargeBinary, bindparam, select, update

from exchange.store.columns import Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, stale


@dataclass(frozen=True, slots=True)
class WitnessedCheckpointRow:
    """The newest checkpoint of a caller's evidence log that the receiver has signed along."""

    sender: Annotated[str, Stored("sender_id", Name(128), key=True)]
    origin: Annotated[str, Stored("log_origin", Name(160), key=True)]
    size: Annotated[int, Stored("log_size", BigInteger)]
    note: Annotated[bytes, Stored("note", LargeBinary)] = field(repr=False)
    """The checkpoint's text."""
    seen_at: Annotated[datetime, Stored("seen_at", Moment)]


WITNESSED = RowTable("witnessed", WitnessedCheckpointRow)
_MOVE = (
    update(WITNESSED.table)
    .where(WITNESSED.has_key)
    .where(WITNESSED.c.size == bindparam("read_size", type_=WITNESSED.c.size.type))
)


class WitnessedCheckpoints:
    """The newest checkpoint of each log of each caller."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def get(self, sender: str, origin: str) -> WitnessedCheckpointRow | None:
        """Find what was seen of a log last."""
        with self._lender.read() as connection:
            return WITNESSED.get(connection, sender, origin)

    def of(self, sender: str) -> Sequence[WitnessedCheckpointRow]:
        """Find what was seen of a caller's logs, the newest first."""
        query = select(*WITNESSED.columns).where(WITNESSED.c.sender == sender)
        with self._lender.read() as connection:
            return WITNESSED.read(connection, query.order_by(WITNESSED.c.seen_at.desc()))

    def move(self, before: WitnessedCheckpointRow | None, row: WitnessedCheckpointRow) -> None:
        """Put ``row`` in the place of ``before``; raises Stale when another request was faster."""
        with self._lender.write() as connection:
            if before is None:
                late = bool(WITNESSED.insert_missing(connection, [row]))
            else:
                place = WITNESSED.at(row.sender, row.origin) | {"read_size": before.size}
                change = WITNESSED.values(row, ("size", "note", "seen_at"))
                late = connection.execute(_MOVE, place | change).rowcount != 1
            if late:
                raise stale(f"log {row.origin} of {row.sender}")
