"""Check digits of whole columns: numpy over the bytes, about 0.05 µs a value.

Each kernel answers what its namesake in :mod:`exchange.catalog.identifiers` answers for one
value (property-tested), as a boolean array that is False for nulls. Column by position: a
column of 18-byte strings is read as a matrix n × 18; a string of any other length is no row
of it and fails, so that full-width digits and missing characters need no check of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.catalog.identifiers import (
    LICENCE_ID_PATTERN,
    LICENCE_ID_ROOT,
    ORGANISATION_ALPHABET,
    ORGANISATION_WEIGHTS,
    RESIDENT_ID_CHECKS,
    RESIDENT_ID_WEIGHTS,
    USCC_ALPHABET,
    USCC_WEIGHTS,
)

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_FOREIGN: Final = 255
"""Value of a byte that is no character of the alphabet."""
_DAYS: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.uint8)


def _values(alphabet: str) -> bytes:
    """Map each byte to its index in ``alphabet``, as a table for :meth:`bytes.translate`."""
    table = bytearray([_FOREIGN]) * 256
    for index, character in enumerate(alphabet.encode()):
        table[character] = index
    return bytes(table)


_USCC: Final = _values(USCC_ALPHABET)
_ORGANISATION: Final = _values(ORGANISATION_ALPHABET)
_DIGIT: Final = _values(ORGANISATION_ALPHABET[:10])
_USCC_CHECKS: Final = np.array([-total % 31 for total in range(31)], dtype=np.uint8)
_ORGANISATION_CHECKS: Final = np.frombuffer(b"0X987654321", dtype=np.uint8)
_RESIDENT_CHECKS: Final = np.frombuffer(RESIDENT_ID_CHECKS.encode(), dtype=np.uint8)


def _matrix(values: pl.Series, width: int) -> tuple[Bytes, Flags]:
    """Return the bytes by position (width × n; zeros elsewhere) and who has ``width`` bytes."""
    cells = values.cast(pl.Binary).bin.reinterpret(dtype=pl.Array(pl.UInt8, width))
    flat = cells.rechunk().to_arrow()
    start = flat.offset * width
    matrix = np.frombuffer(flat.values.buffers()[1], dtype=np.uint8)
    matrix = matrix[start : start + len(values) * width].reshape(-1, width)
    return np.ascontiguousarray(matrix.T), cells.is_not_null().to_numpy()


def _look_up(table: bytes, code: Bytes) -> Bytes:
    """Put each byte through ``table``: four times faster than indexing an array by an array."""
    return np.frombuffer(code.tobytes().translate(table), dtype=np.uint8).reshape(code.shape)


def _weighted(rows: Bytes, weights: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """Add up rows times weights; 17 values below 36 with weights below 31 fit in 16 bits."""
    total = np.zeros(rows.shape[1], dtype=np.uint16)
    for row, weight in zip(rows, weights, strict=True):
        total += row * np.uint16(weight)
    return total


def uscc(values: pl.Series) -> Flags:
    """Tell which are unified social credit codes: GB 32100 and the GB 11714 inner digit."""
    if values.is_empty():
        return np.zeros(0, dtype=np.bool_)
    code, good = _matrix(values, 18)
    index = _look_up(_USCC, code)
    good = good & (index.max(axis=0) != _FOREIGN)
    organisation = _weighted(_look_up(_ORGANISATION, code[8:16]), ORGANISATION_WEIGHTS) % 11
    good &= code[16] == _ORGANISATION_CHECKS[organisation]
    good &= index[17] == _USCC_CHECKS[_weighted(index[:17], USCC_WEIGHTS) % 31]
    placeholder = (code[1:17] == code[0]).all(axis=0) | (code[8:16] == ord("0")).all(axis=0)
    return np.asarray(good & ~placeholder)


def resident_id(values: pl.Series) -> Flags:
    """Tell which are citizen numbers: shape, a real birth date of 1800–2099, GB 11643 digit."""
    if values.is_empty():
        return np.zeros(0, dtype=np.bool_)
    code, good = _matrix(values, 18)
    digit = _look_up(_DIGIT, code[:17])
    good = good & (digit.max(axis=0) != _FOREIGN) & (digit[0] != 0)
    year = _weighted(digit[6:10], (1000, 100, 10, 1))
    month = digit[10] * np.uint8(10) + digit[11]
    day = digit[12] * np.uint8(10) + digit[13]
    good &= (year >= 1800) & (year < 2100) & (month >= 1) & (month <= 12)  # noqa: PLR2004 - years
    good &= (day >= 1) & (day <= _DAYS[np.minimum(month, 12)])
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= leap | (month != 2) | (day != 29)  # noqa: PLR2004 - 29 February
    check = _RESIDENT_CHECKS[_weighted(digit, RESIDENT_ID_WEIGHTS) % 11]
    return np.asarray(good & (code[17] == check))


def licence_id(values: pl.Series) -> Flags:
    """Tell which are licence numbers (证照标识): shape, and ISO 7064 MOD 37,36 over the body."""
    good = values.str.contains(LICENCE_ID_PATTERN).fill_null(value=False).to_numpy().copy()
    rows = np.flatnonzero(good)
    if rows.size == 0:
        return good
    body = values.gather(rows).str.slice(len(LICENCE_ID_ROOT))
    body = body.str.replace_all(".", "", literal=True)
    lengths = body.str.len_bytes().to_numpy()
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        characters, _ = _matrix(body.gather(same), int(length))
        index = _look_up(_ORGANISATION, characters).astype(np.uint16)
        state = np.full(same.size, 36, dtype=np.uint16)
        for row in index[:-1]:
            state = (state + row) % 36
            state = np.where(state == 0, 36, state) * 2 % 37
        good[rows[same]] = index[-1] == (37 - state) % 36
    return good


KERNELS: Final[Mapping[str, Callable[[pl.Series], Flags]]] = {
    "uscc": uscc,
    "resident_id": resident_id,
    "licence_id": licence_id,
}
