"""The universal way: any database that SQLAlchemy has a dialect and a driver for.

Rows are streamed by the server (``stream_results``, and the fetch size passed on) and become
columns whose types follow from the table's definition: integers, floats, booleans, exact
decimals, dates and times; everything else comes as text. A query has no definition, so its
types are those of its first rows. A value that does not fit its column is null there and told
in ``_defect`` (SQLite keeps text in integer columns).
"""

from __future__ import annotations

import json
import operator
import sqlite3
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc

from exchange.connect import (
    Denied,
    ExchangeError,
    Misconfigured,
    Rejected,
    Text,
    Transient,
    slices,
    suggest,
)
from exchange.connectors.sql.reader import MAX_FRAME_BYTES, Address, Want

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.sql.expression import ColumnElement, FromClause

_MAX_TABLES = 500
_MAX_PRECISION = 38

_READ_ONLY = {
    # What opens a read-only transaction at one consistent state, by kind of database.
    "sqlite": ("PRAGMA query_only = ON", "BEGIN"),
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION time_zone = '+00:00'",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",),
    "oracle": ("SET TRANSACTION READ ONLY",),
}


@contextmanager
def reader(where: Address) -> Iterator[UniversalReader]:
    """Open one read-only transaction; drop the connection whatever happens."""
    with _border(where):
        engine = _engine(where)
        connection = engine.connect()
        with ExitStack() as stack:
            stack.callback(connection.invalidate)
            for statement in _READ_ONLY.get(_kind(engine), ()):
                connection.exec_driver_sql(statement)
            yield UniversalReader(connection, where, stack)


def tables(where: Address) -> list[dict[str, Any]]:
    """List tables with columns, types and primary key; at most 500."""
    with _border(where), _engine(where).connect() as connection:
        inspector = sa.inspect(connection)
        return [_described(inspector, name) for name in _names(inspector)]


class UniversalReader:
    """Reads one table or query through SQLAlchemy."""

    def __init__(self, connection: sa.Connection, where: Address, stack: ExitStack) -> None:
        self._connection = connection
        self._where = where
        self._stack = stack
        self._from: FromClause | sa.TextClause
        if where.table is None:
            text = f"({where.query}) q".replace(":", r"\:")
            self._from = sa.text(text)
            self._types: dict[str, pl.DataType] = {}
            self.columns = self._probe()
            self.key: tuple[str, ...] = ()
            return
        schema, name = _parts(where.table)
        inspector = sa.inspect(connection)
        if not (inspector.has_table(name, schema) or name in inspector.get_view_names(schema)):
            near = suggest(where.table, _names(inspector))
            raise Misconfigured(
                Text(f"数据库里没有表 {where.table}", f"the database has no table {where.table}"),
                hint=Text(f"请修改配置。{near.zh}", f"edit the settings: {near.en}"),
            )
        self._from = sa.table(name, schema=schema)
        found = inspector.get_columns(name, schema)
        kind = connection.dialect.name
        self._types = {column["name"]: _dtype(column["type"], kind) for column in found}
        self.columns = tuple(self._types)
        self.key = tuple(inspector.get_pk_constraint(name, schema)["constrained_columns"])

    def read(self, want: Want, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Stream frames; the fetch size is the frame's, so that round trips are few."""
        statement = sa.select(*map(_column, columns)).select_from(self._from)
        statement = statement.where(*_conditions(want)).order_by(*map(_column, want.order))
        rows_per_frame = self._where.batch_rows
        result = self._connection.execution_options(
            stream_results=True, yield_per=rows_per_frame
        ).execute(statement)
        self._stack.callback(_abandon, self._connection, result)
        types = dict(self._types)
        nothing = True
        for rows in result.partitions(rows_per_frame):
            if self._where.table is None:
                # Key values are never NULL, so their first one tells the type for all.
                first = dict(zip(columns, rows[0], strict=True))
                types |= {n: types.get(n) or _python_dtype(first[n]) for n in want.order}
            frame = _frame(columns, rows, types)
            for piece in slices(frame, rows_per_frame, MAX_FRAME_BYTES):
                nothing = False
                yield piece
        if nothing:
            yield _frame(columns, [], types)

    def _probe(self) -> tuple[str, ...]:
        star: ColumnElement[Any] = sa.literal_column("*")
        statement = sa.select(star).select_from(self._from).where(sa.literal_column("1 = 0"))
        result = self._connection.execute(statement)
        names = tuple(result.keys())
        result.close()
        return names


def _conditions(want: Want) -> list[ColumnElement[bool]]:
    if want.after is not None:
        return [_behind(want.order, want.after)]
    if want.since is not None:
        return [_column(want.order[0]) >= want.since]
    if want.null is not None:
        first = _column(want.order[0])
        return [first.is_(None) if want.null else first.is_not(None)]
    return []


def _behind(names: Sequence[str], values: Sequence[Any]) -> ColumnElement[bool]:
    """Spell (a, b) > (x, y) for databases without row values, so that an index still serves."""
    first, value = _column(names[0]), values[0]
    beyond: ColumnElement[bool] = first > value
    if len(names) == 1:
        return beyond
    rest = _behind(names[1:], values[1:])
    return sa.and_(first >= value, sa.or_(beyond, rest))


def _column(name: str) -> ColumnElement[Any]:
    # Without a type SQLAlchemy hands the driver's own values through.
    return sa.column(name)


# --- engines ----------------------------------------------------------------------------------


def _engine(where: Address) -> sa.Engine:
    url = sa.make_url(where.url)
    kind = url.get_backend_name()
    if kind == "sqlite":
        return sa.create_engine(url, creator=_sqlite(url, where), poolclass=sa.NullPool)
    # A driver that knows none of these limits refuses unknown ones, so each is named.
    limits: dict[str, dict[str, Any]] = {
        "pymysql": {
            "connect_timeout": where.connect_seconds,
            "read_timeout": where.statement_seconds,
            "write_timeout": where.connect_seconds,
            "charset": "utf8mb4",
        },
        "psycopg": {
            "connect_timeout": where.connect_seconds,
            "options": f"-c statement_timeout={where.statement_seconds * 1000}",
        },
        "oracledb": {"tcp_connect_timeout": where.connect_seconds},
        "pymssql": {"login_timeout": where.connect_seconds, "timeout": where.statement_seconds},
        "pyodbc": {"timeout": where.connect_seconds},
    }
    arguments = limits.get(url.get_driver_name(), {})
    return sa.create_engine(url, connect_args=arguments, poolclass=sa.NullPool)


def _sqlite(url: sa.URL, where: Address) -> Callable[[], sqlite3.Connection]:
    """Open the file read-only: SQLite would make a missing one."""
    path = (where.base / (url.database or "")).resolve()
    if not path.is_file():
        raise Misconfigured(
            Text(f"找不到 SQLite 文件 {path}", f"there is no SQLite file {path}"),
            hint=Text("路径从配置文件所在目录算起", "paths start at the settings file's folder"),
        )
    return lambda: sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=where.connect_seconds,
        check_same_thread=False,
    )


def _kind(engine: sa.Engine) -> str:
    return "mysql" if engine.dialect.name == "mariadb" else engine.dialect.name


def _abandon(connection: sa.Connection, result: sa.CursorResult[Any]) -> None:
    """Close a result, without reading what is left of it."""
    unread = getattr(connection.connection.driver_connection, "_result", None)
    if getattr(unread, "unbuffered_active", False):
        # PyMySQL would fetch the rest of the table, row by row, before it closes.
        unread.unbuffered_active = False  # type: ignore[union-attr]
    result.close()


def _parts(table: str) -> tuple[str | None, str]:
    schema, dot, name = table.rpartition(".")
    return (schema if dot else None), name


def _names(inspector: sa.Inspector) -> list[str]:
    return [*inspector.get_table_names(), *inspector.get_view_names()][:_MAX_TABLES]


def _described(inspector: sa.Inspector, name: str) -> dict[str, Any]:
    columns = [
        {"name": c["name"], "type": str(c["type"]), "nullable": bool(c.get("nullable", True))}
        for c in inspector.get_columns(name)
    ]
    key = inspector.get_pk_constraint(name)["constrained_columns"]
    return {"name": name, "columns": columns, "key": list(key)}


# --- values -----------------------------------------------------------------------------------


def _dtype(kind: sa.types.TypeEngine[Any], database: str) -> pl.DataType:
    """Return the column type that holds every value of a declared type exactly."""
    visit = kind.__visit_name__
    if database == "sqlite" and isinstance(kind, sa.Numeric | sa.Date | sa.DateTime):
        # SQLite stores decimals as floats and dates as text: their text is what there is.
        return pl.String()
    if isinstance(kind, sa.Integer) or visit == "BIT":
        return pl.UInt64() if getattr(kind, "unsigned", False) else pl.Int64()
    if isinstance(kind, sa.Numeric) and kind.scale is not None:
        fits = kind.precision is not None and kind.precision <= _MAX_PRECISION
        return pl.Decimal(kind.precision, kind.scale) if fits else pl.String()
    if isinstance(kind, sa.DateTime):
        # MySQL's TIMESTAMP is an instant; the session reads it in UTC.
        instant = kind.timezone or (visit == "TIMESTAMP" and database in _MYSQL)
        return pl.Datetime("us", "UTC" if instant else None)
    plain = {sa.Boolean: pl.Boolean(), sa.Float: pl.Float64(), sa.Date: pl.Date()}
    return next((dtype for base, dtype in plain.items() if isinstance(kind, base)), pl.String())


_MYSQL = ("mysql", "mariadb")
_BY_VALUE: dict[type, pl.DataType] = {
    int: pl.Int64(),
    float: pl.Float64(),
    date: pl.Date(),
    datetime: pl.Datetime("us"),
}


def _python_dtype(value: Any) -> pl.DataType:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return pl.Datetime("us", "UTC")
    return _BY_VALUE.get(type(value), pl.String())


def _frame(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], types: dict[str, pl.DataType]
) -> pl.DataFrame:
    """Build typed columns; a value that does not fit is null and told in ``_defect``."""
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    made, defects = [], []
    for name, column in zip(columns, values, strict=True):
        dtype = types.get(name, pl.String())
        series, unfit = _series(name, column, dtype)
        made.append(series)
        if unfit is not None:
            defects.append(unfit)
    frame = pl.DataFrame(made)
    if not defects:
        return frame
    told = pl.concat_str(defects, separator="; ", ignore_nulls=True)
    return frame.with_columns(pl.when(told != "").then(told).alias("_defect"))


def _series(
    name: str, values: Sequence[Any], dtype: pl.DataType
) -> tuple[pl.Series, pl.Series | None]:
    if dtype == pl.String:
        return pl.Series(name, [_text(value) for value in values], dtype=dtype), None
    try:
        return pl.Series(name, [_plain(value, dtype) for value in values], dtype=dtype), None
    except _UNFIT:
        fitting = [_fitting(value, dtype) for value in values]
    told = [
        f"{name}: {_text(value)} is not {dtype}" if fit is None and value is not None else None
        for value, fit in zip(values, fitting, strict=True)
    ]
    return pl.Series(name, fitting, dtype=dtype), pl.Series(told, dtype=pl.String)


_UNFIT = (TypeError, ValueError, OverflowError, ArithmeticError, pl.exceptions.PolarsError)


def _plain(value: Any, dtype: pl.DataType) -> Any:
    """Return the Python value that polars builds ``dtype`` from; raises when there is none."""
    return None if value is None else _PLAIN[type(dtype)](value, dtype)


def _fitting(value: Any, dtype: pl.DataType) -> Any:
    try:
        plain = _plain(value, dtype)
        return None if plain is None else pl.Series([plain], dtype=dtype)[0]
    except _UNFIT:
        return None


def _boolean(value: Any, _dtype: pl.DataType) -> bool:
    if value not in (0, 1):
        raise ValueError(value)
    return bool(value)


def _integer(value: Any, _dtype: pl.DataType) -> int:
    # MySQL's BIT comes as bytes.
    return int.from_bytes(value, "big") if isinstance(value, bytes) else operator.index(value)


def _float(value: Any, _dtype: pl.DataType) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(value)
    return float(value)


def _decimal(value: Any, _dtype: pl.DataType) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _instant(value: Any, dtype: pl.DataType) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(value)
    zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone and value.tzinfo is None
    return value.replace(tzinfo=UTC) if zoned else value


def _date(value: Any, _dtype: pl.DataType) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise TypeError(value)
    return value


_PLAIN: dict[type[pl.DataType], Callable[[Any, pl.DataType], Any]] = {
    pl.Boolean: _boolean,
    pl.Int64: _integer,
    pl.UInt64: _integer,
    pl.Float64: _float,
    pl.Decimal: _decimal,
    pl.Datetime: _instant,
    pl.Date: _date,
}


def _text(value: Any) -> str | None:
    """Return a value as text: JSON and bytes in the way that PostgreSQL writes them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


# --- errors -----------------------------------------------------------------------------------

_AGAIN = Text(
    "请检查数据库是否在运行、网络是否可达；系统会从断点继续",
    "check that the database runs and can be reached; the next pull goes on from here",
)
_RIGHTS = Text(
    "请检查账号、密码和读取权限", "check the account, its password and its right to read"
)
_EDIT = Text("请修改该数据源的配置", "edit the settings of this source")
_DRIVER = Text(
    "请安装该数据库的 Python 驱动，如 gov-exchange[mysql]",
    "install the database's Python driver, such as gov-exchange[mysql]",
)

_DENIED = (1044, 1045, 1142, 1143, 1227, 1370, 1698)
"""MySQL: access denied, to a database, table, column, privilege, routine, account."""
_WRONG = (1049, 1051, 1054, 1064, 1146)
"""MySQL: unknown database, table, column; syntax."""
_WRONG_TEXT = ("no such table", "no such column", "syntax error", "file is not a database")


_GONE = (exc.OperationalError, exc.InterfaceError, exc.DisconnectionError)


@contextmanager
def _border(where: Address) -> Iterator[None]:
    """Turn SQLAlchemy's errors into ours; the statement and its values stay out of the text."""
    try:
        yield
    except ExchangeError:
        raise
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        told = Text("没有该数据库的驱动", "the driver of this database is not installed")
        raise Misconfigured(told, hint=_DRIVER) from error
    except exc.ArgumentError:
        told = Text("数据库地址写法不对", "the database address cannot be read")
        # The cause may repeat the address, and with it the password.
        raise Misconfigured(told, hint=_EDIT) from None
    except exc.SQLAlchemyError as error:
        raise _ours(error, where) from error


def _ours(error: exc.SQLAlchemyError, where: Address) -> ExchangeError:
    original = getattr(error, "orig", None) or error
    told = str(original)
    code = original.args[0] if original.args else None
    state = str(getattr(original, "sqlstate", None) or "")
    verdict: type[ExchangeError]
    if code in _DENIED or state.startswith(("28", "42501")):
        verdict, hint = Denied, _RIGHTS
    elif code in _WRONG or state.startswith(("3D", "3F", "42")) or _any(told, _WRONG_TEXT):
        verdict, hint = Misconfigured, _EDIT
    elif isinstance(error, _GONE) or getattr(error, "connection_invalidated", False):
        verdict, hint = Transient, _AGAIN
    else:
        verdict, hint = Rejected, _EDIT
    name = where.locator
    return verdict(Text(f"读取 {name} 失败：{told}", f"cannot read {name}: {told}"), hint=hint)


def _any(told: str, parts: Sequence[str]) -> bool:
    return any(part in told for part in parts)
