"""What a status shows of the store, without the library that takes longer to load than to ask.

SQLAlchemy costs 0.3 s of processor time before the first row. The store of one machine is a
SQLite file: the standard library reads it. Every other store, and a file that is missing, busy,
or of another release, is asked through :class:`exchange.store.database.Store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from exchange.store.database import Store

HEAD: Final = "0009"
"""The newest revision in ``migrations/versions``."""
_FILE: Final = "sqlite:///"
_PATIENCE_SECONDS = 10
_MESSAGES = 10_000
"""Quarantine messages of a resource that are looked through."""
_RULE = "message.unreadable"
"""As :data:`exchange.validate.refused_records.UNREADABLE`, which costs a library to import."""
_DELIVERIES = (
    "SELECT resource_name, delivery_state, count(*) FROM deliveries"
    " GROUP BY resource_name, delivery_state"
)
_WAITING = (
    "SELECT resource_name, sum(row_count - replayed - dismissed - settled) FROM quarantine"
    " GROUP BY resource_name"
)
_UNREADABLE = (
    "SELECT reasons FROM quarantine WHERE resource_name = ?"
    " AND row_count > replayed + dismissed + settled"
    " AND reasons LIKE '%message.unreadable%'"
)
BLOCKED: Final = ("401", "403", "424", "425", "settings")
"""Codes of deliveries that wait for a person, here or at the province."""
_BLOCKED = (
    "SELECT trouble_code, trouble_text FROM deliveries WHERE resource_name = ?"
    " AND delivery_state = 'waiting' AND trouble_code IN (?, ?, ?, ?, ?)"
    " ORDER BY batch_no LIMIT 1"
)
_PULL = (
    "SELECT resource_name, ended_at, trouble_text FROM pulls WHERE source_name = ?"
    " ORDER BY started_at DESC, pull_id DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class LastPull:
    """The newest pull of a source."""

    resource: str
    ended_at: datetime | None
    error: str


class Glance(Protocol):
    """Counts of the store, and the last pull of a source."""

    def deliveries(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by resource and state."""

    def blocked(self, resource: str) -> str:
        """Return code and reason of the oldest batch that waits for a person; empty: none."""

    def waiting(self) -> Mapping[str, int]:
        """Count the records that wait in quarantine, by resource."""

    def unreadable(self, resource: str) -> int:
        """Count the messages that wait and cannot be read as records."""

    def last_pull(self, source: str) -> LastPull | None:
        """Return the newest pull of a source; None before the first."""


@dataclass(frozen=True)
class StoreGlance:
    """A glance at an open store."""

    store: Store

    def deliveries(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by resource and state."""
        return self.store.deliveries.counts()

    def blocked(self, resource: str) -> str:
        """Return code and reason of the oldest batch that waits for a person; empty: none."""
        rows = self.store.deliveries.find(resource=resource, states=["waiting"], limit=_MESSAGES)
        troubles = [(row.batch_no, row.code, row.reason) for row in rows if row.code in BLOCKED]
        return " ".join(min(troubles)[1:]) if troubles else ""

    def waiting(self) -> Mapping[str, int]:
        """Count the records that wait in quarantine, by resource."""
        counts = self.store.quarantine.counts().items()
        return {resource: rows - sum(decided) for resource, (rows, *decided) in counts}

    def unreadable(self, resource: str) -> int:
        """Count the messages that wait and cannot be read as records."""
        rows = self.store.quarantine.find(resource=resource, waiting=True, limit=_MESSAGES)
        return sum(map(_is_unreadable, (row.reasons for row in rows)))

    def last_pull(self, source: str) -> LastPull | None:
        """Return the newest pull of a source; None before the first."""
        rows = self.store.pulls.find(source=source, limit=1)
        return LastPull(rows[0].resource, rows[0].ended_at, rows[0].error) if rows else None


@dataclass(frozen=True)
class FileGlance:
    """A glance at a store in a SQLite file."""

    path: Path

    @classmethod
    def of(cls, url: str) -> Self | None:
        """Return the glance at an address; None unless it is a file of this release."""
        path, _, options = url.removeprefix(_FILE).partition("?")
        if not url.startswith(_FILE) or options or not Path(path).is_file():
            return None
        glance = cls(Path(path))
        try:
            revision = glance._read("SELECT version_num FROM alembic_version")
        except sqlite3.Error:
            return None
        return glance if revision == [(HEAD,)] else None

    def deliveries(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by resource and state."""
        return {(resource, state): count for resource, state, count in self._rows(_DELIVERIES)}

    def blocked(self, resource: str) -> str:
        """Return code and reason of the oldest batch that waits for a person; empty: none."""
        return " ".join(
            f"{code} {text or ''}" for code, text in self._rows(_BLOCKED, resource, *BLOCKED)
        )

    def waiting(self) -> Mapping[str, int]:
        """Count the records that wait in quarantine, by resource."""
        return {resource: int(count) for resource, count in self._rows(_WAITING)}

    def unreadable(self, resource: str) -> int:
        """Count the messages that wait and cannot be read as records."""
        rows = self._rows(_UNREADABLE, resource)
        return sum(_is_unreadable(json.loads(reasons)) for (reasons,) in rows)

    def last_pull(self, source: str) -> LastPull | None:
        """Return the newest pull of a source; None before the first."""
        for resource, ended_at, error in self._rows(_PULL, source):
            moment = datetime.fromisoformat(ended_at) if ended_at else None
            return LastPull(resource, moment, error or "")
        return None

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            return self._read(query, *values)
        except sqlite3.Error as error:
            from exchange.store.sql_errors import sqlite_error

            raise sqlite_error(f"{_FILE}{self.path}", error) from error

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        address = f"file:{quote(str(self.path.absolute()))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
            return connection.execute(query, values).fetchall()


def _is_unreadable(reasons: Iterable[str]) -> bool:
    """Tell whether a message was refused as a whole, by its reasons as ``rule:field``."""
    return any(reason.partition(":")[0] == _RULE for reason in reasons)
