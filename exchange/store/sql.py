"""Portable SQL helpers: what other databases do with RETURNING and ON CONFLICT."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import and_, bindparam, insert, select, tuple_
from sqlalchemy.exc import IntegrityError

from exchange.errors import Integrity, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import ColumnElement, Connection, Row, Table
    from sqlalchemy.sql.elements import Label

CHUNK = 200
"""Rows per statement with a list of keys, far below every database's limit of parameters."""
T = TypeVar("T")


class Lender(Protocol):
    """Lends connections (:class:`exchange.store.database.Transactions`)."""

    where: str

    def read(self) -> AbstractContextManager[Connection]:
        """Lend a connection for reading."""

    def write(self) -> AbstractContextManager[Connection]:
        """Lend a connection for one write transaction."""


class Stale(Transient):
    """Another worker changed the row meanwhile; read it again and decide again."""


def stale(what: str) -> Stale:
    """Say that ``what`` was changed by another worker."""
    return Stale(
        Text(f"{what} 已被其他工作者修改", f"{what} was changed by another worker"),
        hint=Text("重新读取后再决定", "read it again and decide again"),
    )


def contradiction(what: str) -> Integrity:
    """Say that ``what`` exists already with other contents."""
    return Integrity(
        Text(f"{what} 已存在,且内容不同", f"{what} exists already, with other contents"),
        hint=Text(
            "停止该资源,核对日志中的两个版本",
            "stop this resource and compare both versions in the log",
        ),
    )


def columns(table: Table, names: Mapping[str, str]) -> list[Label[Any]]:
    """Select the columns under the names of a dataclass's fields."""
    return [table.c[column].label(field) for field, column in names.items()]


def values(row: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Take a dataclass apart into column values."""
    return {names[f.name]: getattr(row, f.name) for f in fields(row) if f.name in names}


def made(kind: type[T], row: Row[Any]) -> T:
    """Put a dataclass together from a result row."""
    return kind(**row._mapping)  # noqa: SLF001 - the documented way to a row by names


def matches(table: Table, key: Sequence[str], value: Sequence[Any]) -> ColumnElement[bool]:
    """Compare the key columns with one key."""
    return and_(*(table.c[name] == part for name, part in zip(key, value, strict=True)))


def keyed(table: Table, key: Sequence[str]) -> ColumnElement[bool]:
    """Compare the key columns with parameters, which :func:`at` fills in.

    A statement that is made once costs half of one that is made for every row.
    """
    return and_(*(table.c[name] == bindparam(f"at_{name}") for name in key))


def at(key: Sequence[str], value: Sequence[Any]) -> dict[str, Any]:
    """Fill in the parameters of :func:`keyed`."""
    return {f"at_{name}": part for name, part in zip(key, value, strict=True)}


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], key: Sequence[str]
) -> set[tuple[Any, ...]]:
    """Insert the rows whose key is not there yet; return the keys that were there.

    A row that another transaction commits between look and insert is found by a second look;
    IntegrityError remains for a clash of another key.
    """
    known: set[tuple[Any, ...]] = set()
    for start in range(0, len(rows), CHUNK):
        part = {tuple(row[name] for name in key): row for row in rows[start : start + CHUNK]}
        wanted = [table.c[name] for name in key]
        for last_try in (False, False, True):
            there = {tuple(row) for row in select_keys(connection, table, wanted, key, list(part))}
            missing = [row for value, row in part.items() if value not in there]
            try:
                if missing:
                    with connection.begin_nested():
                        connection.execute(insert(table), missing)
            except IntegrityError:
                if last_try:
                    raise
            else:
                known |= there
                break
    return known


def select_keys(
    connection: Connection,
    table: Table,
    wanted: Sequence[ColumnElement[Any]],
    key: Sequence[str],
    keys: Sequence[tuple[Any, ...]],
) -> Iterator[Row[Any]]:
    """Select the rows with one of the keys, in statements of bounded size."""
    key_columns = tuple_(*(table.c[name] for name in key))
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        yield from connection.execute(select(*wanted).where(key_columns.in_(part)))
