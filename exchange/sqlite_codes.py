"""What SQLite's result codes mean (sqlite.org/rescode.html), for the log and the store alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Cause(Enum):
    """Why SQLite did not do it; each owner of a file has its own words for what to do then."""

    BUSY = auto()
    """Another process has the file."""
    FAILING = auto()
    """The disk or the machine failed: no memory, no answer, an interrupted call."""
    FULL = auto()
    DENIED = auto()
    DAMAGED = auto()
    SCHEMA = auto()
    """A table or column is not as it was made."""
    TOO_LARGE = auto()


CAUSES: Final[Mapping[int, Cause]] = {
    sqlite3.SQLITE_BUSY: Cause.BUSY,
    sqlite3.SQLITE_LOCKED: Cause.BUSY,
    sqlite3.SQLITE_PROTOCOL: Cause.BUSY,
    sqlite3.SQLITE_IOERR: Cause.FAILING,
    sqlite3.SQLITE_NOMEM: Cause.FAILING,
    sqlite3.SQLITE_NOLFS: Cause.FAILING,
    sqlite3.SQLITE_ABORT: Cause.FAILING,
    sqlite3.SQLITE_INTERRUPT: Cause.FAILING,
    sqlite3.SQLITE_INTERNAL: Cause.FAILING,
    sqlite3.SQLITE_FULL: Cause.FULL,
    sqlite3.SQLITE_READONLY: Cause.DENIED,
    sqlite3.SQLITE_PERM: Cause.DENIED,
    sqlite3.SQLITE_AUTH: Cause.DENIED,
    sqlite3.SQLITE_CANTOPEN: Cause.DENIED,
    sqlite3.SQLITE_CORRUPT: Cause.DAMAGED,
    sqlite3.SQLITE_NOTADB: Cause.DAMAGED,
    sqlite3.SQLITE_FORMAT: Cause.DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: Cause.DAMAGED,
    sqlite3.SQLITE_MISMATCH: Cause.DAMAGED,
    sqlite3.SQLITE_ERROR: Cause.SCHEMA,
    sqlite3.SQLITE_SCHEMA: Cause.SCHEMA,
    sqlite3.SQLITE_TOOBIG: Cause.TOO_LARGE,
}
"""By primary result code. A code that is not listed is a bug of ours and stays visible."""


def cause_of(error: BaseException) -> Cause | None:
    """Return why SQLite raised an error; None where it is a bug of ours, or none of SQLite's."""
    return CAUSES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
