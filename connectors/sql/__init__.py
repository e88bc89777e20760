"""sql: tables and queries of relational databases, whole or what is new.

PostgreSQL streams as columns through ADBC; every other database that SQLAlchemy speaks to goes
the universal way. Both read in one read-only transaction, from one consistent state, streamed
by the server: memory does not grow with the table.

A **snapshot** delivers every row on every pull. With a key it is read in key order and a pull
that died goes on behind the last committed row. An **incremental** pull (``cursor_column``)
delivers what is new, ordered by (cursor column, key), and never passes the database's clock.
Rows that were committed late come too. A table of PostgreSQL tells which transaction wrote each
row: what a transaction that still runs could follow waits, and nothing is read twice. Elsewhere
the last value and a stretch below it (``overlap``) are read again, and rows delivered already
are dropped.

Sessions show time at +08:00, and a time without an offset is read as +08:00: tables, queries and
views agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from exchange.connect import Cursor, Manners, Misconfigured, Pulled, Secret, Text, connector
from exchange.connectors.sql.address import POSTGRES, checked_scheme, near
from exchange.connectors.sql.condition import checked_condition
from exchange.connectors.sql.cursor import CursorState
from exchange.connectors.sql.epoch import epoch_ahead, looks_ahead
from exchange.connectors.sql.pulls import Incremental, odd_rows, snapshot
from exchange.connectors.sql.reader import Address, Rows, TableReader, Want, plain_query
from exchange.connectors.sql.window import MAX_WINDOW_ROWS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MAX_WINDOW_ROWS", "DeletedMark", "check", "discover", "sql"]

_SETTINGS = Text("请修改该数据源的配置", "edit the settings of this source")


OPERATION = "cd_operation"
_LONG_TRANSACTION = 600
"""Seconds from which on a person should look into a transaction."""


class DeletedMark(BaseModel):
    """A column that marks rows as deleted: where it has a value, or any but NULL without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    column: Annotated[str, Field(min_length=1)]
    value: str | int | bool | None = None

    def marks(self, frame: pl.DataFrame) -> pl.Series:
        """Return D where a row is marked as deleted, null elsewhere."""
        import polars as pl

        column = frame[self.column]
        if self.value is None:
            marked = column.is_not_null()
        elif column.dtype.is_numeric():
            marked = column.cast(pl.Float64) == float(self.value)
        else:
            told = str(self.value)
            texts = [told, told.lower()] if isinstance(self.value, bool) else [told]
            if column.dtype == pl.Boolean:
                texts = [{"1": "true", "0": "false"}.get(told, told.lower())]
            marked = column.cast(pl.String).str.strip_chars().is_in(texts)
        deleted = pl.when(marked.fill_null(value=False)).then(pl.lit("D"))
        return pl.select(deleted.alias(OPERATION)).to_series()


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    url: Secret
    table: str | None
    query: str | None
    columns: tuple[str, ...]
    key: tuple[str, ...]
    cursor_column: str | None
    where: str | None
    deleted: DeletedMark | None
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
        float | None,
        Text(
            "迟提交的行最多落后多少（时间为秒，数字为差值）；默认：PostgreSQL 的表不限，"
            "其他为 600 秒或 1000",
            "how far behind a late row may be: seconds of a time, difference of a number; "
            "by default any distance in a table of PostgreSQL, elsewhere 600 s or 1000",
        ),
        Field(ge=0),
    ] = None,
    where: Annotated[
        str | None,
        Text(
            "部门自己的 SQL 条件，如 status <> 'draft'；只读取符合的行",
            "the department's own SQL condition, such as status <> 'draft': only such rows",
        ),
        Field(min_length=1),
    ] = None,
    deleted: Annotated[
        DeletedMark | None,
        Text(
            "标记删除的列和值，如 {column: del_flag, value: 1}；无 value 则非空即删除",
            "what marks a row as deleted, such as {column: del_flag, value: 1}; "
            "without a value anything but NULL",
        ),
    ] = None,
    hours: Annotated[
        tuple[str, ...],
        Text(
            '允许读取的时段，北京时间，如 ["20:00-06:00"]；默认不限',
            'when it may be read, Beijing time, such as ["20:00-06:00"]; always by default',
        ),
    ] = (),
    rows_per_second: Annotated[
        float | None, Text("读取速度上限（行/秒）", "most rows a second"), Field(gt=0)
    ] = None,
    batch_rows: Annotated[
        int, Text("每帧行数", "rows per frame"), Field(ge=1, le=1_000_000)
    ] = 65_536,
    connect_seconds: Annotated[
        int, Text("连接超时（秒）", "time to connect, seconds"), Field(ge=1, le=300)
    ] = 10,
    statement_seconds: Annotated[
        int, Text("一次读取的时限（秒）", "time for one read, seconds"), Field(ge=1, le=86_400)
    ] = 7_200,
    lock_seconds: Annotated[
        int,
        Text("等待表锁的时限（秒）", "time to wait for a lock, seconds"),
        Field(ge=1, le=86_400),
    ] = 60,
    cursor: Cursor | None = None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    base: Path = Path(),
) -> Iterator[Pulled]:
    """Pull a table or a query of a relational database."""
    manners = Manners.read(hours, rows_per_second, now, sleep)
    manners.check()
    address = Address(
        url.reveal(),
        table,
        plain_query(query),
        base,
        manners.frame_rows(batch_rows),
        connect_seconds,
        statement_seconds,
        _condition(where),
        lock_seconds,
    )
    with _reader(address) as reader:
        names, order = _order_of(
            reader, address.locator, columns, key, cursor_column, deleted=deleted
        )
        if cursor_column is None:
            pulls = snapshot(reader, names, order, cursor)
        else:
            state = CursorState.read(cursor, order)
            pulls = Incremental(reader, names, order, overlap, state).pulls()
        for pulled in manners.paced(pulls):
            frame = pulled.frame
            if deleted is not None and frame.width:
                frame = frame.with_columns(deleted.marks(frame))
            yield replace(pulled, frame=frame, locator=address.locator)


def _condition(where: str | None) -> str | None:
    return None if where is None else checked_condition(where)


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
    """Count the rows whose cursor value has no place in the order; name what holds rows back."""
    cursor_column = settings.cursor_column
    if cursor_column is None:
        return ()
    where = _address(settings, base, settings.batch_rows)
    with _reader(where) as reader:
        _, order = _plan(reader, where, settings)
        odd = odd_rows(reader, order)
        horizon = reader.horizon()
        ahead = _epoch_ahead(reader, order)
    found = [] if ahead is None else [looks_ahead(cursor_column, ahead)]
    if horizon is not None and (horizon.age or 0) > _LONG_TRANSACTION:
        found.append(
            Text(
                f"一个未结束的事务使其后写入的行暂不读取：{horizon.holder}",
                f"rows written since wait for a transaction that is under way: {horizon.holder}",
            )
        )
    if odd.ahead:
        found.append(
            Text(
                f"{cursor_column} 晚于数据库时钟的有 {odd.ahead} 行：变化仍会读取，"
                "游标停在它们之前；写法与多数值不同的文字也计入",
                f"rows with a value of {cursor_column} beyond the database's clock: {odd.ahead}; "
                "each change of them is read, the cursor stays before them; text of another form "
                "than most values counts, too",
            )
        )
    if odd.unplaced:
        found.append(
            Text(
                f"{odd.unplaced} 行的键列为空：每次变化都会读取，目录主键为空的记录进入隔离区",
                f"rows with NULL in the key: {odd.unplaced}; each change of them is read, and what "
                "lacks the key of the catalog goes to quarantine",
            )
        )
    if odd.impossible:
        found.append(
            Text(
                f"{odd.impossible} 行的 {cursor_column} 不是可用的值，这些记录进入隔离区",
                f"rows with a value of {cursor_column} that cannot be used: {odd.impossible}; "
                "these records go to quarantine",
            )
        )
    return tuple(found)


def _epoch_ahead(reader: TableReader, order: tuple[str, ...]) -> int | None:
    """Look for a number that is a time in the future, in a column wide enough for times."""
    chunk = next(iter(reader.read(Want(order, Rows.TIMELY), order)), None)
    wide = chunk is not None and str(chunk.frame[order[0]].dtype) in {"Int64", "UInt64"}
    return epoch_ahead(reader, order) if wide else None


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
        settings.url.reveal(),
        settings.table,
        plain_query(settings.query),
        base,
        rows,
        seconds,
        seconds,
        _condition(settings.where),
        seconds,
    )


def _plan(
    reader: TableReader, where: Address, settings: _Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read and the order to read them in, checked against the table."""
    return _order_of(
        reader,
        where.locator,
        settings.columns,
        settings.key,
        settings.cursor_column,
        deleted=settings.deleted,
    )


def _order_of(
    reader: TableReader,
    locator: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    cursor_column: str | None,
    *,
    deleted: DeletedMark | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read and the order to read them in, checked against the table."""
    names = columns or reader.columns
    key = key or reader.key
    mark = () if deleted is None else (deleted.column,)
    _known((*names, *key, *((cursor_column,) if cursor_column else ()), *mark), reader, locator)
    order = _order(cursor_column, key, locator) if cursor_column else key
    missing = [name for name in (*order, *mark) if name not in names]
    if missing:
        raise Misconfigured(
            Text(
                f"columns 中要包含键列、增量列和删除标记列：{', '.join(missing)}",
                "columns must include the key, the cursor column and that of `deleted`: "
                f"{', '.join(missing)}",
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
