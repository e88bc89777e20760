"""Pulls and what they found that is no record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Integer, cast, func, select, update

from exchange.store.rows import NoteRow, PullRow
from exchange.store.sql import Lender, columns, insert_missing, made, values
from exchange.store.tables import deliveries, pulls, quarantine, source_notes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sqlalchemy import Select

DONE = "done"
"""The state of a pull that came to the end of its source."""
NAMES = {
    "pull": "pull_id",
    "source": "source_name",
    "resource": "resource_name",
    "started_at": "started_at",
    "ended_at": "ended_at",
    "state": "pull_state",
    "pulled": "rows_pulled",
    "code": "trouble_code",
    "error": "trouble_text",
}
NOTES = {
    "pull": "pull_id",
    "locator": "locator",
    "row": "row_no",
    "kind": "note_kind",
    "text": "note_text",
}


class Pulls:
    """The runs over all sources."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def save(self, row: PullRow) -> None:
        """Add the pull, or replace what is known about it; one that is done stays done.

        Two workers may tell of the same pull, the one that knows less after the other.
        """
        taken = values(row, NAMES)
        this = pulls.c.pull_id == row.pull
        if row.state != DONE:
            this &= pulls.c.pull_state != DONE
        with self._lender.write() as connection:
            if insert_missing(connection, pulls, [taken], ("pull_id",)):
                connection.execute(update(pulls).where(this).values(taken))

    def get(self, pull: str) -> PullRow | None:
        """Find one pull, with what became of its records."""
        with self._lender.read() as connection:
            found = connection.execute(_query().where(pulls.c.pull_id == pull)).one_or_none()
        return None if found is None else made(PullRow, found)

    def find(self, *, source: str | None = None, limit: int = 1000) -> list[PullRow]:
        """Find pulls, newest first."""
        query = _query().order_by(pulls.c.started_at.desc(), pulls.c.pull_id.desc())
        if source is not None:
            query = query.where(pulls.c.source_name == source)
        with self._lender.read() as connection:
            return [made(PullRow, row) for row in connection.execute(query.limit(limit))]

    def add_notes(self, rows: Sequence[NoteRow]) -> int:
        """Add notes; those already there stay as they are. Return how many were new."""
        with self._lender.write() as connection:
            known = insert_missing(
                connection,
                source_notes,
                [values(row, NOTES) for row in rows],
                ("pull_id", "locator", "row_no"),
            )
        return len({(row.pull, row.locator, row.row) for row in rows}) - len(known)

    def notes(self, pull: str, *, limit: int = 1000) -> list[NoteRow]:
        """Find the notes of a pull in the order of its source."""
        query = (
            select(*columns(source_notes, NOTES))
            .where(source_notes.c.pull_id == pull)
            .order_by(source_notes.c.locator, source_notes.c.row_no)
        )
        with self._lender.read() as connection:
            return [made(NoteRow, row) for row in connection.execute(query.limit(limit))]


def _query() -> Select[Any]:
    """Select pulls with the sums over deliveries and quarantine.

    Both are kept by address, so that a step done twice after a crash counts once.
    """

    def total(table: Any) -> Any:
        rows = func.coalesce(func.sum(table.c.row_count), 0)
        query = select(cast(rows, Integer)).where(table.c.pull_id == pulls.c.pull_id)
        return query.correlate(pulls).scalar_subquery()

    return select(
        *columns(pulls, NAMES),
        total(deliveries).label("accepted"),
        total(quarantine).label("quarantined"),
    )
