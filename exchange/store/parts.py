"""What a store remembers of itself and of the other parts of its node.

Each part has an identity, drawn once, and a mark that only rises. Parts write down each other's:
one that is behind what another remembers is an older copy, one of another identity is foreign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from sqlalchemy import BigInteger, Connection, Text, delete, insert, select, update

from exchange.store.columns import Name
from exchange.store.sql import Lender, RowTable, Stored

OWN: Final = "store"
"""The row of the store itself."""


@dataclass(frozen=True, slots=True)
class PartRow:
    """What is remembered of one part, or of one of its states."""

    name: Annotated[str, Stored("part_name", Name(128), key=True)]
    identity: Annotated[str, Stored("identity_code", Name(64), null=True)] = ""
    mark: Annotated[int, Stored("high_mark", BigInteger)] = 0
    detail: Annotated[str, Stored("detail", Text, null=True)] = ""


PARTS = RowTable("parts", PartRow)


class PartRows:
    """The parts that a store remembers."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def get(self, name: str) -> PartRow | None:
        """Find what is remembered of a part."""
        with self._lender.read() as connection:
            return PARTS.get(connection, name)

    def find(self) -> list[PartRow]:
        """List everything that is remembered, by name."""
        with self._lender.read() as connection:
            return PARTS.read(connection, select(*PARTS.columns).order_by(PARTS.c.name))

    def advance(
        self, entropy: Callable[[int], bytes], rows: Sequence[PartRow] = (), *, least: int = 0
    ) -> PartRow:
        """Raise the store's own mark, to ``least`` or more, and write other rows along.

        The identity is drawn the first time. Returns the store's own row.
        """
        with self._lender.write() as connection:
            own = PARTS.get(connection, OWN) or PartRow(OWN, entropy(16).hex())
            own = PartRow(OWN, own.identity, max(own.mark + 1, least))
            for row in (own, *rows):
                _put(connection, row)
        return own

    def put(self, row: PartRow) -> None:
        """Write what is remembered of one part."""
        with self._lender.write() as connection:
            _put(connection, row)

    def forget(self, name: str) -> None:
        """Remove what is remembered of one part."""
        with self._lender.write() as connection:
            connection.execute(delete(PARTS.table).where(PARTS.c.name == name))


def _put(connection: Connection, row: PartRow) -> None:
    changed = connection.execute(
        update(PARTS.table).where(PARTS.c.name == row.name).values(PARTS.values(row))
    )
    if changed.rowcount == 0:
        connection.execute(insert(PARTS.table).values(PARTS.values(row)))
