"""Avro binary of records, read as columns: which bytes are which field of which record.

A batch is the concatenation of its records in Avro binary. Given where the records begin, all
of them are walked at once, field by field, with one vector of positions. If every record of
that walk ends exactly where the next one begins, then by induction a reader that starts at
byte 0 and knows nothing of the boundaries finds the very same ones.

The walk is strict: it accepts the one spelling that fastavro writes (shortest variable-length
integers, shortest decimals, booleans 0 and 1) and only values that fastavro can read back.
``rows`` does the same without numpy, for a verifier that installs small, and ``columns`` writes
and reads frames.

Source: Apache Avro 1.12 specification, "Binary encoding" and "Logical types".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from exchange.seal.batch.schema import (
    MAX_PRECISION,
    OPERATION,
    OPERATIONS,
    RANGES,
    Column,
    Kind,
    Malformed,
    Schema,
    parse_schema,
)

__all__ = [
    "MAX_PRECISION",
    "OPERATION",
    "OPERATIONS",
    "RANGES",
    "Bytes",
    "Cells",
    "Column",
    "Ints",
    "Kind",
    "Malformed",
    "Mask",
    "Schema",
    "Words",
    "add_up",
    "count",
    "decimal_sizes",
    "magnitude",
    "parse_schema",
    "walk",
]

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]
Mask: TypeAlias = NDArray[np.bool_]

_MORE = 0x80  # set in every byte of an integer but its last

_PAD = 16
_SURROGATE, _SURROGATES = 0xD800, 0x800


@dataclass(frozen=True, slots=True)
class Cells:
    """One field of all records: payload bytes ``start``..``end`` and what they mean.

    ``present`` is None for a required field. ``values`` are the integers of an operation (0, 1,
    2), boolean, date (days), timestamp (ms) or long, the size of a text in bytes, the 64 bits of
    a double, and pairs (low word, high word) of a decimal's unscaled value, of shape (n, 2).
    Where a value is absent they mean nothing.
    """

    column: Column
    start: Ints
    end: Ints
    present: Mask | None
    values: Ints


def magnitude(low: Words, high: Ints) -> tuple[Words, Words]:
    """Return the absolute values of 128-bit integers as (low, high) words."""
    negative = high < 0
    absolute = np.where(negative, ~low + np.uint64(1), low)
    above = np.where(negative, ~high + (low == 0), high)
    return absolute, above.view(np.uint64)


def decimal_sizes(low: Words, high: Words) -> Bytes:
    """Count the bytes that fastavro writes for a magnitude: the least n with it < 2**(8n - 1)."""
    sizes = np.ones(len(low), np.uint8)
    for size in range(1, 16):
        bit = 8 * size - 1
        if bit < 64:  # noqa: PLR2004 - bits of a word
            longer = (high > 0) | (low >= np.uint64(1 << bit))
        else:
            longer = high >= np.uint64(1 << bit - 64)
        if not longer.any():
            break
        sizes += longer
    return sizes


def add_up(points: bytes) -> Ints:
    """Return where records begin, and the end, from their lengths as code points (UTF-32-LE)."""
    lengths = np.frombuffer(points, "<u4").astype(np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths - (lengths > _SURROGATE) * _SURROGATES, out=offsets[1:])
    return offsets


def count(data: bytes, offsets: Ints, schema: Schema) -> list[int]:
    """Look at every byte of the records; return how many insert, update and delete."""
    operations, *_ = walk(data, offsets, schema)
    counts: list[int] = np.bincount(operations.values, minlength=len(OPERATIONS)).tolist()
    return counts


def walk(data: bytes, offsets: Ints, schema: Schema) -> Iterator[Cells]:
    """Find every field of every record; raises Malformed at the first that is not there.

    ``offsets`` are the n + 1 boundaries of n records, from 0 to ``len(data)``, not falling.
    The verdict is complete only when the iterator is exhausted.
    """
    yield from _Walk(data, offsets).columns(schema)


class _Walk:
    """The positions reached in all records, and one method per kind of field."""

    def __init__(self, data: bytes, offsets: Ints) -> None:
        # Padding on both sides keeps every look at a fixed width inside the buffer.
        self.data: Bytes = np.zeros(len(data) + 2 * _PAD, np.uint8)
        self.data[_PAD:-_PAD] = np.frombuffer(data, np.uint8)
        self.at: Ints = offsets[:-1] + _PAD
        self.limit: Ints = offsets[1:] + _PAD
        self.edges = np.zeros(-(-len(self.data) // 8) * 8, np.uint8)  # where texts begin and end
        self.field = ""

    def columns(self, schema: Schema) -> Iterator[Cells]:
        for column in schema.columns:
            self.field = column.name
            present = self.tag() if column.nullable else None
            match column.kind:
                case Kind.STRING:
                    cells = self.string(column, present)
                case Kind.DECIMAL:
                    cells = self.decimal(column, present)
                case Kind.DOUBLE:
                    cells = self.double(column, present)
                case Kind.OPERATION | Kind.BOOLEAN:
                    cells = self.small(column, present)
                case Kind.LONG | Kind.DATE | Kind.TIMESTAMP:
                    cells = self.integer(column, present)
            self.refuse(self.at > self.limit, "it runs past the end of the record")
            yield cells
        self.refuse(self.at != self.limit, "bytes are left over after it")
        self.check_text(schema)

    def refuse(self, wrong: Mask, reason: str, present: Mask | None = None) -> None:
        if present is not None:
            wrong = wrong & present
        if wrong.any():
            raise Malformed(int(wrong.argmax()), self.field, reason)

    def tag(self) -> Mask:
        """Read the branch of ``["null", T]``: 0 or, as zigzag of 1, 2."""
        tags = self.data[self.at]
        present: Mask = tags == 2  # noqa: PLR2004
        self.refuse(~present & (tags != 0), "the branch of the union is neither null nor the value")
        self.at = self.at + 1
        return present

    def advance(self, sizes: Ints, present: Mask | None) -> tuple[Ints, Ints]:
        start = self.at
        self.at = start + (sizes if present is None else sizes * present)
        return start - _PAD, self.at - _PAD

    def varint(self, present: Mask | None) -> tuple[Ints, Ints]:
        """Read zigzag integers; return the values and how many bytes they take."""
        byte = self.data[self.at]
        more = byte >= _MORE
        if present is not None:
            more &= present
        unsigned = (byte & 0x7F).astype(np.uint64)
        sizes = np.ones(len(byte), np.int64)
        size = 1
        while more.any():
            last = size == 9  # noqa: PLR2004 - 64 bits are nine groups of seven and one bit
            byte = self.data[self.at + size]
            unsigned |= np.where(more, byte & 0x7F, 0).astype(np.uint64) << np.uint64(7 * size)
            sizes += more
            self.refuse(more & (byte == 0), "an integer is not written in its shortest form")
            self.refuse(more & (byte > (1 if last else 0xFF)), "an integer has more than 64 bits")
            more = more & (byte >= _MORE)
            size += 1
        values = (unsigned >> np.uint64(1)) ^ (~(unsigned & np.uint64(1)) + np.uint64(1))
        return values.view(np.int64), sizes

    def integer(self, column: Column, present: Mask | None) -> Cells:
        values, sizes = self.varint(present)
        least, most = RANGES[column.kind]
        outside = (values < least) | (values > most)
        self.refuse(outside, "the value is out of range", present)
        start, end = self.advance(sizes, present)
        return Cells(column, start, end, present, values)

    def small(self, column: Column, present: Mask | None) -> Cells:
        byte = self.data[self.at]
        if column.kind is Kind.OPERATION:  # an index, zigzag: 0, 2, 4
            wrong, byte = (byte > 4) | (byte % 2 == 1), byte >> np.uint8(1)  # noqa: PLR2004
        else:
            wrong = byte > 1
        self.refuse(wrong, "the value is out of range", present)
        start, end = self.advance(np.ones(len(byte), np.int64), present)
        return Cells(column, start, end, present, byte.astype(np.int64))

    def double(self, column: Column, present: Mask | None) -> Cells:
        start, end = self.advance(np.full(len(self.at), 8), present)
        values = self.data[(start + _PAD)[:, None] + np.arange(8)].view("<i8")[:, 0]
        return Cells(column, start, end, present, values.astype(np.int64))

    def length(self, present: Mask | None) -> Ints:
        lengths, sizes = self.varint(present)
        self.advance(sizes, present)
        wrong = (lengths < 0) | (lengths > self.limit - self.at)
        self.refuse(wrong, "its length exceeds the record's", present)
        return lengths

    def string(self, column: Column, present: Mask | None) -> Cells:
        lengths = self.length(present)
        start, end = self.advance(lengths, present)
        self.edges[start + _PAD] ^= 1
        self.edges[end + _PAD] ^= 1
        return Cells(column, start, end, present, lengths)

    def decimal(self, column: Column, present: Mask | None) -> Cells:
        lengths = self.length(present)
        start, end = self.advance(lengths, present)
        wrong = (lengths < 1) | (lengths > 16)  # noqa: PLR2004 - bytes of 128 bits
        self.refuse(wrong, "a decimal of such a length", present)
        lengths = end - start
        # The 16 bytes that end with the number; those before it take its sign.
        tail = self.data[(self.at - 16)[:, None] + np.arange(16)]
        sign = np.where(self.data[start + _PAD] & 0x80, np.uint8(0xFF), np.uint8(0))
        tail = np.where(np.arange(16) < (16 - lengths)[:, None], sign[:, None], tail)
        words = tail.view(">u8").astype(np.uint64)
        low, high = words[:, 1], words[:, 0].view(np.int64)
        least, above = magnitude(low, high)
        wrong = decimal_sizes(least, above) != lengths
        self.refuse(wrong, "a decimal is not in its shortest form", present)
        most = 10**column.precision - 1
        most_low, most_above = np.uint64(most & 2**64 - 1), np.uint64(most >> 64)
        wrong = (above > most_above) | ((above == most_above) & (least > most_low))
        self.refuse(wrong, "more digits than the precision", present)
        return Cells(column, start, end, present, words[:, ::-1].view(np.int64))

    def check_text(self, schema: Schema) -> None:
        """Check UTF-8 of all texts at once.

        Everything between the texts is blanked out; as each text has its length before it,
        no two of them touch, and the whole is UTF-8 if and only if each text is.
        """
        blanked = self.data * _between(self.edges)[: len(self.data)]
        try:
            str(blanked.data, "utf-8")
        except UnicodeDecodeError as error:
            row = int(np.searchsorted(self.limit, error.start, side="right"))
            names = [column.name for column in schema.columns if column.kind is Kind.STRING]
            raise Malformed(row, "/".join(names)[:200], "a text is not UTF-8") from error


def _between(edges: Bytes) -> Bytes:
    """Return 1 from each odd edge up to the next even one, else 0: a running XOR, in place.

    Eight bytes at a time (``len(edges)`` is a multiple of 8): first within each little-endian
    word by doubling, then the last byte of each word is carried into all later words.
    """
    words = edges.view("<u8")
    for bits in (8, 16, 32):
        words ^= words << np.uint64(bits)
    carried = np.bitwise_xor.accumulate(words >> np.uint64(56))
    words[1:] ^= carried[:-1] * np.uint64(0x0101010101010101)
    return edges
