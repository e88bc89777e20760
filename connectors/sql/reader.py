"""What the readers of databases share: which rows to read, where, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Arrow bytes of one frame."""


@dataclass(frozen=True, slots=True)
class Want:
    """Which rows to read, decided without I/O; a reader spells it in its own SQL.

    ``after``: rows behind this position of ``order``. ``since``: rows at or above a value of
    the first column of ``order``. ``null``: rows where that column is (or is not) NULL.
    """

    order: tuple[str, ...] = ()
    after: tuple[Any, ...] | None = None
    since: Any = None
    null: bool | None = None


class Reader(Protocol):
    """An open read-only transaction on one table or query."""

    columns: tuple[str, ...]
    """Columns of the table or query, in order."""
    key: tuple[str, ...]
    """Its primary key; empty when there is none or it is a query."""

    def read(self, want: Want, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Stream frames in order; always the same types for the same table."""


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

    @property
    def locator(self) -> str:
        """Name the place within the source."""
        return self.table or "query"
