"""The columnar way into PostgreSQL: ADBC (COPY in binary), frames without a Python row.

Types: numbers, booleans, dates, times with and without zone and text come as they are.
``numeric(p, s)`` comes as an exact decimal, cast to text by the server (cheaper than decoding
it here) and parsed in columns; ``float4`` as the number that PostgreSQL shows. Everything else
(uuid, json, bytea, arrays, enums, intervals, ``numeric`` without precision, ``char(n)``) comes
as PostgreSQL writes it as text (``::text``).

Order and comparison are those of the table's own columns, qualified: an output column of the
same name would be sorted as text. Positions are PostgreSQL's own text of a value, cast back to
its type, so every type that can be sorted can be resumed.

Values never become part of an SQL text: COPY takes no parameters, so a cursor's values are
laid down as settings of the transaction and read by ``current_setting``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_manager
import polars as pl
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from exchange.connect import ExchangeError, Misconfigured, Text, database_error, slices
from exchange.connectors.sql import postgres
from exchange.connectors.sql.address import near
from exchange.connectors.sql.databases import database_of
from exchange.connectors.sql.reader import (
    MAX_FRAME_BYTES,
    Address,
    Chunk,
    Horizon,
    Want,
    changed,
    check_zone,
    unfit,
)
from exchange.connectors.sql.text_forms import usual

_MAX_PRECISION = 38
_TYPMOD_HEADER = 4
_BYTES_PER_VALUE = 14
"""Typical width of a value: sizes ADBC's batches so that a frame is about ``batch_rows``."""
_MIN_BATCH, _MAX_BATCH = 1 << 20, 32 << 20
_FROM = '"q"'
"""The name that the table or query has in our statements."""


@contextmanager
def reader(where: Address) -> Iterator[AdbcReader]:
    """Open one read-only transaction at one consistent state; close it whatever happens."""
    database = database_of(_address(where))
    with _border(where):
        connection = database.connect()
    try:
        with _border(where):
            yield AdbcReader(connection, where)
    finally:
        # Closing drops the socket: rows that were not fetched are not waited for.
        database.close(connection)


class AdbcReader:
    """Reads one table or query of PostgreSQL."""

    def __init__(self, connection: dbapi.Connection, where: Address) -> None:
        self._connection = connection
        self._where = where
        self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for name, value in postgres.session(where.statement_seconds, where.lock_seconds).items():
            self._rows("SELECT set_config($1, $2, true)", name, value)
        ((encoding, shown, clock),) = self._rows(postgres.FACTS)
        if encoding == "SQL_ASCII":
            raise Misconfigured(
                Text(
                    "该数据库的编码是 SQL_ASCII，文本的真实编码未知",
                    "the database says SQL_ASCII: nobody knows the encoding of its text",
                ),
                hint=Text(
                    "请把数据库转为 UTF8，或导出为文件后用 files 连接器读取",
                    "convert the database to UTF8, or export files and pull them with `files`",
                ),
            )
        check_zone(shown)
        self.clock: datetime | None = datetime.fromisoformat(clock)
        self._place = f"({where.query})" if where.query else _quoted_table(where.table or "")
        self._from = f"{self._place} AS {_FROM}"
        self._schema = self._probe()
        self.columns = tuple(self._schema.names)
        self._types = self._declared()
        self._forms: dict[str, str] = {}
        self.key = self._primary_key() if where.table else ()

    def read(self, want: Want, columns: Sequence[str]) -> Iterator[Chunk]:
        """Stream chunks; types follow from the table's definition alone."""
        self._check_position(want)
        fields = [self._schema.field(name) for name in columns]
        picked = [f"{self._picked(f)} AS {postgres.quoted(f.name)}" for f in fields]
        exact = _Exact(want.order, self._types)
        picked += [
            f"{_column(name)}::text AS {postgres.quoted(as_)}" for name, as_ in exact.extra.items()
        ]
        sql = f"SELECT {', '.join(picked)} FROM {self._from}{self._condition(want)}"  # noqa: S608
        if want.order:
            sql += " ORDER BY " + ", ".join(map(_column, want.order))
        decimals = {f.name: d for f in fields if (d := _decimal(f)) is not None}
        hint = self._where.batch_rows * len(fields) * _BYTES_PER_VALUE
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(
                **{
                    "adbc.postgresql.batch_size_hint_bytes": str(
                        min(max(hint, _MIN_BATCH), _MAX_BATCH)
                    )
                }
            )
            cursor.execute(sql)
            batches = cursor.fetch_record_batch()
            nothing = True
            for batch in batches:
                for piece in slices(_frame(batch), self._where.batch_rows, MAX_FRAME_BYTES):
                    nothing = False
                    yield exact.chunk(piece, decimals)
            if nothing:
                yield exact.chunk(_frame(batches.schema.empty_table()), decimals)

    def _check_position(self, want: Want) -> None:
        """Raise Misconfigured where a remembered value is none of its column any more."""
        position = want.after or want.upto or ()
        for name, value in zip(want.order, position, strict=False):
            try:
                self._rows(f"SELECT ({self._value(0, name, value)}) IS NULL")
            except adbc_driver_manager.Error as error:
                if (error.sqlstate or "").startswith("22"):
                    raise changed(name) from error
                raise

    def horizon(self) -> Horizon | None:
        """Tell which transactions are running; None for a query or a view."""
        return postgres.horizon(self._rows, self._place) if self._where.table else None

    def numeric(self, column: str) -> bool:
        """Whether a column that comes as text holds numbers."""
        return self._types[column] in postgres.NUMERIC

    def earlier(self, column: str, value: Any, overlap: float) -> Any:
        """Return a position's value moved back by ``overlap``."""
        return postgres.earlier(self._types[column], value, overlap)

    def exact(self, column: str, text: str) -> Any:
        """Return what a person wrote as PostgreSQL writes it."""
        try:
            ((found,),) = self._rows(f"SELECT ({self._value(0, column, text)})::text")
        except adbc_driver_manager.Error as error:
            raise unfit(column, text) from error
        return found

    def _picked(self, field: pa.Field) -> str:
        return postgres.picked(_column(field.name), self._types[field.name])

    def _condition(self, want: Want) -> str:
        values = count()
        condition = postgres.condition(
            want,
            column=_column,
            value=lambda name, value: self._value(next(values), name, value),
            types=self._types,
            clock=self.clock,
            form=self._form,
        )
        own = self._own()
        return (
            f"{condition} AND {own}"
            if condition and own
            else condition or f" WHERE {own}" * bool(own)
        )

    def _own(self) -> str:
        """Spell the department's own condition."""
        return "" if self._where.condition is None else f"({self._where.condition}\n)"

    def _form(self, column: str) -> str:
        """Ask for the form that most texts of a column have."""
        if column not in self._forms:
            own = self._own()
            place = f"(SELECT * FROM {self._from} WHERE {own}) AS {_FROM}" if own else self._from  # noqa: S608
            self._forms[column] = usual(column, self._rows(postgres.forms(_column(column), place)))
        return self._forms[column]

    def _value(self, number: int, column: str, value: Any) -> str:
        """Lay a value down in the transaction and return the expression that reads it."""
        setting = f"exchange.value{number}"
        self._rows("SELECT set_config($1, $2, true)", setting, str(value))
        return f"current_setting('{setting}')::{self._types[column]}"

    def _probe(self) -> pa.Schema:
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"SELECT * FROM {self._from} LIMIT 0")  # noqa: S608 - quoted
            except adbc_driver_manager.Error as error:
                if error.sqlstate != "42P01" or self._where.table is None:
                    raise
                problem = error
            else:
                return cursor.fetch_record_batch().schema
        raise self._no_table(self._where.table) from problem

    def _declared(self) -> dict[str, str]:
        """Return the types of the columns as they are written in a cast."""
        names = list(map(_column, self.columns))
        row = self._rows(postgres.declared(names, self._from))[0] if names else ()
        return dict(zip(self.columns, row, strict=True))

    def _no_table(self, table: str) -> Misconfigured:
        self._connection.rollback()
        rows = self._rows(
            "SELECT CASE WHEN table_schema = 'public' THEN table_name "
            "ELSE table_schema || '.' || table_name END FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') "
            "ORDER BY 1 LIMIT 1000"
        )
        return Misconfigured(
            Text(f"数据库里没有表 {table}", f"the database has no table {table}"),
            hint=near(table, [name for (name,) in rows]),
        )

    def _primary_key(self) -> tuple[str, ...]:
        rows = self._rows(
            "SELECT a.attname::text FROM pg_catalog.pg_index i "
            "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) "
            "JOIN pg_catalog.pg_attribute a "
            "ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
            "WHERE i.indisprimary AND i.indrelid = $1::regclass ORDER BY k.place",
            self._place,
        )
        return tuple(name for (name,) in rows)

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def _execute(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)


def _frame(data: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - tells the type checker
    return frame


def _address(where: Address) -> str:
    """Add limits and the client's encoding to the address, unless it has its own."""
    parts = urlsplit(where.url)
    given = {item.partition("=")[0] for item in parts.query.split("&")}
    limits = {
        "connect_timeout": where.connect_seconds,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "client_encoding": "UTF8",
        "application_name": "exchange",
    }
    added = [f"{name}={value}" for name, value in limits.items() if name not in given]
    query = "&".join([*filter(None, [parts.query]), *added])
    return urlunsplit(parts._replace(query=query))


def _quoted_table(table: str) -> str:
    return ".".join(map(postgres.quoted, table.split(".", 1)))


def _column(name: str) -> str:
    return f"{_FROM}.{postgres.quoted(name)}"


def _type(field: pa.Field) -> str:
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"text").decode())


def _decimal(field: pa.Field) -> pl.Decimal | None:
    """Return precision and scale of ``numeric(p, s)``: typmod is ((p << 16) | s) + 4."""
    typmod = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - _TYPMOD_HEADER
    if _type(field) != "numeric" or typmod < 0:
        return None
    precision, scale = typmod >> 16 & 0xFFFF, typmod & 0x7FF
    if precision > _MAX_PRECISION or scale > precision:
        return None
    return pl.Decimal(precision, scale)


class _Exact:
    """Finds the exact position of rows: numbers and text as they came, others as text beside."""

    def __init__(self, order: Sequence[str], types: dict[str, str]) -> None:
        self._order = order
        self.extra = {
            name: f"_exact{place}"
            for place, name in enumerate(order)
            if types[name] in postgres.NO_TEXT
        }

    def chunk(self, raw: pl.DataFrame, decimals: dict[str, pl.Decimal]) -> Chunk:
        """Make a chunk of what came: columns typed, positions kept apart."""
        exact = raw.select(self.extra.get(name, name) for name in self._order)
        null = next(
            (n for n, column in zip(self._order, exact, strict=True) if column.null_count()), None
        )
        return Chunk(_typed(raw.drop(self.extra.values()), decimals), exact.row, null)


_EPOCH = date(1970, 1, 1)
_FIRST, _LAST = (date(1, 1, 1) - _EPOCH).days, (date(9999, 12, 31) - _EPOCH).days + 1
"""Days that a date may have; PostgreSQL's infinity and BC lie outside, wrapped around or not."""
_MICROSECONDS = 86_400_000_000


def _typed(frame: pl.DataFrame, decimals: dict[str, pl.Decimal]) -> pl.DataFrame:
    """Parse decimals; what no typed column can hold is null, and told in ``_defect``."""
    parsed = frame.with_columns(
        pl.col(name).cast(dtype, strict=False) for name, dtype in decimals.items()
    )
    defects, nulls = [], []
    for name in decimals:
        if parsed[name].null_count() != frame[name].null_count():
            lost = parsed[name].is_null() & frame[name].is_not_null()
            defects.append(pl.when(lost).then(pl.lit(f"{name}: ") + frame[name]))
    for name, dtype in parsed.schema.items():
        if dtype.is_temporal() and not _within(parsed[name]):
            days = pl.col(name).to_physical() // (1 if dtype == pl.Date else _MICROSECONDS)
            odd = ~days.is_between(_FIRST, _LAST, closed="left")
            told = pl.lit(f"{name}: infinite, or outside the years 1-9999")
            defects.append(pl.when(odd).then(told))
            nulls.append(pl.when(~odd).then(pl.col(name)))
    if not defects:
        return parsed
    told = pl.concat_str(defects, separator="; ", ignore_nulls=True)
    return parsed.with_columns(*nulls, pl.when(told != "").then(told).alias("_defect"))


def _within(values: pl.Series) -> bool:
    physical = values.to_physical()
    scale = 1 if values.dtype == pl.Date else _MICROSECONDS
    low, high = physical.min(), physical.max()
    if not isinstance(low, int) or not isinstance(high, int):
        return True
    return low >= _FIRST * scale and high < _LAST * scale


@contextmanager
def _border(where: Address) -> Iterator[None]:
    """Turn ADBC's errors into ours by SQLSTATE, or by what the client library says."""
    try:
        yield
    except ExchangeError:
        raise
    except adbc_driver_manager.Error as error:
        raise _ours(error, error.sqlstate or "", where) from error
    except (OSError, pa.ArrowException) as error:
        raise _ours(error, "", where) from error


_SQLSTATE = re.compile(r"SQLSTATE:? ?([0-9A-Z]{5})")


def _ours(error: Exception, state: str, where: Address) -> ExchangeError:
    found = _SQLSTATE.search(str(error))
    state = state or (found[1] if found else "")
    told = str(error).partition("Query was:")[0].strip().removeprefix("IO: [libpq] ")
    return database_error(where.locator, told, state=state)
