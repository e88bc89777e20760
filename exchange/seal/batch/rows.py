"""Avro binary of records with nothing but the standard library: what ``avro`` does by columns.

The verifier's way where numpy is not installed, at some million values a second, and for single
records everywhere. The walk accepts and refuses the same bytes for the same reasons as
:func:`exchange.seal.batch.avro.walk`, which says why it looks at them as it does.

Source: Apache Avro 1.12 specification, "Binary encoding" and "Logical types".
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Final

from exchange.seal.batch.schema import OPERATIONS, RANGES, Column, Kind, Malformed, Schema
from exchange.text import BEIJING

_SURROGATE, _SURROGATES = 0xD800, 0x800
_PAD: Final = bytes(32)
_MORE: Final = 0x80
_PRESENT: Final = 2  # zigzag of branch 1
_LAST_GROUP: Final = 9
_MAX_DECIMAL: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(slots=True)
class RowCells:
    """One field of all records: bytes ``start``..``end``, whether present, and the integers.

    As in :class:`exchange.seal.batch.avro.Cells`, but decimals are one integer each.
    """

    column: Column
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    values: list[int] = field(default_factory=list)


class _Fault(ValueError):
    """Why a value is not there."""


def add_up(points: bytes) -> array[int]:
    """Return where records begin, and the end, from their lengths as code points (UTF-32-LE)."""
    lengths = [int.from_bytes(point, "little") for (point,) in struct.iter_unpack("4s", points)]
    real = (each - _SURROGATES if each > _SURROGATE else each for each in lengths)
    return array("q", accumulate(real, initial=0))


def count(data: bytes, offsets: Sequence[int], schema: Schema) -> list[int]:
    """Look at every byte of the records; return how many insert, update and delete."""
    operations, *_ = walk(data, offsets, schema)
    return [operations.values.count(each) for each in range(len(OPERATIONS))]


def walk(data: bytes, offsets: Sequence[int], schema: Schema) -> Iterator[RowCells]:
    """Find every field of every record; raises Malformed at the first that is not there.

    ``offsets`` are the n + 1 boundaries of n records, from 0 to ``len(data)``, not falling.
    The verdict is complete only when the iterator is exhausted.
    """
    padded = data + _PAD  # every look beyond a broken record's end stays inside
    at, limits = list(offsets[:-1]), list(offsets[1:])
    texts: list[RowCells] = []
    for column in schema.columns:
        cells = RowCells(column)
        for row, (here, limit) in enumerate(zip(at, limits, strict=True)):
            try:
                at[row] = _cell(padded, here, limit, cells)
            except _Fault as fault:
                raise Malformed(row, column.name, str(fault)) from None
        if column.kind is Kind.STRING:
            texts.append(cells)
        yield cells
    for row, (here, limit) in enumerate(zip(at, limits, strict=True)):
        if here != limit:
            raise Malformed(row, schema.columns[-1].name, "bytes are left over after it")
    _check_texts(data, texts)


def _cell(data: bytes, at: int, limit: int, cells: RowCells) -> int:
    """Read one value; return where the next one begins."""
    column, start, value, present = cells.column, at, 0, True
    if column.nullable:
        present = data[at] == _PRESENT
        if data[at] and not present:
            raise _Fault("the branch of the union is neither null nor the value")
        start = at = at + 1
    if present:
        start, at, value = _READERS[column.kind](data, at, limit, column)
    if at > limit:
        raise _Fault("it runs past the end of the record")
    cells.start.append(start)
    cells.end.append(at)
    cells.present.append(present)
    cells.values.append(value)
    return at


_Read = tuple[int, int, int]
"""Where a value begins (behind its length, if it has one), where it ends, and the value."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a zigzag integer; return it and where it ends."""
    byte = data[at]
    unsigned, size = byte & 0x7F, 1
    while byte >= _MORE:
        byte = data[at + size]
        if byte == 0:
            raise _Fault("an integer is not written in its shortest form")
        if size == _LAST_GROUP and byte > 1:
            raise _Fault("an integer has more than 64 bits")
        unsigned |= (byte & 0x7F) << 7 * size
        size += 1
    return (unsigned >> 1) ^ -(unsigned & 1), at + size


def _integer(data: bytes, at: int, _limit: int, column: Column) -> _Read:
    value, end = _varint(data, at)
    least, most = RANGES[column.kind]
    if not least <= value <= most:
        raise _Fault("the value is out of range")
    return at, end, value


def _operation(data: bytes, at: int, _limit: int, _column: Column) -> _Read:
    index, odd = divmod(data[at], 2)
    if odd or index >= len(OPERATIONS):
        raise _Fault("the value is out of range")
    return at, at + 1, index


def _boolean(data: bytes, at: int, _limit: int, _column: Column) -> _Read:
    if data[at] > 1:
        raise _Fault("the value is out of range")
    return at, at + 1, data[at]


def _double(data: bytes, at: int, _limit: int, _column: Column) -> _Read:
    return at, at + 8, int.from_bytes(data[at : at + 8], "little", signed=True)


def _string(data: bytes, at: int, limit: int, _column: Column) -> _Read:
    length, start = _varint(data, at)
    if not 0 <= length <= limit - start:
        raise _Fault("its length exceeds the record's")
    return start, start + length, length


def _decimal(data: bytes, at: int, limit: int, column: Column) -> _Read:
    start, end, length = _string(data, at, limit, column)
    if not 1 <= length <= _MAX_DECIMAL:
        raise _Fault("a decimal of such a length")
    value = int.from_bytes(data[start:end], signed=True)
    if length != min(_decimal_size(value), _MAX_DECIMAL):
        raise _Fault("a decimal is not in its shortest form")
    if abs(value) >= 10**column.precision:
        raise _Fault("more digits than the precision")
    return start, end, value


def _decimal_size(value: int) -> int:
    """Count the bytes that fastavro writes: the least n with the magnitude < 2**(8n - 1)."""
    return value.bit_length() // 8 + 1


_READERS: Final[dict[Kind, Callable[[bytes, int, int, Column], _Read]]] = {
    Kind.OPERATION: _operation,
    Kind.STRING: _string,
    Kind.LONG: _integer,
    Kind.DECIMAL: _decimal,
    Kind.DATE: _integer,
    Kind.TIMESTAMP: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.DOUBLE: _double,
}


def _check_texts(data: bytes, texts: Sequence[RowCells]) -> None:
    names = "/".join(cells.column.name for cells in texts)[:200]
    wrong = [
        row
        for cells in texts
        for row, (start, end) in enumerate(zip(cells.start, cells.end, strict=True))
        if not _is_utf8(data[start:end])
    ]
    if wrong:
        raise Malformed(min(wrong), names, "a text is not UTF-8")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- single records and values --------------------------------------------------------------


def read_record(record: bytes, schema: Schema) -> dict[str, object]:
    """Read one record, strictly: texts, integers and booleans as such, the rest as text.

    Times are Beijing time with its offset, which people compare with what they know.

    Raises Malformed for anything but a record of the schema.
    """
    cells = list(walk(record, (0, len(record)), schema))
    return {each.column.name: _value(record, each) for each in cells}


def _value(record: bytes, cells: RowCells) -> object:  # noqa: PLR0911 - a line for each kind
    (start,), (end,), (value,) = cells.start, cells.end, cells.values
    if cells.present == [False]:
        return None
    match cells.column.kind:
        case Kind.OPERATION:
            return OPERATIONS[value]
        case Kind.STRING:
            return record[start:end].decode()
        case Kind.BOOLEAN:
            return value == 1
        case Kind.DOUBLE:
            return str(struct.unpack("<d", record[start:end])[0])
        case Kind.DATE:
            return str(date.fromordinal(_EPOCH_DAY + value))
        case Kind.TIMESTAMP:
            return _moment(value)
        case Kind.DECIMAL:
            digits = tuple(map(int, str(abs(value))))
            return str(Decimal((int(value < 0), digits, -cells.column.scale)))
        case Kind.LONG:
            return value


def _moment(milliseconds: int) -> str:
    """Write a moment in Beijing time with its offset; at the end of the calendar in UTC."""
    moment = _EPOCH + milliseconds * _MILLISECOND
    try:
        return str(moment.astimezone(BEIJING))
    except OverflowError:
        return str(moment)


def write_value(column: Column, text: str) -> bytes:
    """Write the value of a field that ``text`` names, as it stands in a record.

    Dates and times are ISO 8601, times without a zone in UTC. Raises ValueError for a text that
    is no value of that field.
    """
    written = _written(column, text)
    return bytes([_PRESENT]) + written if column.nullable else written


def _written(column: Column, text: str) -> bytes:  # noqa: PLR0911 - a line for each kind
    match column.kind:
        case Kind.OPERATION:
            return _zigzag(OPERATIONS.index(text))
        case Kind.STRING:
            return _zigzag(len(text.encode())) + text.encode()
        case Kind.BOOLEAN:
            return bytes([("false", "true").index(text)])
        case Kind.DOUBLE:
            return struct.pack("<d", float(text))
        case Kind.DATE:
            return _zigzag(date.fromisoformat(text).toordinal() - _EPOCH_DAY)
        case Kind.TIMESTAMP:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return _zigzag((at - _EPOCH) // _MILLISECOND)
        case Kind.DECIMAL:
            value = _unscaled(text, column)
            return _zigzag(_decimal_size(value)) + value.to_bytes(_decimal_size(value), signed=True)
        case Kind.LONG:
            value = int(text)
            least, most = RANGES[Kind.LONG]
            if not least <= value <= most:
                raise ValueError(f"not 64 bits: {text[:80]}")
            return _zigzag(value)


def _unscaled(text: str, column: Column) -> int:
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except ArithmeticError as error:
        raise ValueError(f"no decimal: {text[:80]}") from error
    shift = exponent + column.scale if isinstance(exponent, int) else -1
    value = "".join(map(str, digits)) or "0"
    if shift < 0 and len(value) > -shift and not int(value[shift:]):
        value, shift = value[:shift], 0  # zeros behind the last place that counts
    if not 0 <= shift <= column.precision or len(value.lstrip("0")) + shift > column.precision:
        raise ValueError(f"not of {column.precision} digits, {column.scale} of them behind")
    found = int(value + "0" * shift)
    return -found if sign else found


def _zigzag(value: int) -> bytes:
    unsigned = value << 1 if value >= 0 else (-value << 1) - 1
    groups = bytearray()
    while unsigned >= _MORE:
        groups.append(unsigned & 0x7F | _MORE)
        unsigned >>= 7
    return bytes([*groups, unsigned])
