"""Halts: resources that wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from exchange.store.rows import HaltRow
from exchange.store.sql import Lender, insert_missing, matches
from exchange.store.tables import halts as table
from exchange.text import Text

if TYPE_CHECKING:
    from datetime import datetime

KEY = ("resource_name", "room_name")


class Halts:
    """The halts of all rooms."""

    def __init__(self, lender: Lender) -> None:
        """Work on the lender's database."""
        self._lender = lender

    def set(self, resource: str, room: str, why: Text, *, since: datetime) -> bool:
        """Halt a resource in a room; the first reason stays. Tell whether it is new."""
        row = {
            "resource_name": resource,
            "room_name": room,
            "why_zh": why.zh,
            "why_en": why.en,
            "since_at": since,
        }
        with self._lender.write() as connection:
            return not insert_missing(connection, table, [row], KEY)

    def lift(self, resource: str, room: str) -> bool:
        """Let the resource go on; tell whether it was halted."""
        with self._lender.write() as connection:
            done = connection.execute(delete(table).where(matches(table, KEY, (resource, room))))
            return done.rowcount == 1

    def find(self, *, room: str | None = None) -> list[HaltRow]:
        """Find the halts, oldest first."""
        query = select(table).order_by(table.c.since_at, table.c.resource_name, table.c.room_name)
        if room is not None:
            query = query.where(table.c.room_name == room)
        with self._lender.read() as connection:
            return [
                HaltRow(
                    row.resource_name, row.room_name, Text(row.why_zh, row.why_en), row.since_at
                )
                for row in connection.execute(query)
            ]
