"""Pulls and what they found that is no record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, Index, Integer, Select, cast, func, select, update

from exchange.store.columns import FreeText, Moment, Name
from exchange.store.node.deliveries import DELIVERIES
from exchange.store.node.quarantine import QUARANTINE
from exchange.store.sql import Lender, RowTable, Stored

_WITHDRAWN = "withdrawn"
DONE = "done"
"""The state of a pull that came to the end of its source."""


@dataclass(frozen=True, slots=True)
class PullRow:
    """One run over one source (抽取). Nothing is lost when pulled = accepted + quarantined."""

    pull: Annotated[str, Stored("pull_id", Name(64), key=True)]
    source: Annotated[str, Stored("source_name", Name(128))]
    resource: Annotated[str, Stored("resource_name", Name(64))]
    started_at: Annotated[datetime, Stored("started_at", Moment)]
    state: Annotated[str, Stored("pull_state", Name(16))]
    ended_at: Annotated[datetime | None, Stored("ended_at", Moment, null=True)] = None
    pulled: Annotated[int, Stored("rows_pulled", BigInteger)] = 0
    code: Annotated[str, Stored("trouble_code", Name(64), null=True)] = ""
    error: Annotated[str, Stored("trouble_text", FreeText, null=True)] = ""
    accepted: int = 0
    """Computed from the deliveries of this pull; ignored on save."""
    quarantined: int = 0
    """Computed from the quarantine index; ignored on save."""


PULLS = RowTable("pulls", PullRow)
Index("ix_pulls_started", PULLS.c.started_at)


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A row of a source that is no record (a title, a group heading), and why.

    A place may have several notes: each is known by ``digest``, that of all that it says.
    """

    pull: Annotated[str, Stored("pull_id", Name(64), key=True)]
    locator: Annotated[str, Stored("locator", Name(400), null=True)]
    row: Annotated[int, Stored("row_no", BigInteger)]
    kind: Annotated[str, Stored("note_kind", Name(32))]
    text: Annotated[str, Stored("note_text", FreeText, null=True)]
    digest: Annotated[str, Stored("note_digest", Name(64), key=True)] = field(
        default="", compare=False, repr=False
    )

    def __post_init__(self) -> None:
        """Compute the digest."""
        said = json.dumps([self.locator, self.row, self.kind, self.text])
        object.__setattr__(self, "digest", hashlib.sha256(said.encode()).hexdigest())


NOTES = RowTable("source_notes", NoteRow)


class Pulls:
    """The runs over all sources."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def save(self, row: PullRow) -> None:
        """Add the pull, or replace what is known about it; one that is done stays done.

        Two workers may tell of the same pull, the one that knows less after the other.
        """
        this = PULLS.c.pull == row.pull
        if row.state != DONE:
            this &= PULLS.c.state != DONE
        with self._lender.write() as connection:
            if PULLS.insert_missing(connection, [row]):
                connection.execute(update(PULLS.table).where(this).values(PULLS.values(row)))

    def get(self, pull: str) -> PullRow | None:
        """Find one pull, with what became of its records."""
        with self._lender.read() as connection:
            rows = PULLS.read(connection, _query().where(PULLS.c.pull == pull))
        return rows[0] if rows else None

    def find(self, *, source: str | None = None, limit: int = 1000) -> list[PullRow]:
        """Find pulls, newest first."""
        query = _query().order_by(PULLS.c.started_at.desc(), PULLS.c.pull.desc())
        if source is not None:
            query = query.where(PULLS.c.source == source)
        with self._lender.read() as connection:
            return PULLS.read(connection, query.limit(limit))

    def walk(self) -> Iterator[PullRow]:
        """Yield all pulls by name, without sums; a page in memory at a time."""
        after: tuple[object, ...] = ()
        while page := self._page(after):
            yield from page
            after = (page[-1].pull,)

    def _page(self, after: tuple[object, ...]) -> list[PullRow]:
        with self._lender.read() as connection:
            return PULLS.page(connection, after)

    def add_notes(self, rows: Sequence[NoteRow]) -> int:
        """Add notes; those already there stay as they are. Return how many were new."""
        with self._lender.write() as connection:
            known = NOTES.insert_missing(connection, rows)
        return len({(row.pull, row.digest) for row in rows}) - len(known)

    def notes(self, pull: str, *, limit: int = 1000) -> list[NoteRow]:
        """Find the notes of a pull in the order of its source."""
        query = select(*NOTES.columns).where(NOTES.c.pull == pull)
        query = query.order_by(NOTES.c.locator, NOTES.c.row, NOTES.c.digest).limit(limit)
        with self._lender.read() as connection:
            return NOTES.read(connection, query)


def _query() -> Select[Any]:
    """Select pulls with the sums over deliveries and quarantine.

    Both are kept by address, so that a step done twice after a crash counts once.
    """

    def total(table: RowTable[Any]) -> Any:
        rows = func.coalesce(func.sum(table.c.rows), 0)
        query = select(cast(rows, Integer)).where(table.c.pull == PULLS.c.pull)
        if table is DELIVERIES:  # what was withdrawn was sealed once more
            query = query.where(DELIVERIES.c.state != _WITHDRAWN)
        return query.correlate(PULLS.table).scalar_subquery()

    return select(
        *PULLS.columns,
        total(DELIVERIES).label("accepted"),
        total(QUARANTINE).label("quarantined"),
    )
