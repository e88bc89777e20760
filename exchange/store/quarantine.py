"""The quarantine index: where refused records are, why, and what people did about them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from exchange.errors import Rejected
from exchange.store.rows import QuarantineRow, TouchedRow
from exchange.store.sql import Lender, columns, insert_missing, made, matches, values
from exchange.store.tables import quarantine as table
from exchange.store.tables import quarantine_rows as touched
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Literal

    from sqlalchemy import Row

KEY = ("log_topic", "log_part", "log_offset")
NAMES = {
    "topic": "log_topic",
    "partition": "log_part",
    "offset": "log_offset",
    "resource": "resource_name",
    "source": "source_name",
    "pull": "pull_id",
    "locator": "locator",
    "rows": "row_count",
    "reasons": "reasons",
    "catalog_version": "catalog_version",
    "created_at": "created_at",
    "replayed": "replayed",
    "dismissed": "dismissed",
}
TOUCHED = {
    "row": "row_no",
    "state": "row_state",
    "by": "touched_by",
    "at": "touched_at",
    "note": "note_text",
}


class Quarantine:
    """The messages of all quarantine topics."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime]) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock

    def add(self, rows: Sequence[QuarantineRow]) -> int:
        """Add messages; those already there stay as they are. Return how many were new."""
        new = [_taken_apart(replace(row, replayed=0, dismissed=0)) for row in rows]
        with self._lender.write() as connection:
            known = insert_missing(connection, table, new, KEY)
        return len({(row.topic, row.partition, row.offset) for row in rows}) - len(known)

    def get(self, topic: str, partition: int, offset: int) -> QuarantineRow | None:
        """Find one message."""
        query = select(*columns(table, NAMES)).where(
            matches(table, KEY, (topic, partition, offset))
        )
        with self._lender.read() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else _made(found)

    def find(
        self,
        *,
        resource: str | None = None,
        source: str | None = None,
        pull: str | None = None,
        waiting: bool = False,
        limit: int = 1000,
    ) -> list[QuarantineRow]:
        """Find messages in log order, on demand only those with records still waiting."""
        query = select(*columns(table, NAMES)).order_by(
            table.c.log_topic, table.c.log_part, table.c.log_offset
        )
        for column, value in (("resource_name", resource), ("source_name", source)):
            if value is not None:
                query = query.where(table.c[column] == value)
        if pull is not None:
            query = query.where(table.c.pull_id == pull)
        if waiting:
            query = query.where(table.c.row_count > table.c.replayed + table.c.dismissed)
        with self._lender.read() as connection:
            return [_made(row) for row in connection.execute(query.limit(limit))]

    def counts(self) -> Mapping[str, tuple[int, int, int]]:
        """Count records by resource: refused, replayed, dismissed."""
        query = select(
            table.c.resource_name,
            func.sum(table.c.row_count),
            func.sum(table.c.replayed),
            func.sum(table.c.dismissed),
        ).group_by(table.c.resource_name)
        with self._lender.read() as connection:
            return {
                resource: (int(rows), int(replayed), int(dismissed))
                for resource, rows, replayed, dismissed in connection.execute(query)
            }

    def touch(
        self,
        topic: str,
        partition: int,
        offset: int,
        rows: Sequence[int],
        *,
        state: Literal["replayed", "dismissed"],
        by: str,
        note: str = "",
    ) -> list[int]:
        """Mark records of one message; return those that nobody had touched before.

        A record is touched once: two people who replay the same one do not double it.
        """
        address = (topic, partition, offset)
        now = self._clock()
        new = [
            dict(zip(KEY, address, strict=True))
            | values(TouchedRow(row, state, by, now, note), TOUCHED)
            for row in sorted(set(rows))
        ]
        with self._lender.write() as connection:
            # Taking the message's row first makes two people wait for each other.
            count = connection.execute(
                select(table.c.row_count).where(matches(table, KEY, address)).with_for_update()
            ).scalar()
            if count is None or not all(0 <= row < count for row in rows):
                raise Rejected(
                    Text(
                        f"隔离区没有 {topic}/{partition}/{offset} 的这些记录",
                        f"quarantine has no such records at {topic}/{partition}/{offset}",
                    ),
                    hint=Text("用 quarantine list 查看", "look at `exchange quarantine list`"),
                )
            known = insert_missing(connection, touched, new, (*KEY, "row_no"))
            fresh = [row for row in sorted(set(rows)) if (*address, row) not in known]
            connection.execute(
                update(table)
                .where(matches(table, KEY, address))
                .values({state: table.c[state] + len(fresh)})
            )
        return fresh

    def touched(self, topic: str, partition: int, offset: int) -> dict[int, TouchedRow]:
        """Return the records of one message that somebody decided about, by row."""
        query = select(*columns(touched, TOUCHED)).where(
            matches(touched, KEY, (topic, partition, offset))
        )
        with self._lender.read() as connection:
            rows = [made(TouchedRow, row) for row in connection.execute(query)]
        return {row.row: row for row in sorted(rows, key=lambda row: row.row)}


def _taken_apart(row: QuarantineRow) -> dict[str, Any]:
    reasons = json.dumps(dict(row.reasons), ensure_ascii=False, sort_keys=True)
    return values(row, NAMES) | {"reasons": reasons}


def _made(row: Row[Any]) -> QuarantineRow:
    found = made(QuarantineRow, row)
    return replace(found, reasons=json.loads(str(found.reasons)))
