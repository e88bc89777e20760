"""sql: tables and queries of relational databases, whole or what is new.

PostgreSQL streams as columns through ADBC; every other database that SQLAlchemy speaks to goes
the universal way. Both read in one read-only transaction, from one consistent state, streamed
by the server: memory does not grow with the table.

A **snapshot** delivers every row on every pull. With a key it is read in key order and a pull
that died goes on behind the last committed row. An **incremental** pull (``cursor_column``)
delivers what is new, ordered by (cursor column, key): equal times cannot hide a row. ``overlap``
reads a stretch again for rows that were committed late, and drops those already delivered.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl
from pydantic import Field

from exchange.connect import (
    Cursor,
    Misconfigured,
    Note,
    Pulled,
    Secret,
    Text,
    connector,
    suggest,
)
from exchange.connectors.sql.reader import Address, Reader, Want

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

POSTGRES = ("postgresql", "postgres")
"""Schemes that are read as columns; ``postgresql+psycopg`` asks for the universal way."""
UNIVERSAL = ("sqlite", "mysql", "mariadb", "oracle", "mssql", "postgresql", "dm", "kingbase")
"""Database kinds of the universal way: a list, so that a setting cannot reach other schemes."""
MAX_WINDOW_ROWS = 16_384
"""Rows remembered in a cursor (8 bytes each): of the overlap, and of rows without cursor value."""

_SETTINGS = Text("请修改该数据源的配置", "edit the settings of this source")


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
        names, order = _plan(reader, where, columns, key, cursor_column)
        if cursor_column is None:
            pulls = _snapshot(reader, names, order, cursor)
        else:
            pulls = _incremental(reader, names, order, overlap, cursor)
        for pulled in pulls:
            yield replace(pulled, locator=where.locator)


@sql.check
def check(
    *,
    url: Secret,
    table: str | None,
    query: str | None,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    cursor_column: str | None,
    connect_seconds: int,
    base: Path,
) -> Text:
    """Connect and compare the settings with the table, without reading rows."""
    where = Address(url.reveal(), table, query, base, 1, connect_seconds, connect_seconds)
    with _reader(where) as reader:
        names, order = _plan(reader, where, columns, key, cursor_column)
        shown, by = ", ".join(names), ", ".join(order) or "-"
        return Text(
            f"{where.locator} 可以读取；顺序：{by}；列：{shown}",
            f"{where.locator} can be read; in order of: {by}; columns: {shown}",
        )


@sql.discover
def discover(url: Secret, connect_seconds: int, base: Path) -> list[dict[str, Any]]:
    """List the tables with their columns, types and keys."""
    from exchange.connectors.sql.universal import tables

    address = url.reveal()
    _scheme(address)
    return tables(Address(address, None, None, base, 1, connect_seconds, connect_seconds))


def _reader(where: Address) -> AbstractContextManager[Reader]:
    if (where.table is None) == (where.query is None):
        raise Misconfigured(
            Text("table 和 query 要写且只写一个", "give either table or query"), hint=_SETTINGS
        )
    if _scheme(where.url) in POSTGRES:
        from exchange.connectors.sql import adbc

        return adbc.reader(where)
    from exchange.connectors.sql import universal

    return universal.reader(where)


def _scheme(url: str) -> str:
    """Return the scheme of an allowed address; never repeats the address itself."""
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError:
        scheme = ""
    if scheme in POSTGRES or scheme.partition("+")[0] in UNIVERSAL:
        return scheme
    known = ", ".join(UNIVERSAL)
    raise Misconfigured(
        Text("数据库地址的类型不受支持", "this kind of database address is not supported"),
        hint=Text(f"地址以下列之一开头：{known}", f"an address starts with one of: {known}"),
    )


def _plan(
    reader: Reader,
    where: Address,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    cursor_column: str | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read and the order to read them in, checked against the table."""
    names = columns or reader.columns
    key = key or reader.key
    _known((*names, *key, *((cursor_column,) if cursor_column else ())), reader, where.locator)
    order = _order(cursor_column, key, where.locator) if cursor_column else key
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


def _known(wanted: Sequence[str], reader: Reader, locator: str) -> None:
    for name in wanted:
        if name not in reader.columns:
            near = suggest(name, reader.columns)
            raise Misconfigured(
                Text(f"{locator} 没有列 {name}", f"{locator} has no column {name}"),
                hint=Text(f"请修改配置。{near.zh}", f"edit the settings: {near.en}"),
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


def _snapshot(
    reader: Reader, names: Sequence[str], key: tuple[str, ...], cursor: Cursor | None
) -> Iterator[Pulled]:
    """Read everything; with a key in its order, so that the next pull can go on."""
    if not key:
        # Without a key a pull that died can only start again (at least once).
        for frame in reader.read(Want(), names):
            yield Pulled(frame, {})
        return
    frame = pl.DataFrame()
    before = _position(cursor, "after", key)
    for frame in reader.read(Want(order=key, after=before), names):
        last = _check_order(frame, key, before)
        if last is not None:
            before = last
            yield Pulled(frame, {"after": _named(key, last)})
    # The snapshot is complete: the next pull starts from the beginning.
    yield Pulled(frame.clear(), {})


def _incremental(
    reader: Reader,
    names: Sequence[str],
    order: tuple[str, ...],
    overlap: float,
    cursor: Cursor | None,
) -> Iterator[Pulled]:
    """Read rows without a cursor value once, then what is new since the cursor."""
    state = _State.read(cursor, order)
    found = _nothing()
    for frame in reader.read(Want(order=order, null=True), names):
        hashes = _hashes(frame)
        fresh = frame.filter(~np.isin(hashes, state.nulls))
        found = np.union1d(found, hashes)
        if len(found) > MAX_WINDOW_ROWS:
            raise _too_many_nulls(order[0])
        state = replace(state, nulls=np.union1d(state.nulls, hashes))
        if fresh.height:
            yield Pulled(fresh, state.cursor(order))
    # What was remembered and is not NULL any more has a cursor value now, or is gone.
    state = replace(state, nulls=found)

    began, remembered = state.at, state.seen
    window = pl.DataFrame()
    last: tuple[Any, ...] | None = None
    frame = pl.DataFrame()
    for frame in reader.read(_want(state, order, overlap), names):
        last = _check_order(frame, order, last) or last
        if last is None:
            continue
        if not overlap:
            state = replace(state, at=last)
            yield Pulled(frame, state.cursor(order))
            continue
        hashes = _hashes(frame)
        fresh = frame.filter(~np.isin(hashes, remembered))
        # Only the cursor column is compared here: text keys sort by the database's own rules.
        at = last if state.at is None or last[0] >= state.at[0] else state.at
        part = frame.select(order).with_columns(pl.Series(_HASH, hashes))
        window = pl.concat((window, part)) if window.width else part
        state, window = _slide(replace(state, at=at), window, order, overlap)
        if began is not None and last[0] <= began[0]:
            # Rows of the old window lie ahead: keep them in mind until they are passed.
            state = replace(state, seen=np.union1d(remembered, state.seen))
        if fresh.height:
            yield Pulled(fresh, state.cursor(order))
    notes: tuple[Note, ...] = ()
    if window.width:
        state = replace(state, seen=window[_HASH].to_numpy())
        notes = _narrowed(state, overlap)
    yield Pulled(frame.clear(), state.cursor(order), notes=notes)


_HASH = "_hash"
Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def _nothing() -> Hashes:
    return np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class _State:
    """The cursor of an incremental pull, as values.

    ``at`` is the newest position delivered; ``seen`` and ``nulls`` are hashes of delivered rows
    of the overlap and of rows without a cursor value; ``low``, when set, is where the overlap
    had to be cut because it held more than MAX_WINDOW_ROWS rows.
    """

    at: tuple[Any, ...] | None = None
    low: tuple[Any, ...] | None = None
    seen: Hashes = field(default_factory=_nothing)
    nulls: Hashes = field(default_factory=_nothing)

    @classmethod
    def read(cls, cursor: Cursor | None, order: tuple[str, ...]) -> _State:
        at = _position(cursor, "at", order)
        if cursor is None or cursor.get("polars") != pl.__version__:
            # Hashes hold within one version of polars only: after an upgrade the overlap is
            # delivered once more.
            return cls(at=at)
        low = _position(cursor, "low", order)
        return cls(at, low, _unpack(cursor.get("seen", "")), _unpack(cursor.get("nulls", "")))

    def cursor(self, order: tuple[str, ...]) -> Cursor:
        out: dict[str, Any] = {"polars": pl.__version__}
        if self.at is not None:
            out["at"] = _named(order, self.at)
        if self.low is not None:
            out["low"] = _named(order, self.low)
        if len(self.seen):
            out["seen"] = _pack(self.seen)
        if len(self.nulls):
            out["nulls"] = _pack(self.nulls)
        return out


def _want(state: _State, order: tuple[str, ...], overlap: float) -> Want:
    if state.at is None:
        return Want(order=order, null=False)
    if not overlap:
        return Want(order=order, after=state.at)
    since = _shift(state.at[0], overlap)
    if state.low is not None and state.low[0] >= since:
        return Want(order=order, after=state.low)
    return Want(order=order, since=since)


def _slide(
    state: _State, window: pl.DataFrame, order: tuple[str, ...], overlap: float
) -> tuple[_State, pl.DataFrame]:
    """Keep the rows of the overlap behind ``state.at``, the newest MAX_WINDOW_ROWS at most."""
    since = _shift(state.at[0], overlap) if state.at else None
    window = window.filter(pl.col(order[0]) >= since)
    low = state.low if state.low is not None and state.low[0] >= since else None
    if window.height > MAX_WINDOW_ROWS:
        low = window.select(order).row(-MAX_WINDOW_ROWS - 1)
        window = window.tail(MAX_WINDOW_ROWS)
    return replace(state, low=low, seen=window[_HASH].to_numpy()), window


def _narrowed(state: _State, overlap: float) -> tuple[Note, ...]:
    if state.low is None:
        return ()
    text = (
        f"overlap {overlap:g} holds more than {MAX_WINDOW_ROWS} rows: rows committed late "
        f"before {state.low[0]} are not seen"
    )
    return (Note(0, "overlap", text),)


def _too_many_nulls(column: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"增量列 {column} 为空的行超过 {MAX_WINDOW_ROWS} 行，无法增量读取",
            f"more than {MAX_WINDOW_ROWS} rows have no value in the cursor column {column}",
        ),
        hint=Text(
            "请补全该列，或改用别的增量列，或去掉 cursor_column 做全量读取",
            "fill the column, choose another one, or drop cursor_column to read everything",
        ),
    )


def _check_order(
    frame: pl.DataFrame, order: tuple[str, ...], before: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """Return the last position; a NULL or a value twice at a border could lose rows."""
    if frame.height == 0:
        return None
    for name in order:
        if frame[name].null_count():
            raise Misconfigured(
                Text(f"键列 {name} 有空值", f"the key column {name} holds NULL"),
                hint=Text("键列必须非空且唯一", "key columns are unique and never NULL"),
            )
    positions = frame.select(order)
    if before is not None and positions.row(0) == before:
        raise Misconfigured(
            Text(
                f"键 {', '.join(order)} 不唯一：{before}",
                f"the key {', '.join(order)} is not unique: {before}",
            ),
            hint=Text("请在 key 中写全能唯一确定一行的列", "name columns in key that are unique"),
        )
    last: tuple[Any, ...] = positions.row(-1)
    return last


def _hashes(frame: pl.DataFrame) -> Hashes:
    return frame.hash_rows(seed=0).to_numpy()


def _pack(hashes: Hashes) -> str:
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def _unpack(text: str) -> Hashes:
    return np.frombuffer(base64.b64decode(text), dtype="<u8").astype(np.uint64)


def _shift(value: Any, overlap: float) -> Any:
    """Return ``value`` moved back by ``overlap``: seconds of a time, difference of a number."""
    if isinstance(value, datetime):
        return value - timedelta(seconds=overlap)
    if isinstance(value, date):
        return value - timedelta(days=math.ceil(overlap / 86_400))
    if isinstance(value, int):
        return value - math.ceil(overlap)
    if isinstance(value, Decimal):
        return value - Decimal(str(overlap))
    if isinstance(value, float):
        return value - overlap
    try:
        moved = datetime.fromisoformat(value) - timedelta(seconds=overlap)
    except (TypeError, ValueError) as error:
        raise Misconfigured(
            Text(
                f"增量列的值 {value!r} 不是时间或数字，不能使用 overlap",
                f"the cursor value {value!r} is no time or number: overlap has no meaning",
            ),
            hint=Text("请去掉 overlap", "drop overlap"),
        ) from error
    # Text compares as text: keep the separator, and drop the fraction, which only widens.
    return moved.isoformat(sep=" " if " " in value else "T", timespec="seconds")


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, map(_encode, values), strict=True))


def _position(cursor: Cursor | None, part: str, names: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Read a position back; one of other columns (the settings changed) counts as none."""
    found = (cursor or {}).get(part)
    if not isinstance(found, dict) or tuple(found) != names:
        return None
    return tuple(map(_decode, found.values()))


def _encode(value: Any) -> Any:
    """Return a key value as JSON: numbers and text as they are, others by the name of a type."""
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    return value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    return _DECODERS[kind](text)


_DECODERS: Mapping[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
}
