"""The quarantine index: where refused records are, why, and what people did about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Literal

from sqlalchemy import (
    BigInteger,
    Connection,
    ForeignKeyConstraint,
    Index,
    Integer,
    func,
    select,
    update,
)

from exchange.errors import Rejected
from exchange.store.columns import Counts, FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored
from exchange.text import Text


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One message of refused records (隔离), by its address in the log."""

    topic: Annotated[str, Stored("log_topic", Name(249), key=True)]
    partition: Annotated[int, Stored("log_part", Integer, key=True)]
    offset: Annotated[int, Stored("log_offset", BigInteger, key=True)]
    resource: Annotated[str, Stored("resource_name", Name(64))]
    source: Annotated[str, Stored("source_name", Name(128))]
    pull: Annotated[str, Stored("pull_id", Name(64))]
    locator: Annotated[str, Stored("locator", FreeText, null=True)]
    """File and sheet, or table, that the records came from."""
    rows: Annotated[int, Stored("row_count", Integer)]
    reasons: Annotated[Mapping[str, int], Stored("reasons", Counts)]
    """Rule id → number of records refused by it."""
    catalog_version: Annotated[str, Stored("catalog_version", Name(64), null=True)]
    created_at: Annotated[datetime, Stored("created_at", Moment)]
    replayed: Annotated[int, Stored("replayed", Integer)] = 0
    dismissed: Annotated[int, Stored("dismissed", Integer)] = 0
    settled: Annotated[int, Stored("settled", Integer)] = 0

    @property
    def waiting(self) -> int:
        """Records that are neither replayed, dismissed nor settled."""
        return self.rows - self.replayed - self.dismissed - self.settled


QUARANTINE = RowTable("quarantine", QuarantineRow)
Index("ix_quarantine_resource", QUARANTINE.c.resource, QUARANTINE.c.created_at)
Index("ix_quarantine_pull", QUARANTINE.c.pull)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A refused record that waits no more; ``row`` counts from 0 in its message."""

    topic: Annotated[str, Stored("log_topic", Name(249), key=True)]
    partition: Annotated[int, Stored("log_part", Integer, key=True)]
    offset: Annotated[int, Stored("log_offset", BigInteger, key=True)]
    row: Annotated[int, Stored("row_no", Integer, key=True)]
    state: Annotated[str, Stored("row_state", Name(16))]
    """``replayed`` (已重放), ``dismissed`` (已忽略) or ``settled`` (已由新记录取代)."""
    by: Annotated[str, Stored("touched_by", Name(128))]
    at: Annotated[datetime, Stored("touched_at", Moment)]
    note: Annotated[str, Stored("note_text", FreeText, null=True)] = ""


DECISIONS = RowTable(
    "quarantine_rows",
    DecisionRow,
    ForeignKeyConstraint(
        ["topic", "partition", "offset"],
        [QUARANTINE.c.topic, QUARANTINE.c.partition, QUARANTINE.c.offset],
        name="fk_quarantine_rows",
    ),
)


class Quarantine:
    """The messages of all quarantine topics."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime]) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock

    def add(self, rows: Sequence[QuarantineRow]) -> int:
        """Add messages; those already there stay as they are. Return how many were new."""
        new = [replace(row, replayed=0, dismissed=0) for row in rows]
        with self._lender.write() as connection:
            known = QUARANTINE.insert_missing(connection, new)
        return len({(row.topic, row.partition, row.offset) for row in rows}) - len(known)

    def get(self, topic: str, partition: int, offset: int) -> QuarantineRow | None:
        """Find one message."""
        with self._lender.read() as connection:
            return QUARANTINE.get(connection, topic, partition, offset)

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
        c = QUARANTINE.c
        query = select(*QUARANTINE.columns).order_by(c.topic, c.partition, c.offset)
        for column, value in ((c.resource, resource), (c.source, source), (c.pull, pull)):
            if value is not None:
                query = query.where(column == value)
        if waiting:
            query = query.where(c.rows > c.replayed + c.dismissed + c.settled)
        with self._lender.read() as connection:
            return QUARANTINE.read(connection, query.limit(limit))

    def walk(self, topic: str, partition: int) -> Iterator[QuarantineRow]:
        """Yield all messages of a partition in log order; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._page(after, topic, partition):
            yield from page
            after = (topic, partition, page[-1].offset)

    def _page(self, after: tuple[object, ...], topic: str, partition: int) -> list[QuarantineRow]:
        c = QUARANTINE.c
        with self._lender.read() as connection:
            return QUARANTINE.page(connection, after, c.topic == topic, c.partition == partition)

    def counts(self) -> Mapping[str, tuple[int, int, int, int]]:
        """Count records by resource: refused, replayed, dismissed, settled."""
        c = QUARANTINE.c
        sums = (func.sum(column) for column in (c.rows, c.replayed, c.dismissed, c.settled))
        query = select(c.resource, *sums).group_by(c.resource)
        with self._lender.read() as connection:
            return {
                resource: (int(rows), int(replayed), int(dismissed), int(settled))
                for resource, rows, replayed, dismissed, settled in connection.execute(query)
            }

    def decide(
        self,
        topic: str,
        partition: int,
        offset: int,
        rows: Sequence[int],
        *,
        state: Literal["replayed", "dismissed", "settled"],
        by: str,
        note: str = "",
    ) -> list[int]:
        """Mark records of one message; return those that had been waiting.

        A record is decided about once: two people who replay the same one do not double it.
        Only one that was settled may be replayed all the same, by a person who insists.
        """
        with self._lender.write() as connection:
            return self.decide_in(
                connection, (topic, partition, offset), rows, state=state, by=by, note=note
            )

    def decide_in(
        self,
        connection: Connection,
        place: tuple[str, int, int],
        rows: Sequence[int],
        *,
        state: Literal["replayed", "dismissed", "settled"],
        by: str,
        note: str = "",
    ) -> list[int]:
        """Mark records of one message, in a transaction that is open; see :meth:`decide`."""
        topic, partition, offset = place
        address = QUARANTINE.at(topic, partition, offset)
        now = self._clock()
        new = [
            DecisionRow(topic, partition, offset, row, state, by, now, note)
            for row in sorted(set(rows))
        ]
        # Taking the message's row first makes two people wait for each other.
        count = connection.execute(
            select(QUARANTINE.c.rows).where(QUARANTINE.has_key).with_for_update(), address
        ).scalar()
        if count is None or not all(0 <= row < count for row in rows):
            raise Rejected(
                Text(
                    f"隔离区没有 {topic}/{partition}/{offset} 的这些记录",
                    f"quarantine has no such records at {topic}/{partition}/{offset}",
                ),
                hint=Text("用 exchange quarantine list 查看", "look at `exchange quarantine list`"),
            )
        known = {row for *_, row in DECISIONS.insert_missing(connection, new)}
        fresh = [row for row in sorted(set(rows)) if row not in known]
        again = 0
        if state == "replayed" and known:
            c = DECISIONS.c
            again = connection.execute(
                update(DECISIONS.table)
                .where(c.topic == topic, c.partition == partition, c.offset == offset)
                .where(c.state == "settled", c.row.in_(sorted(known)))
                .values(state=state, by=by, at=now, note=note)
            ).rowcount
        counts = {state: QUARANTINE.c[state] + len(fresh) + again}
        if again:
            counts["settled"] = QUARANTINE.c.settled - again
        connection.execute(
            update(QUARANTINE.table).where(QUARANTINE.has_key).values(counts), address
        )
        return fresh

    def decisions(self, topic: str, partition: int, offset: int) -> dict[int, DecisionRow]:
        """Return the records of one message that somebody decided about, by row."""
        c = DECISIONS.c
        address = (c.topic == topic, c.partition == partition, c.offset == offset)
        query = select(*DECISIONS.columns).where(*address).order_by(c.row)
        with self._lender.read() as connection:
            return {row.row: row for row in DECISIONS.read(connection, query)}
