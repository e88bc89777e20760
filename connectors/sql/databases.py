"""Connections to PostgreSQL by ADBC that share what the driver knows of a database.

The driver reads the whole catalogue of types when it opens a *database*: a tenth of a second of
CPU and more where there are hundreds of tables, as much again in the server. A *connection* of a
database that is open costs a tenth of that. What is kept are types alone, no connection; a type
that is made later is read as text, as every type that the driver does not know.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import adbc_driver_manager
import adbc_driver_postgresql
from adbc_driver_postgresql import dbapi

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_SECONDS = 1.0
"""How long one waits for another that connects to the same database, which may not answer."""


class _Shared:
    """Stands for a database that outlives its connections: they close it when they close."""

    def close(self) -> None:
        """Close nothing."""


class PostgresDatabase:
    """One address. The driver wants one thread at a time in a database, while connecting."""

    def __init__(self, address: str, wait_seconds: float = _WAIT_SECONDS) -> None:
        """Open nothing yet."""
        self._address = address
        self._wait_seconds = wait_seconds
        self._lock = Lock()
        self._database: adbc_driver_manager.AdbcDatabase | None = None

    def connect(self) -> dbapi.Connection:
        """Open a connection of its own; raises the driver's errors."""
        with self._turn() as own_turn:
            if not own_turn:
                return dbapi.connect(self._address)
            if self._database is None:
                self._database = adbc_driver_postgresql.connect(self._address)
            return dbapi.Connection(_Shared(), adbc_driver_manager.AdbcConnection(self._database))

    def close(self, connection: dbapi.Connection) -> None:
        """Close a connection of this database: the socket is dropped."""
        with self._turn():
            connection.close()

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        held = self._lock.acquire(timeout=self._wait_seconds)
        try:
            yield held
        finally:
            if held:
                self._lock.release()


@lru_cache(maxsize=64)
def database_of(address: str) -> PostgresDatabase:
    """Return the database of an address, the same one each time."""
    return PostgresDatabase(address)
