"""What the readers of databases share: which rows to read, where, and within which limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from exchange.connect import Misconfigured, Text

if TYPE_CHECKING:
    import polars as pl

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Arrow bytes of one frame."""
ZONE = timezone(timedelta(hours=8))
"""The offset of every session, and of every time that has none of its own."""

Position = tuple[Any, ...]
"""A row's values in the columns of the order, exactly as they can be compared again."""


class Rows(Enum):
    """Which rows to read, by their value in the first column of the order."""

    ALL = "all"
    TIMELY = "timely"
    """A value that can be ordered, not beyond the database's clock."""
    ODD = "odd"
    """All others: NULL, infinite, impossible, of another form, or beyond the clock; and rows
    with NULL in another column of the order."""
    UNPLACED = "unplaced"
    """NULL in some column of the order."""


@dataclass(frozen=True, slots=True)
class Want:
    """Which rows to read, decided without I/O; a reader spells it in its own SQL.

    ``since``, ``floor``: rows whose value in the first column of ``order`` is that or more.
    ``after``,
    ``upto``: rows behind, and at or before, a position. ``settled``: see :class:`Horizon`.
    All that are given hold together.
    """

    order: tuple[str, ...] = ()
    rows: Rows = Rows.ALL
    since: Any = None
    floor: Any = None
    after: Position | None = None
    upto: Position | None = None
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class Horizon:
    """Which transactions were running when ours began; numbers of 64 bits.

    All below ``oldest`` have ended, and none that is still to come is below ``following``.
    What they wrote is **settled**: no row like it can appear any more.
    """

    oldest: int
    following: int
    server: str = ""
    """Identity of the server, where it tells: numbers of another one mean nothing."""
    holder: str = ""
    """Which transaction is the oldest, in words; empty where none is running."""
    age: int | None = None
    """For how many seconds it has been running, where we may know."""

    def settled(self, since: int | None = None) -> Settled:
        """Return the rows that are settled; of those only what was not at ``since``."""
        return Settled(since, self.oldest, self.following)


@dataclass(frozen=True, slots=True)
class Settled:
    """Rows by the number of the transaction that wrote them.

    ``since`` (None: any) is the least number; ``oldest`` and ``following`` are those of a
    :class:`Horizon`.
    """

    since: int | None
    oldest: int
    following: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A frame, and the exact position of each of its rows.

    ``null`` names a column of the order that holds NULL in some row.
    """

    frame: pl.DataFrame
    position: Callable[[int], Position]
    null: str | None = None

    def last(self) -> Position:
        """Return the position of the last row."""
        return self.position(self.frame.height - 1)


class TableReader(Protocol):
    """An open read-only transaction on one table or query."""

    columns: tuple[str, ...]
    """Columns of the table or query, in order."""
    key: tuple[str, ...]
    """Its primary key; empty when there is none or it is a query."""
    clock: datetime | None
    """The database's clock at :data:`ZONE`, without an offset; None where it is not known."""

    def read(self, want: Want, columns: Sequence[str]) -> Iterator[Chunk]:
        """Stream chunks in order; always the same types for the same table."""

    def horizon(self) -> Horizon | None:
        """Tell which transactions are running; None where rows do not tell who wrote them."""

    def numeric(self, column: str) -> bool:
        """Whether a column that comes as text holds numbers."""

    def earlier(self, column: str, value: Any, overlap: float) -> Any:
        """Return a position's value moved back by ``overlap``; raises Misconfigured."""

    def exact(self, column: str, text: str) -> Any:
        """Return what a person wrote as a value of the column; raises Misconfigured."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to read and within which limits; seconds."""

    url: str = field(repr=False)
    table: str | None
    query: str | None
    base: Path
    batch_rows: int
    connect_seconds: int
    statement_seconds: int
    condition: str | None = None
    """The department's own condition; it holds for whatever is read."""
    lock_seconds: int = 60

    @property
    def locator(self) -> str:
        """Name the place within the source."""
        return self.table or "query"


def check_zone(shown: Any) -> None:
    """Refuse a session that does not show 1970-01-01T00:00Z at :data:`ZONE`."""
    if str(shown)[:19] != "1970-01-01 08:00:00":
        raise Misconfigured(
            Text(
                f"数据库会话的时区无法设为 +08:00：1970-01-01T00:00Z 显示为 {shown}",
                f"the session's time zone cannot be set to +08:00: it shows "
                f"1970-01-01T00:00Z as {shown}",
            ),
            hint=Text(
                "请去掉地址或数据库角色中改变时区的设置",
                "drop what sets a time zone in the address or for the database role",
            ),
        )


def shift(value: Any, overlap: float) -> Any:
    """Return ``value`` moved back by ``overlap``: seconds of a time, difference of a number.

    Raises Misconfigured where that has no meaning.
    """
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
    except (TypeError, ValueError, OverflowError) as error:
        raise Misconfigured(
            Text(
                f"增量列的值 {value!r} 不是时间或数字，不能使用 overlap",
                f"the cursor value {value!r} is no time or number: overlap has no meaning",
            ),
            hint=Text("请去掉 overlap", "drop overlap"),
        ) from error
    # Text compares as text: keep the separator, and drop the fraction, which only widens.
    return moved.isoformat(sep=" " if " " in value else "T", timespec="seconds")


def number(column: str, text: str) -> Decimal:
    """Read a number that a person wrote; raises Misconfigured."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise unfit(column, text) from error
    if not value.is_finite():
        raise unfit(column, text)
    return value


def unfit(column: str, text: str) -> Misconfigured:
    """Say that a text is no value of a column."""
    return Misconfigured(
        Text(f"{text!r} 不是列 {column} 的值", f"{text!r} is no value of the column {column}"),
        hint=Text(
            "时间写成 2026-11-01 或 2026-11-01 08:00:00，数字写成数字",
            "write a time as 2026-11-01 or 2026-11-01 08:00:00, a number as a number",
        ),
    )


def changed(column: str) -> Misconfigured:
    """Say that a remembered position is no value of a column any more."""
    return Misconfigured(
        Text(
            f"列 {column} 的类型已变，游标中的值不再适用",
            f"the type of the column {column} has changed: the value in the cursor fits no more",
        ),
        hint=Text(
            "从头读取：exchange source rewind 数据源 --to-beginning --apply",
            "read from the beginning: exchange source rewind SOURCE --to-beginning --apply",
        ),
    )


def plain_query(query: str | None) -> str | None:
    """Return a query as it can stand in brackets: no semicolon at its end, a line end behind it."""
    return None if query is None else query.rstrip("; \t\r\n") + "\n"
