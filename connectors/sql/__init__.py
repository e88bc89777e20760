"""sql: tables and queries of relational databases, whole or what is new.

PostgreSQL streams as columns through ADBC; every other database that SQLAlchemy speaks to goes
the universal way. Both read in one read-only transaction, from one consistent state, streamed
by the server: memory does not grow with the table.

A **snapshot** delivers every row on every pull. With a key it is read in key order and a pull
that died goes on behind the last committed row. An **incremental** pull (``cursor_column``)
delivers what is new, ordered by (cursor column, key). The last value is read again, and with
``overlap`` a stretch below it; rows delivered already are dropped. The cursor never passes the
database's clock.

Sessions show time at +08:00, and a time without an offset is read as +08:00: tables, queries and
views agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from exchange.connect import Cursor, Misconfigured, Pulled, Secret, Text, connector
from exchange.connectors.sql.address import POSTGRES, checked_scheme, near
from exchange.connectors.sql.cursor import CursorState
from exchange.connectors.sql.pulls import Incremental, odd_rows, snapshot
from exchange.connectors.sql.reader import Address, Rows, TableReader, Want
from exchange.connectors.sql.window import MAX_WINDOW_ROWS

__all__ = ["MAX_WINDOW_ROWS", "check", "discover", "sql"]

_SETTINGS = Text("请修改该数据源的配置", "edit the settings of this source")


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    url: Secret
    table: str | None
    query: str | None
    columns: tuple[str, ...]
    key: tuple[str, ...]
    cursor_column: str | None
    batch_rows: int
    connect_seconds: int


@connector("sql")
def sql(
    *,
    url: Annotated[
        Secret,
        Text(
            "数据库地址，如 env:CASES_URL（内容为 postgresql://用户:密码@主机:5432/库）",
            "database address, such as env:CASES_URL holding postgresql://user:pw@host:5432/db",
        ),
    ],
    table: Annotated[
        str | None, Text("表名，可写成 模式.表", "table, also schema.table"), Field(min_length=1)
    ] = None,
    query: Annotated[
        str | None, Text("代替表的 SELECT 语句", "a SELECT statement instead of a table")
    ] = None,
    columns: Annotated[
        tuple[str, ...], Text("要取的列，默认全部", "columns to read, all by default")
    ] = (),
    key: Annotated[
        tuple[str, ...],
        Text(
            "唯一且非空的键列，默认主键", "unique columns without NULL, the primary key by default"
        ),
    ] = (),
    cursor_column: Annotated[
        str | None,
        Text(
            "增量列（更新时间或自增号）；不写则每次全量",
            "column that grows with every change (time or number); without it: all rows each time",
        ),
    ] = None,
    overlap: Annotated[
        float,
        Text(
            "向前重读的范围（时间为秒，数字为差值），用于补取迟提交的行",
            "how far to read again for late commits: seconds of a time, difference of a number",
        ),
        Field(ge=0),
    ] = 0,
    batch_rows: Annotated[
        int, Text("每帧行数", "rows per frame"), Field(ge=1, le=1_000_000)
    ] = 65_536,
    connect_seconds: Annotated[
        int, Text("连接超时（秒）", "time to connect, seconds"), Field(ge=1, le=300)
    ] = 10,
    statement_seconds: Annotated[
        int, Text("一次读取的时限（秒）", "time for one read, seconds"), Field(ge=1, le=86_400)
    ] = 7_200,
    cursor: Cursor | None = None,
    base: Path = Path(),
) -> Iterator[Pulled]:
    """Pull a table or a query of a relational database."""
    where = Address(
        url.reveal(), table, query, base, batch_rows, connect_seconds, statement_seconds
    )
    with _reader(where) as reader:
        names, order = _order_of(reader, where.locator, columns, key, cursor_column)
        if cursor_column is None:
            pulls = snapshot(reader, names, order, cursor)
        else:
            state = CursorState.read(cursor, order)
            pulls = Incremental(reader, names, order, overlap, state).pulls()
        for pulled in pulls:
            yield replace(pulled, locator=where.locator)


@sql.check
def check(settings: _Settings, base: Path) -> Text:
    """Connect and compare the settings with the table, without reading rows."""
    where = _address(settings, base)
    with _reader(where) as reader:
        names, order = _plan(reader, where, settings)
        shown, by = ", ".join(names), ", ".join(order) or "-"
        return Text(
            f"{where.locator} 可以读取；顺序：{by}；列：{shown}",
            f"{where.locator} can be read; in order of: {by}; columns: {shown}",
        )


@sql.discover
def discover(settings: _Settings, base: Path, now: Callable[[], datetime]) -> list[dict[str, Any]]:
    """List the tables with their columns, types, comments and keys; or the one of the settings."""
    from exchange.connectors.sql.discovery import tables

    where = _address(settings, base)
    if settings.query is not None:
        with _reader(where) as reader:
            return [{"name": "query", "columns": [{"name": name} for name in reader.columns]}]
    checked_scheme(where.url)
    return tables(where, now)


@sql.columns
def columns_of(settings: _Settings, base: Path) -> tuple[str, ...]:
    """Return the columns that a pull reads."""
    where = _address(settings, base)
    with _reader(where) as reader:
        return settings.columns or reader.columns


@sql.concerns
def concerns(settings: _Settings, base: Path) -> tuple[Text, ...]:
    """Count the rows whose cursor value has no place in the order."""
    cursor_column = settings.cursor_column
    if cursor_column is None:
        return ()
    where = _address(settings, base, settings.batch_rows)
    with _reader(where) as reader:
        _, order = _plan(reader, where, settings)
        ahead, impossible = odd_rows(reader, order)
    found = []
    if ahead:
        found.append(
            Text(
                f"{cursor_column} 晚于数据库时钟的有 {ahead} 行：变化仍会读取，游标停在它们之前",
                f"rows with a value of {cursor_column} beyond the database's clock: {ahead}; "
                "each change of them is read, the cursor stays before them",
            )
        )
    if impossible:
        found.append(
            Text(
                f"{impossible} 行的 {cursor_column} 不是可用的值，这些记录进入隔离区",
                f"rows with a value of {cursor_column} that cannot be used: {impossible}; "
                "these records go to quarantine",
            )
        )
    return tuple(found)


@sql.rewind
def rewind(settings: _Settings, base: Path, cursor: Cursor | None, to: str) -> Cursor:
    """Make the cursor that starts from a value of the cursor column, inclusive."""
    cursor_column = settings.cursor_column
    if cursor_column is None:
        raise Misconfigured(
            Text(
                "该数据源每次全量读取，没有起点可改",
                "this source reads everything each time: it has no start to set",
            ),
            hint=Text("写明 cursor_column 后才是增量读取", "with cursor_column it has one"),
        )
    where = _address(settings, base)
    with _reader(where) as reader:
        _, order = _plan(reader, where, settings)
        value = reader.exact(cursor_column, to)
        if _is_there(reader, order) and not _is_there(reader, order, since=value):
            # Where times are text, anything is a value: such a start would read nothing for ever.
            raise Misconfigured(
                Text(
                    f"{to} 晚于 {cursor_column} 的所有值",
                    f"no row has {cursor_column} from {to} on",
                ),
                hint=Text(
                    "写成列中已有的值，如最新一行的；全部重读用 --to-beginning",
                    "name a value of that column, such as the newest; "
                    "--to-beginning reads everything again",
                ),
            )
        return CursorState.read(cursor, order).since_value(value).cursor(order)


def _is_there(reader: TableReader, order: tuple[str, ...], since: Any = None) -> bool:
    """Tell whether a pull that starts from a value would read any row."""
    chunks = reader.read(Want(order, Rows.TIMELY, since), order)
    return any(chunk.frame.height for chunk in chunks)


def _reader(where: Address) -> AbstractContextManager[TableReader]:
    if (where.table is None) == (where.query is None):
        raise Misconfigured(
            Text("table 和 query 要写且只写一个", "give either table or query"), hint=_SETTINGS
        )
    if checked_scheme(where.url) in POSTGRES:
        from exchange.connectors.sql import adbc

        return adbc.reader(where)
    from exchange.connectors.sql import universal

    return universal.reader(where)


def _address(settings: _Settings, base: Path, rows: int = 1) -> Address:
    """Return where to look before a pull: nobody waits for it longer than for a connection."""
    seconds = settings.connect_seconds
    return Address(
        settings.url.reveal(), settings.table, settings.query, base, rows, seconds, seconds
    )


def _plan(
    reader: TableReader, where: Address, settings: _Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read and the order to read them in, checked against the table."""
    return _order_of(reader, where.locator, settings.columns, settings.key, settings.cursor_column)


def _order_of(
    reader: TableReader,
    locator: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    cursor_column: str | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read and the order to read them in, checked against the table."""
    names = columns or reader.columns
    key = key or reader.key
    _known((*names, *key, *((cursor_column,) if cursor_column else ())), reader, locator)
    order = _order(cursor_column, key, locator) if cursor_column else key
    missing = [name for name in order if name not in names]
    if missing:
        raise Misconfigured(
            Text(
                f"columns 中要包含键列和增量列：{', '.join(missing)}",
                f"columns must include the key and the cursor column: {', '.join(missing)}",
            ),
            hint=_SETTINGS,
        )
    return names, order


def _known(wanted: Sequence[str], reader: TableReader, locator: str) -> None:
    for name in wanted:
        if name not in reader.columns:
            raise Misconfigured(
                Text(f"{locator} 没有列 {name}", f"{locator} has no column {name}"),
                hint=near(name, list(reader.columns)),
            )


def _order(cursor_column: str, key: tuple[str, ...], locator: str) -> tuple[str, ...]:
    """Order by the cursor column, ties broken by the key."""
    if not key:
        raise Misconfigured(
            Text(
                f"{locator} 没有主键，增量读取需要 key 来区分同一时刻的行",
                f"{locator} has no primary key; an incremental pull needs key to break ties",
            ),
            hint=Text("请在配置中写明 key", "name unique columns in key"),
        )
    return (cursor_column, *(name for name in key if name != cursor_column))
