"""Look over the bytes of a text column at memory speed, before any check looks at its values.

Nearly all columns have neither blank cells nor control characters; finding that out here costs
a fifth of asking each value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

BLANK: Final = " \t\r\n\v\f\u00a0\u3000"
"""What a cell may consist of and still be empty."""

Bytes = npt.NDArray[np.uint8]

_SPACE = 0x20
_DELETE = 0x7F
_C1 = 0xC2
"""First byte of U+0080 to U+00BF, among them the C1 control characters."""
_BOM = b"\xef\xbb\xbf"
_STARTS_BLANK = np.zeros(256, dtype=np.bool_)
_STARTS_BLANK[[character.encode()[0] for character in BLANK]] = True


@dataclass(frozen=True, slots=True)
class ScreenedColumn:
    """A column without blank cells, and whether it may hold control characters."""

    values: pl.Series
    controls: bool
    """False is certain; true asks for a closer look."""


def screen(values: pl.Series) -> ScreenedColumn:
    """Null the cells of a String column that are empty or nothing but blanks; trim nothing."""
    _, offsets, buffer = values.to_arrow().buffers()
    if offsets is None or buffer is None:
        data = np.zeros(0, dtype=np.uint8)
        suspects = np.arange(len(values))
    else:
        data = np.frombuffer(buffer, dtype=np.uint8)
        suspects = _suspects(np.frombuffer(offsets, dtype=np.int64)[: len(values) + 1], data)
    if suspects.size > values.null_count():
        cells = values.gather(suspects)
        blank = (cells.str.strip_chars(BLANK) == "").fill_null(value=False)
        if blank.any():
            values = values.scatter(suspects[blank.to_numpy()], None)
    return ScreenedColumn(values, controls=data.size > 0 and _may_hold_controls(data))


def _suspects(offsets: npt.NDArray[np.int64], data: Bytes) -> npt.NDArray[np.intp]:
    """Return the cells that are empty (nulls are) or begin with what may be a blank."""
    begins, ends = offsets[:-1], offsets[1:]
    empty = begins == ends
    if data.size and (int(data.min()) <= _SPACE or int(data.max()) >= _C1):
        empty |= _STARTS_BLANK[data[np.minimum(begins, data.size - 1)]]
    return np.flatnonzero(empty)


def _may_hold_controls(data: Bytes) -> bool:
    least, most = int(data.min()), int(data.max())
    if most <= _DELETE:
        return least < _SPACE or most == _DELETE
    return (
        least < _SPACE
        or bool((data == _DELETE).any())
        or bool((data == _C1).any())
        or _holds(data, _BOM)
    )


def _holds(data: Bytes, mark: bytes) -> bool:
    """Tell whether three bytes stand in a row; ten times faster here than ``mark in data``."""
    first = np.flatnonzero(data[:-2] == mark[0])
    return bool(((data[first + 1] == mark[1]) & (data[first + 2] == mark[2])).any())
