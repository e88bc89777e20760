"""Tables of dBase III to IV, FoxPro and Visual FoxPro (dbf): read exactly, or refused.

The format is small: a header, fields of fixed width, rows of fixed length. (The library that is
maintained opens files by their names; the process that reads untrusted files has none.) Memos
lie in another file and are not read; a note names their fields.

Source: dBASE "Table File Format"; Microsoft, Visual FoxPro "Table File Structure".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from exchange.connectors.files.book import Book, Sheet, SheetRow, SheetRows
from exchange.connectors.files.encoding import encoding_of
from exchange.connectors.files.formats import Odd, Value
from exchange.connectors.files.layout import note
from exchange.errors import Rejected
from exchange.text import Text

_VERSIONS = frozenset({0x03, 0x30, 0x31, 0x32, 0x83, 0x8B, 0xF5})
_FOXPRO = frozenset({0x30, 0x31, 0x32})
_HEAD, _FIELD = 32, 32
_END = 0x0D
_BACKLINK = 263
"""Bytes behind the fields of Visual FoxPro: the name of the database."""
_ACTIVE, _DELETED = b" ", b"*"
_SYSTEM, _NULLABLE, _BINARY = 0x01, 0x02, 0x04
_MEMOS = "MGPBW"
_MAX_FIELDS = 2_046
_MONTHS, _DAYS = 12, 31
_SAMPLE = 1 << 20

_UNMARKED = frozenset({0x00, 0x57})
"""No mark, or "that of the machine": the bytes decide."""
_PAGES: Mapping[int, str] = {
    0x7A: "gb18030",
    0x4D: "gb18030",
    0x78: "cp950",
    0x4F: "cp950",
    0x7B: "cp932",
    0x13: "cp932",
    0x79: "cp949",
    0x4E: "cp949",
    0xC9: "cp1251",
    0x26: "cp866",
    0x65: "cp866",
    0xF0: "utf-8",
}
"""Marks of code pages that are believed; Western ones stand by default in Chinese files, too."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_TRUE, _FALSE, _UNSET = b"TtYy", b"FfNn", b" ?\0"
_JULIAN = 1_721_426
"""Julian day of 0001-01-01."""


@dataclass(frozen=True, slots=True)
class DbfField:
    """A field: its bytes within a row, and the place of its bit among the null flags."""

    name: str
    kind: str
    start: int
    length: int
    null_bit: int | None
    decimals: int = 0


def may_be_dbf(top: bytes) -> bool:
    """Whether a file begins like a table: version, date and zeros that no text has there."""
    return (
        len(top) >= _HEAD
        and top[0] in _VERSIONS
        and top[2] <= _MONTHS
        and top[3] <= _DAYS
        and top[12:14] == b"\0\0"
    )


def read_dbf(data: bytes) -> Book:
    """Open a table; raises Rejected for what is damaged, cut, encrypted or of an unknown type."""
    count, head, width = struct.unpack_from("<IHH", data, 4)
    if data[14] or data[15]:
        what = ("transaction that was not ended", "encryption")[bool(data[15])]
        raise _refused("有未完成的事务或已加密", f"it is marked with a {what}")
    raw = _raw_fields(data, head)
    rows = data[head : head + count * width]
    if width < 1 or len(rows) < count * width or len(data) - head - count * width > width:
        room = max(0, len(data) - head) // max(1, width)
        raise _refused(
            f"文件头记 {count} 行，文件中有 {room} 行", f"it counts {count} rows, and holds {room}"
        )
    encoding = _encoding(data[29], raw, rows, width)
    fields, flags = _fields(raw, width, encoding)
    marks = rows[::width]
    if marks.strip(_ACTIVE + _DELETED):
        raise _refused("行的标志字节损坏", "the mark of a row is damaged")
    readers = [(field, _READERS[field.kind]) for field in fields if field.kind not in _memos(data)]
    memos = [field.name for field in fields if field.kind in _memos(data)]
    notes = []
    if deleted := marks.count(_DELETED):
        notes.append(note(0, "deleted", f"rows that are marked as deleted: {deleted}"))
    if memos:
        text = f"memos lie in another file and are not read: {', '.join(memos)}"
        notes.append(note(0, "memo", text))
    table = _Table(rows, width, count, encoding, readers, flags)
    return Book([Sheet("table", table.rows)], tuple(notes), is_table=True)


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a table."""

    data: bytes
    width: int
    count: int
    encoding: str
    readers: list[tuple[DbfField, Callable[[bytes, DbfField, str], Value | None]]]
    flags: DbfField | None

    def rows(self) -> SheetRows:
        """Yield the names, then the rows that are not deleted, numbered as in the file."""
        yield 1, [field.name for field, _ in self.readers]
        yield from self._records()

    def _records(self) -> Iterator[tuple[int, SheetRow]]:
        for number in range(self.count):
            start = number * self.width
            row = self.data[start : start + self.width]
            if row[:1] == _DELETED:
                continue
            nulls = 0
            if self.flags is not None:
                at = self.flags.start
                nulls = int.from_bytes(row[at : at + self.flags.length], "little")
            yield (
                number + 2,
                [
                    None
                    if field.null_bit is not None and nulls >> field.null_bit & 1
                    else read(row[field.start : field.start + field.length], field, self.encoding)
                    for field, read in self.readers
                ],
            )


def _memos(data: bytes) -> str:
    """Return the types that are memos: B is a number in Visual FoxPro."""
    return _MEMOS.replace("B", "") if data[0] in _FOXPRO else _MEMOS


def _raw_fields(data: bytes, head: int) -> list[bytes]:
    """Return the descriptors of the fields, up to their end mark."""
    raw = []
    at = _HEAD
    while at < min(head, len(data)) and data[at] != _END:
        raw.append(data[at : at + _FIELD])
        at += _FIELD
    ends = at < len(data) and data[at] == _END and at < head
    rest = head - at - 1
    if not raw or not ends or len(raw) > _MAX_FIELDS or rest not in (0, 1, _BACKLINK):
        raise _refused("字段描述损坏", "the description of its fields is damaged")
    return raw


def _fields(raw: list[bytes], width: int, encoding: str) -> tuple[list[DbfField], DbfField | None]:
    """Return the fields of a row, and the one that holds the null flags."""
    fields: list[DbfField] = []
    flags: DbfField | None = None
    start, bit = 1, 0
    for item in raw:
        name = item[:11].partition(b"\0")[0].strip()
        kind, length, decimals, marks = chr(item[11]), item[16], item[17], item[18]
        if kind == "C":
            length, decimals = length + 256 * decimals, 0  # long texts of FoxPro and Clipper
        null_bit = None
        if marks & _NULLABLE:
            null_bit, bit = bit, bit + 1
        try:
            shown = name.decode(encoding)
        except UnicodeDecodeError as error:
            raise _refused(
                "字段名不是该编码", "the name of a field is not in its encoding"
            ) from error
        field = DbfField(shown, kind, start, length, null_bit, decimals)
        start += length
        if marks & _SYSTEM and kind == "0":
            flags = field
        elif kind not in _READERS and kind not in _MEMOS:
            raise _refused(f"字段 {shown} 的类型 {kind!r} 不认识", f"{shown} is of type {kind!r}")
        elif kind == "C" and marks & _BINARY:
            raise _refused(f"字段 {shown} 是二进制", f"the field {shown} holds bytes, no text")
        else:
            _check_length(field)
            fields.append(field)
    if start != width or (bit and flags is None):
        raise _refused("字段长度与行长不符", "its fields do not make up its rows")
    return fields, flags


def _check_length(field: DbfField) -> None:
    lengths = {"D": 8, "L": 1, "I": 4, "Y": 8, "T": 8}
    if field.length != lengths.get(field.kind, field.length) or not field.length:
        raise _refused(
            f"字段 {field.name} 的长度有误", f"the field {field.name} has a wrong length"
        )


def _encoding(mark: int, raw: list[bytes], rows: bytes, width: int) -> str:
    """Return the encoding of its texts: by its mark, or by its bytes where the mark says nothing.

    Raises Rejected where a Western mark stands before other than ASCII texts: it may be wrong.
    """
    if mark in _PAGES:
        return _PAGES[mark]
    texts = [item[:11].partition(b"\0")[0] for item in raw]
    places = _text_places(raw)
    sampled = rows[: max(1, _SAMPLE // width) * width]
    texts += [
        sampled[at + start : at + start + length]
        for at in range(0, len(sampled), width)
        for start, length in places
    ]
    sample = b"\n".join([*texts, b""])
    if mark in _UNMARKED:
        return encoding_of(sample) or "gb18030"
    if sample.isascii() and (len(sampled) == len(rows) or rows.isascii()):
        return "ascii"
    raise Rejected(
        Text(
            f"代码页标记 0x{mark:02x}（非中文）与内容不符，无法确定编码",
            f"its code page mark 0x{mark:02x} is not a Chinese one, and its texts are not ASCII",
        ),
        hint=Text(
            "请用 FoxPro 的 CPZERO 把标记改为 936，或另存为 CSV",
            "set the mark to 936 (CPZERO of FoxPro), or save it as CSV",
        ),
    )


def _text_places(raw: list[bytes]) -> list[tuple[int, int]]:
    """Return where texts stand in a row: start and length."""
    places = []
    start = 1
    for item in raw:
        is_text = item[11:12] == b"C"
        length = item[16] + (256 * item[17] if is_text else 0)
        if is_text:
            places.append((start, length))
        start += length
    return places


def _text(data: bytes, _field: DbfField, encoding: str) -> Value | None:
    data = data.rstrip(b" \0")
    try:
        return data.decode(encoding) or None
    except UnicodeDecodeError:
        return Odd(data.decode(encoding, "backslashreplace"), f"bytes that are not {encoding}")


def _number(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    text = data.decode("latin-1").strip(" \0")
    if text in ("", "."):
        return None
    if not _NUMBER.fullmatch(text):
        why = "a number that did not fit" if not text.strip("*") else "no number"
        return Odd(text, why)
    return text.removesuffix(".")


def _date(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    text = data.decode("latin-1")
    if not text.strip(" \0") or text == "00000000":
        return None
    if not text.isdigit():  # int() takes blanks and signs
        return Odd(text, "no date")
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return Odd(text, "no date")


def _logical(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    if data in _TRUE:
        return "TRUE"
    if data in _FALSE:
        return "FALSE"
    return None if data in _UNSET else Odd(data.decode("latin-1"), "neither true nor false")


def _integer(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    return str(int.from_bytes(data, "little", signed=True))


def _currency(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    sign, digits, _ = Decimal(int.from_bytes(data, "little", signed=True)).as_tuple()
    return format(Decimal((sign, digits, -4)), "f")


def _double(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    if len(data) != 8:  # noqa: PLR2004 - bytes of a double
        return Odd(data.hex(), "no number")
    (value,) = struct.unpack("<d", data)
    text = repr(value)
    return text.removesuffix(".0") if _NUMBER.fullmatch(text) else Odd(text, "no number")


def _moment(data: bytes, _field: DbfField, _encoding: str) -> Value | None:
    day, milliseconds = struct.unpack("<ii", data)
    if (day, milliseconds) == (0, 0) or not data.strip(b" "):
        return None
    try:
        start = datetime(1, 1, 1) + timedelta(days=day - _JULIAN)  # noqa: DTZ001 - no zone there
        # Visual FoxPro keeps seconds; its milliseconds are off by one at times.
        return start + timedelta(seconds=round(milliseconds / 1000))
    except OverflowError:
        return Odd(data.hex(), "no time")


_READERS: Mapping[str, Callable[[bytes, DbfField, str], Value | None]] = {
    "C": _text,
    "N": _number,
    "F": _number,
    "D": _date,
    "L": _logical,
    "I": _integer,
    "+": _integer,
    "Y": _currency,
    "B": _double,
    "T": _moment,
}


def _refused(zh: str, en: str) -> Rejected:
    return Rejected(
        Text(f"DBF 无法读取：{zh}", f"the dbf cannot be read: {en}"),
        hint=Text(
            "请用 FoxPro 或 WPS 打开核对，重新导出或另存为 CSV",
            "open it in FoxPro or a spreadsheet program, and export it again",
        ),
    )
