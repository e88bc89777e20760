"""Frames to Avro records and back, a column at a time (polars, pyarrow, numpy).

Encoding: what stands between two texts (tags of unions, lengths, numbers, dates) is laid out as
one byte matrix with a mask of the bytes that are really written; masking it gives a binary
column. Arrow then joins these columns and the texts row by row in one pass and thereby also
yields the boundaries of the records. The bytes are those of ``fastavro.schemaless_writer``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from exchange.errors import Rejected
from exchange.seal.batch.avro import (
    OPERATIONS,
    RANGES,
    Bytes,
    Cells,
    Column,
    Ints,
    Kind,
    Mask,
    Schema,
    Words,
    decimal_sizes,
    magnitude,
    walk,
)
from exchange.text import Text

_ARROW = pl.CompatLevel.oldest()  # texts with 64-bit offsets, not views
_DTYPES = {
    Kind.OPERATION: pl.Enum(OPERATIONS),
    Kind.STRING: pl.String(),
    Kind.LONG: pl.Int64(),
    Kind.DATE: pl.Date(),
    Kind.TIMESTAMP: pl.Datetime("ms", "UTC"),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.DOUBLE: pl.Float64(),
}
_NOTHING = pa.scalar(b"", pa.large_binary())


@dataclass(frozen=True)
class Encoded:
    """Records end to end; record i is ``data[offsets[i]:offsets[i + 1]]``, offsets[0] is 0."""

    schema: Schema
    data: memoryview
    offsets: Ints

    @property
    def rows(self) -> int:
        """How many records."""
        return len(self.offsets) - 1

    @cached_property
    def operations(self) -> tuple[int, int, int]:
        """Count inserts, updates, deletes: the first byte of a record is 0, 2 or 4."""
        first = np.frombuffer(self.data, np.uint8)[self.offsets[:-1]]
        inserts, updates, deletes = np.bincount(first >> 1, minlength=3).tolist()
        return inserts, updates, deletes

    def slice(self, start: int, end: int) -> Encoded:
        """Return records ``start`` to ``end`` (not included) without copying their bytes."""
        offsets = self.offsets[start : end + 1]
        return Encoded(self.schema, self.data[offsets[0] : offsets[-1]], offsets - offsets[0])


def frame_schema(schema: Schema) -> dict[str, pl.DataType]:
    """Return names and types of the frames that :func:`encode` takes and :func:`decode` gives."""
    return {column.name: _dtype(column) for column in schema.columns}


def _dtype(column: Column) -> pl.DataType:
    if column.kind is Kind.DECIMAL:
        return pl.Decimal(column.precision, column.scale)
    return _DTYPES[column.kind]


def encode(frame: pl.DataFrame, schema: Schema) -> Encoded:
    """Write a frame as Avro records.

    The frame has exactly the columns and types of :func:`frame_schema` (the operation may also
    be String). Raises Rejected for another column, type, a missing required value or a value
    out of range: validation lets none of these pass.
    """
    expected = frame_schema(schema)
    if frame.columns != list(expected):
        raise _refused("/".join(frame.columns), f"expected the columns {'/'.join(expected)}")
    layout = _Layout(frame.height)
    for column, series in zip(schema.columns, frame.iter_columns(), strict=True):
        layout.add(column, _typed(series, column))
    joined = pc.binary_join_element_wise(
        *layout.parts(), _NOTHING, null_handling="replace", null_replacement=b""
    )
    _, offsets, data = joined.buffers()
    boundaries = np.frombuffer(offsets, np.int64, frame.height + 1)
    return Encoded(schema, memoryview(data).cast("B")[: boundaries[-1]], boundaries)


def _refused(field: str, why: str) -> Rejected:
    return Rejected(
        Text(f"无法编码字段 {field[:200]}:{why}", f"cannot encode field {field[:200]}: {why}"),
        hint=Text("只能封装通过校验的数据", "only validated frames can be sealed"),
    )


def _typed(series: pl.Series, column: Column) -> pa.Array:
    expected = _dtype(column)
    if column.kind is Kind.OPERATION:
        try:
            series = series.cast(expected).to_physical()
        except pl.exceptions.PolarsError as error:
            raise _refused(column.name, "an operation is I, U or D") from error
    elif series.dtype != expected:
        raise _refused(column.name, f"expected {expected}, found {series.dtype}")
    if not column.nullable and series.null_count():
        raise _refused(column.name, "a required value is missing")
    return series.to_arrow(compat_level=_ARROW)


class _Layout:
    """Collects byte matrices until a text comes, then packs them into one binary column."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.pieces: list[tuple[Bytes, Mask | None]] = []
        self.sizes: Ints = np.zeros(rows, np.int64)
        self.packed: list[pa.Array] = []

    def parts(self) -> list[pa.Array]:
        self.pack()
        return self.packed

    def add(self, column: Column, array: pa.Array) -> None:
        present = _present(array)
        if column.nullable:
            ones = np.ones(self.rows, np.uint8) if present is None else present.view(np.uint8)
            self.put(ones[:, None] * 2)
        match column.kind:
            case Kind.STRING:
                self.string(array, present)
            case Kind.DECIMAL:
                self.decimal(array, present)
            case Kind.DOUBLE:
                numbers = _values(array, np.float64).astype("<f8")
                self.put(numbers.view(np.uint8).reshape(-1, 8), present=present)
            case Kind.BOOLEAN:
                self.put(_bits(array, array.buffers()[1])[:, None], present=present)
            case Kind.OPERATION:
                self.put(array.to_numpy().astype(np.uint8)[:, None] * 2)
            case Kind.LONG | Kind.DATE | Kind.TIMESTAMP:
                self.integer(column, array, present)

    def put(
        self,
        matrix: Bytes,
        sizes: Bytes | None = None,
        *,
        right: bool = False,
        present: Mask | None = None,
    ) -> None:
        """Append the first (or last) ``sizes`` bytes of each row, where it is ``present``."""
        width = matrix.shape[1]
        if present is not None:
            sizes = (np.uint8(width) if sizes is None else sizes) * present
        if sizes is None:
            mask = None
            self.sizes += width
        else:
            order = np.arange(width, dtype=np.uint8)
            mask = (order[::-1] if right else order) < sizes[:, None]
            self.sizes += sizes
        self.pieces.append((matrix, mask))

    def varint(self, unsigned: Words, present: Mask | None) -> None:
        """Append integers in groups of seven bits, the least significant first."""
        width = max(1, -(-int(unsigned.max(initial=0)).bit_length() // 7))
        matrix = np.empty((self.rows, width), np.uint8)
        sizes = np.ones(self.rows, np.uint8)
        for i in range(width - 1):
            more = unsigned > 0x7F  # noqa: PLR2004
            matrix[:, i] = (unsigned & np.uint64(0x7F)) | (more.view(np.uint8) << 7)
            sizes += more
            unsigned = unsigned >> np.uint64(7)
        matrix[:, -1] = unsigned
        self.put(matrix, None if width == 1 else sizes, present=present)

    def integer(self, column: Column, array: pa.Array, present: Mask | None) -> None:
        values = _values(array, np.int32 if column.kind is Kind.DATE else np.int64).astype(np.int64)
        if present is not None:
            values *= present
        least, most = RANGES[column.kind]
        if self.rows and (values.min() < least or values.max() > most):
            raise _refused(column.name, "a value is out of range")
        zigzag = (values << 1) ^ (values >> 63)
        self.varint(zigzag.view(np.uint64), present)

    def string(self, array: pa.Array, present: Mask | None) -> None:
        offsets = np.frombuffer(array.buffers()[1], np.int64)
        lengths = np.diff(offsets[array.offset : array.offset + self.rows + 1])
        self.varint((lengths << 1).view(np.uint64), present)
        self.pack()
        self.packed.append(array.cast(pa.large_binary()))

    def decimal(self, array: pa.Array, present: Mask | None) -> None:
        words = _values(array, np.dtype("V16")).view(np.uint64).reshape(-1, 2)
        if present is not None:
            words = words * present[:, None]
        sizes = decimal_sizes(*magnitude(words[:, 0], words[:, 1].view(np.int64)))
        self.put(sizes[:, None] * 2, present=present)
        width = int(sizes.max(initial=1))
        matrix = words[:, ::-1].astype(">u8").view(np.uint8)[:, 16 - width :]
        self.put(matrix, sizes, right=True, present=present)

    def pack(self) -> None:
        if not self.pieces:
            return
        matrix = np.concatenate([matrix for matrix, _ in self.pieces], axis=1)
        mask = np.ones(matrix.shape, bool)
        at = 0
        for piece, kept in self.pieces:
            if kept is not None:
                mask[:, at : at + piece.shape[1]] = kept
            at += piece.shape[1]
        offsets = np.zeros(self.rows + 1, np.int64)
        np.cumsum(self.sizes, out=offsets[1:])
        self.packed.append(_binary(offsets, matrix[mask]))
        self.pieces.clear()
        self.sizes[:] = 0


def _present(array: pa.Array) -> Mask | None:
    return _bits(array, array.buffers()[0]).view(np.bool_) if array.null_count else None


def _bits(array: pa.Array, buffer: pa.Buffer) -> Bytes:
    """Unpack an Arrow bitmap into bytes 0 and 1."""
    packed = np.frombuffer(buffer, np.uint8)
    return np.unpackbits(packed, bitorder="little", count=array.offset + len(array))[array.offset :]


def _values(array: pa.Array, dtype: type[np.generic] | np.dtype[np.void]) -> NDArray[Any]:
    """Look at the fixed-width values of an Arrow array; where it is null they mean nothing."""
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def _binary(offsets: Ints, data: Bytes | memoryview) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def decode(data: bytes, offsets: Ints, schema: Schema) -> pl.DataFrame:
    """Read records as a frame of :func:`frame_schema`; raises Malformed (a ValueError)."""
    columns = list(walk(data, offsets, schema))
    return pl.DataFrame({cells.column.name: _series(data, cells) for cells in columns})


def _series(data: bytes, cells: Cells) -> pl.Series:
    column, dtype = cells.column, _dtype(cells.column)
    match column.kind:
        case Kind.STRING:
            series = pl.Series(_texts(data, cells))
        case Kind.DECIMAL:
            words = pa.py_buffer(np.ascontiguousarray(cells.values))
            kind = pa.decimal128(column.precision, column.scale)
            series = pl.Series(pa.Array.from_buffers(kind, len(cells.start), [None, words]))
        case Kind.DOUBLE:
            series = pl.Series(cells.values.view(np.float64))
        case Kind.OPERATION:
            series = pl.Series(OPERATIONS, dtype=dtype).gather(cells.values)
        case Kind.BOOLEAN:
            series = pl.Series(cells.values == 1)
        case Kind.LONG | Kind.DATE | Kind.TIMESTAMP:
            series = pl.Series(cells.values)
    if cells.present is not None:
        nothing = pl.Series([None], dtype=series.dtype)
        series = series.zip_with(pl.Series(cells.present), nothing)
    if column.kind is Kind.DATE:
        series = series.cast(pl.Int32)
    return series.cast(dtype).alias(column.name)


def _texts(data: bytes, cells: Cells) -> pa.Array:
    """Cut the texts out: fields and the gaps between them, without copying; then each field."""
    boundaries = np.full(2 * len(cells.start) + 1, len(data))
    boundaries[0:-1:2], boundaries[1::2] = cells.start, cells.end
    pieces = _binary(boundaries, memoryview(data))
    return pieces.take(pa.array(np.arange(0, len(pieces), 2))).cast(pa.large_string())
