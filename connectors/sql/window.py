"""The stretch of rows that the next pull reads again: hashes of what was delivered in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import polars as pl

from exchange.connect import Misconfigured
from exchange.connectors.sql.cursor import Hashes, nothing, row_hashes
from exchange.connectors.sql.reader import Chunk, Position, shift

MAX_WINDOW_ROWS = 16_384
"""Rows remembered in a cursor (8 bytes each): read again, and without a place in the order."""


USUAL_SECONDS = 600
USUAL_NUMBERS = 1_000


def usual_overlap(value: Any) -> float:
    """Return how far below a value late rows are looked for where nobody says: see ``overlap``.

    0 for what is neither a time nor a number.
    """
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float | Decimal):
        return USUAL_NUMBERS
    try:
        shift(value, USUAL_SECONDS)
    except Misconfigured:
        return 0
    return USUAL_SECONDS


@dataclass(frozen=True, slots=True)
class _Piece:
    """The rows of a chunk from ``start`` on."""

    chunk: Chunk
    start: int
    values: pl.Series
    hashes: Hashes

    def cut(self, count: int) -> _Piece:
        return _Piece(self.chunk, self.start + count, self.values[count:], self.hashes[count:])


@dataclass(slots=True)
class Window:
    """The last rows in order: those with the last value, or within ``overlap`` below it.

    ``overlap`` None: as far as is usual for the column's type, see :func:`usual_overlap`.

    ``numeric``: the column's text is that of a number, and compares as one. ``low`` is the
    position behind which it begins, where it had to be cut to MAX_WINDOW_ROWS.
    """

    names: Sequence[str]
    column: str
    overlap: float | None
    numeric: bool = False
    low: Position | None = None
    _pieces: list[_Piece] = field(default_factory=list)

    @property
    def hashes(self) -> Hashes:
        """The hashes of its rows."""
        import numpy as np

        found = [piece.hashes for piece in self._pieces]
        return np.concatenate(found) if found else nothing()

    def take(self, chunk: Chunk, hashes: Hashes) -> None:
        """Add all rows of a chunk, hashed already, whatever their values."""
        values = self._values(chunk.frame)
        self._pieces.append(_Piece(chunk, 0, values, hashes))
        self._limit()

    def slide(self, chunk: Chunk) -> None:
        """Move on to the rows of a chunk behind it; hash only those that stay."""
        values = self._values(chunk.frame)
        least = self._least(values)
        start = _suffix(values, least, equal=not self._reach(values))
        if start:
            self._pieces, self.low = [], None
        else:
            self._drop(least)
        hashes = row_hashes(chunk.frame[start:], self.names)
        self._pieces.append(_Piece(chunk, start, values[start:], hashes))
        self._limit()

    def _values(self, frame: pl.DataFrame) -> pl.Series:
        values = frame[self.column]
        if self.numeric and values.dtype == pl.String:
            return values.cast(pl.Float64, strict=False)
        return values

    def _least(self, values: pl.Series) -> Any:
        """Return the least value that stays."""
        present = values.drop_nulls()
        if present.is_empty():
            return None
        reach = self._reach(present)
        return shift(present[-1], reach) if reach else present[-1]

    def _reach(self, values: pl.Series) -> float:
        if self.overlap is not None:
            return self.overlap
        present = values.drop_nulls()
        return 0 if present.is_empty() else usual_overlap(present[-1])

    def _drop(self, least: Any) -> None:
        """Drop the rows before ``least``."""
        kept: list[_Piece] = []
        for piece in reversed(self._pieces):
            start = _suffix(piece.values, least, equal=not self._reach(piece.values))
            if start < len(piece.values):
                kept.append(piece.cut(start))
            if start:
                self.low = None
                break
        self._pieces = kept[::-1]

    def _limit(self) -> None:
        """Keep the newest MAX_WINDOW_ROWS."""
        over = sum(len(piece.hashes) for piece in self._pieces) - MAX_WINDOW_ROWS
        while over > 0:
            piece = self._pieces[0]
            count = min(over, len(piece.hashes))
            self.low = piece.chunk.position(piece.start + count - 1)
            self._pieces[0] = piece.cut(count)
            if count == len(piece.hashes):
                del self._pieces[0]
            over -= count


def _suffix(values: pl.Series, least: Any, *, equal: bool) -> int:
    """Return from where on the rows stay: equal to ``least``, or not below it, to the end.

    A value that could not be read stays: it has its place in the database's order.
    """
    import numpy as np

    if least is None:
        return 0
    beyond = (values != least) if equal else (values < least)
    places = np.flatnonzero(beyond.fill_null(value=False).to_numpy())
    return int(places[-1]) + 1 if places.size else 0
