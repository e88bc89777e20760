"""The floor: what it costs to receive the table's bytes at all."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from exchange.devtools.bench.measure import Stopwatch, Usage
from exchange.devtools.bench.person_table import RESOURCE
from exchange.devtools.bench.postgres_connection import database


@dataclass(frozen=True, slots=True)
class Floor:
    """``rows`` received as ``size`` bytes of COPY text, counted and thrown away, unparsed."""

    rows: int
    size: int
    usage: Usage


def run(conninfo: str, *, table: str = RESOURCE) -> Floor:
    """COPY the whole table to this process. Raises what :func:`database` raises."""
    watch = Stopwatch()
    size = 0
    with database(conninfo) as connection, connection.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
            for block in copy:
                size += len(block)
        return Floor(cursor.rowcount, size, watch.usage())
