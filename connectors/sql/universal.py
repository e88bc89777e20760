"""The universal way: any database that SQLAlchemy has a dialect and a driver for.

Rows are streamed by the server (``stream_results``, and the fetch size passed on) and become
columns: integers, floats, booleans, exact decimals, dates and times; everything else comes as
text. PostgreSQL and MySQL tell the types of tables, views and queries alike. Elsewhere a table's
definition does, and a query has none: its columns come as text, its key and cursor column typed
by their first values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import ColumnElement, FromClause

from exchange.connect import Misconfigured, Text, slices
from exchange.connectors.sql import engines, postgres
from exchange.connectors.sql.address import near
from exchange.connectors.sql.discovery import names, parts, quiet
from exchange.connectors.sql.reader import (
    MAX_FRAME_BYTES,
    Address,
    Chunk,
    Horizon,
    Position,
    Want,
)
from exchange.connectors.sql.selection import selection
from exchange.connectors.sql.spelling import Mysql, Postgres, Spelling, Sqlite, bind
from exchange.connectors.sql.values import frame


@contextmanager
def reader(where: Address) -> Iterator[UniversalReader]:
    """Open one read-only transaction; drop the connection whatever happens."""
    with engines.connection(where) as connection, ExitStack() as stack:
        yield UniversalReader(connection, where, stack)


class UniversalReader:
    """Reads one table or query through SQLAlchemy."""

    def __init__(self, connection: sa.Connection, where: Address, stack: ExitStack) -> None:
        self._connection = connection
        self._where = where
        self._stack = stack
        self.key: tuple[str, ...] = ()
        self.clock = engines.begin(connection, where)
        with quiet():
            inspector = None if where.table is None else self._inspected(where.table)
            self._from, self._spelling = self._open()
            self.columns = tuple(self._spelling.columns)
            if inspector is not None and where.table is not None:
                schema, name = parts(where.table)
                declared = inspector.get_columns(name, schema) if self._spelling.defined else ()
                for column in declared:
                    self._spelling.define(
                        column["name"], column["type"], engines.kind_of(connection)
                    )
                key = inspector.get_pk_constraint(name, schema)["constrained_columns"]
                self.key = tuple(key)

    def read(self, want: Want, columns: Sequence[str]) -> Iterator[Chunk]:
        """Stream chunks; the fetch size is the frame's, so that round trips are few."""
        spelling = self._spelling
        exact = {name: e for name in want.order if (e := spelling.exact(name)) is not None}
        statement = selection(
            self._from, spelling, want, columns, clock=self.clock, condition=self._where.condition
        )
        size = self._where.batch_rows
        result = self._connection.execution_options(stream_results=True, yield_per=size).execute(
            statement
        )
        self._stack.callback(_abandon, result)
        every = [*columns, *exact]
        # The exact value of a column is selected behind its own, and is found last.
        places = {name: place for place, name in enumerate(every)}
        order = [(name, places[name]) for name in want.order]
        nothing = True
        for rows in result.partitions(size):
            if self._where.table is None:
                spelling.learn(want.order, [rows[0][places[name]] for name in want.order])
            for chunk in self._chunks(columns, rows, order):
                nothing = False
                yield chunk
        if nothing:
            yield Chunk(frame(columns, [], spelling.how), _nowhere)

    def _chunks(
        self, columns: Sequence[str], rows: Sequence[Any], order: Sequence[tuple[str, int]]
    ) -> Iterator[Chunk]:
        """Make frames of rows; positions are made of the rows when they are asked for."""
        width, start = len(columns), 0
        shown = rows if len(rows[0]) == width else [row[:width] for row in rows]
        made = frame(columns, shown, self._spelling.how)
        null = next((n for n, place in order if any(row[place] is None for row in rows)), None)
        for piece in slices(made, self._where.batch_rows, MAX_FRAME_BYTES):
            yield Chunk(piece, self._positions(rows, order, start), null)
            start += piece.height

    def _positions(
        self, rows: Sequence[Any], order: Sequence[tuple[str, int]], start: int
    ) -> Callable[[int], Position]:
        remembered = self._spelling.remembered
        return lambda row: tuple(remembered(n, rows[start + row][place]) for n, place in order)

    def horizon(self) -> Horizon | None:
        """Tell which transactions are running; None where rows do not tell who wrote them."""
        table = self._where.table
        if table is None or not isinstance(self._spelling, Postgres):
            return None
        place = ".".join(postgres.quoted(name) for name in parts(table) if name)
        return postgres.horizon(self._read_rows, place)

    def _read_rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(sa.text(sql.replace(":", r"\:")))]

    def numeric(self, column: str) -> bool:
        """Whether a column that comes as text holds numbers."""
        return self._spelling.numeric(column)

    def earlier(self, column: str, value: Any, overlap: float) -> Any:
        """Return a position's value moved back by ``overlap``."""
        return self._spelling.earlier(column, value, overlap)

    def exact(self, column: str, text: str) -> Any:
        """Return what a person wrote as a value of the column."""
        return self._spelling.written(column, text)

    def _inspected(self, table: str) -> sa.Inspector:
        schema, name = parts(table)
        inspector = sa.inspect(self._connection)
        if not (inspector.has_table(name, schema) or name in inspector.get_view_names(schema)):
            raise Misconfigured(
                Text(f"数据库里没有表 {table}", f"the database has no table {table}"),
                hint=near(table, names(inspector)),
            )
        return inspector

    def _open(self) -> tuple[FromClause, Spelling]:
        """Find the columns of the table or query, and how this database spells them."""
        where, kind = self._where, engines.kind_of(self._connection)
        star: ColumnElement[Any] = sa.literal_column("*")
        text = sa.text((where.query or "").replace(":", r"\:"))
        place: FromClause
        if where.table is None:
            place = text.columns().alias("q")
        else:
            schema, name = parts(where.table)
            place = sa.table(name, schema=schema).alias("q")
        probe = sa.select(star).select_from(place).where(sa.literal_column("1 = 0"))
        result = self._connection.execute(probe)
        names = tuple(result.keys())
        fields = getattr(getattr(result.cursor, "_result", None), "fields", None)
        description = result.cursor.description if result.cursor is not None else ()
        result.close()
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in names]
        if where.table is None:
            place = text.columns(*columns).alias("q")
        else:
            place = sa.table(name, *columns, schema=schema).alias("q")
        found = {name: place.c[name] for name in names}

        def forms(form: ColumnElement[Any], column: ColumnElement[Any]) -> list[tuple[Any, ...]]:
            return self._forms(place, form, column)

        if kind == "postgresql":
            spelled = [f"q.{postgres.quoted(name)}" for name in names]
            kinds: list[ColumnElement[Any]] = [
                sa.literal_column(postgres.type_of(column)) for column in spelled
            ]
            types = sa.select(*kinds)
            one = sa.select(sa.literal_column("1").label("one")).alias("one")
            row = self._connection.execute(
                types.select_from(one.outerjoin(place, sa.literal_column("false")))
            ).one()
            scales = {
                name: (getattr(d, "precision", None), getattr(d, "scale", None))
                for name, d in zip(names, description or (), strict=True)
            }
            return place, Postgres(found, dict(zip(names, row, strict=True)), scales, forms)
        if kind == "mysql" and fields is not None:
            return place, Mysql(found, fields, forms)
        if kind == "sqlite":
            return place, Sqlite(found, lambda stored: self._usual(place, stored), forms)
        return place, Spelling(found, forms)

    def _forms(
        self, place: FromClause, form: ColumnElement[Any], column: ColumnElement[Any]
    ) -> list[tuple[Any, ...]]:
        """Count the forms of a column of text, with the least and the greatest length of each."""
        length = sa.func.length(column)
        counts = sa.select(form, sa.func.count(), sa.func.min(length), sa.func.max(length))
        statement = counts.select_from(place).where(column.is_not(None)).group_by(form)
        if self._where.condition is not None:
            own = self._where.condition.replace(":", r"\:")
            statement = statement.where(sa.text(f"({own}\n)"))
        return [tuple(row) for row in self._connection.execute(statement)]

    def _usual(self, place: FromClause, stored: ColumnElement[Any]) -> str:
        """Return what most values of a column are stored as."""
        statement = sa.select(stored).select_from(place).where(stored != bind("null"))
        most = statement.group_by(stored).order_by(sa.func.count().desc()).limit(1)
        return str(self._connection.execute(most).scalar() or "text")


def _nowhere(_row: int) -> Position:
    raise IndexError


def _abandon(result: sa.CursorResult[Any]) -> None:
    """Close a result, without reading what is left of it."""
    engines.forget_unread(result.cursor)
    result.close()
