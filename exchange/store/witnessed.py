"""What the receiver has seen of its callers' evidence logs, and has signed along: one row a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from exchange.store.rows import WitnessedRow
from exchange.store.sql import Lender, at, columns, insert_missing, keyed, made, stale, values
from exchange.store.tables import witnessed as table

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = ("sender_id", "log_origin")
NAMES = {
    "sender": "sender_id",
    "origin": "log_origin",
    "size": "log_size",
    "note": "note",
    "seen_at": "seen_at",
}

_BY_KEY = select(*columns(table, NAMES)).where(keyed(table, KEY))
_MOVE = (
    update(table)
    .where(keyed(table, KEY))
    .where(table.c.log_size == bindparam("at_size", type_=table.c.log_size.type))
)


class Witnessed:
    """The newest checkpoint of each log of each caller."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def get(self, sender: str, origin: str) -> WitnessedRow | None:
        """Find what was seen of a log last."""
        with self._lender.read() as connection:
            found = connection.execute(_BY_KEY, at(KEY, (sender, origin))).one_or_none()
        return None if found is None else made(WitnessedRow, found)

    def of(self, sender: str) -> Sequence[WitnessedRow]:
        """Find what was seen of a caller's logs, the newest first."""
        query = select(*columns(table, NAMES)).where(table.c.sender_id == sender)
        with self._lender.read() as connection:
            found = connection.execute(query.order_by(table.c.seen_at.desc()))
            return [made(WitnessedRow, row) for row in found]

    def move(self, before: WitnessedRow | None, row: WitnessedRow) -> None:
        """Put ``row`` in the place of ``before``; raises Stale when another request was faster."""
        key = (row.sender, row.origin)
        with self._lender.write() as connection:
            if before is None:
                taken = bool(insert_missing(connection, table, [values(row, NAMES)], KEY))
            else:
                moved = at(KEY, key) | {"at_size": before.size} | values(row, _MOVING)
                taken = connection.execute(_MOVE, moved).rowcount != 1
            if taken:
                raise stale(f"log {row.origin} of {row.sender}")


_MOVING = {name: NAMES[name] for name in ("size", "note", "seen_at")}
