"""Tables from dataclasses, and portable SQL: what others do with RETURNING and ON CONFLICT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Protocol,
    TypeVar,
    get_origin,
    get_type_hints,
)

from sqlalchemy import Column, MetaData, Table, and_, bindparam, insert, or_, select, tuple_
from sqlalchemy.exc import IntegrityError

from exchange.errors import Integrity, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import ColumnElement, Connection, Row, Select
    from sqlalchemy.schema import SchemaItem
    from sqlalchemy.types import TypeEngine

metadata = MetaData()
"""Every table of the store."""
CHUNK = 200
"""Rows per statement with a list of keys, far below every database's limit of parameters."""
PAGE = 1_000
"""Rows of a page."""
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


@dataclass(frozen=True, slots=True)
class Stored:
    """The column of a field: its name, its type, whether it is of the key, or may be NULL.

    Names have at most 30 bytes and are reserved nowhere; no JSONB, arrays, partial indexes,
    sequences or RETURNING (domain.md §10). Keys come from the domain.
    """

    column: str
    type: type[TypeEngine[Any]] | TypeEngine[Any]
    key: bool = False
    null: bool = False


class RowTable(Generic[T]):
    """The table of a dataclass: a column for each field annotated with :class:`Stored`.

    ``c`` has the columns by the names of the fields, which every statement uses.
    """

    def __init__(self, name: str, row: type[T], *constraints: SchemaItem) -> None:
        hints = get_type_hints(row, include_extras=True).items()
        stored = {
            field: hint.__metadata__[0] for field, hint in hints if get_origin(hint) is Annotated
        }
        columns = (
            Column(
                *(place.column, place.type),
                key=field,
                primary_key=place.key,
                nullable=place.null,
                autoincrement=False,
            )
            for field, place in stored.items()
        )
        self.table = Table(name, metadata, *columns, *constraints)
        self.c = self.table.c
        self.key = tuple(field for field, place in stored.items() if place.key)
        self.columns = [column.label(column.key) for column in self.c]
        self.has_key = and_(*(self.c[field] == bindparam(f"key_{field}") for field in self.key))
        """Compares the key with parameters (:meth:`at`): a statement made once costs half."""
        self._row = row
        self._by_key = select(*self.columns).where(self.has_key)

    def at(self, *key: object) -> dict[str, Any]:
        """Return the parameters of ``has_key``."""
        return {f"key_{field}": part for field, part in zip(self.key, key, strict=True)}

    def values(self, row: T, names: Collection[str] = ()) -> dict[str, Any]:
        """Take a row apart: all fields that have a column, or those of ``names``."""
        return {name: getattr(row, name) for name in names or self.c.keys()}

    def read(self, connection: Connection, query: Select[Any]) -> list[T]:
        """Run a query for ``columns``."""
        return [self._row(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way to a row by names

    def get(self, connection: Connection, *key: object) -> T | None:
        """Find the row of a key."""
        row = connection.execute(self._by_key, self.at(*key)).one_or_none()
        return None if row is None else self._row(**row._mapping)  # noqa: SLF001

    def page(
        self, connection: Connection, after: tuple[object, ...], *where: ColumnElement[bool]
    ) -> list[T]:
        """Read the next rows behind a key (``()``: from the first), in the order of the key."""
        keys = [self.c[field] for field in self.key]
        query = select(*self.columns).where(*where)
        if after:
            behind = (
                and_(*(keys[k] == after[k] for k in range(n)), keys[n] > after[n])
                for n in range(len(after))
            )
            query = query.where(or_(*behind))
        return self.read(connection, query.order_by(*keys).limit(PAGE))

    def insert_missing(self, connection: Connection, rows: Sequence[T]) -> set[tuple[Any, ...]]:
        """Insert the rows whose key is not there yet; return the keys that were there.

        A row that another transaction commits between look and insert shows at a second look;
        IntegrityError remains for a clash of another key.
        """
        known: set[tuple[Any, ...]] = set()
        wanted = [self.c[field] for field in self.key]
        for start in range(0, len(rows), CHUNK):
            part = {tuple(getattr(row, f) for f in self.key): row for row in rows[start:][:CHUNK]}
            for last_try in (False, False, True):
                there = {tuple(row) for row in self.select_keys(connection, wanted, list(part))}
                missing = [self.values(row) for key, row in part.items() if key not in there]
                try:
                    if missing:
                        with connection.begin_nested():
                            connection.execute(insert(self.table), missing)
                except IntegrityError:
                    if last_try:
                        raise
                else:
                    known |= there
                    break
        return known

    def select_keys(
        self,
        connection: Connection,
        wanted: Sequence[ColumnElement[Any]],
        keys: Sequence[tuple[Any, ...]],
    ) -> Iterator[Row[Any]]:
        """Select the rows with one of the keys, in statements of bounded size."""
        key = tuple_(*(self.c[field] for field in self.key))
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            yield from connection.execute(select(*wanted).where(key.in_(part)))
