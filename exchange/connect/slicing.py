"""Cut frames so that each piece stays within rows and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl


def slices(
    frame: pl.DataFrame, max_rows: int = 8_192, max_bytes: int = 900_000
) -> Iterator[pl.DataFrame]:
    """Yield ``frame`` in order, in pieces of at most ``max_rows`` and about ``max_bytes``.

    Bytes are Arrow bytes in memory, an upper estimate of a compressed message. A piece that is
    too heavy is halved, so one heavy record shrinks its own piece only; a single record
    heavier than ``max_bytes`` comes alone. Pieces are of equal size, without a small last one.
    """
    pieces = max(1, -(-frame.height // max_rows))
    size = max(1, -(-frame.height // pieces))
    todo = [(at, min(size, frame.height - at)) for at in range(0, frame.height, size)]
    todo.reverse()
    while todo:
        start, rows = todo.pop()
        piece = frame.slice(start, rows)
        if rows == 1 or piece.estimated_size() <= max_bytes:
            yield piece
        else:
            half = rows // 2
            todo += [(start + half, rows - half), (start, half)]
