"""Binary Excel workbooks (xlsb): the same cells as xlsx, as records ([MS-XLSB] §2.1.4, §2.4)."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, NamedTuple

from exchange.connectors.files.book import Book, Range, Sheet, SheetRow, SheetRows, letters
from exchange.connectors.files.formats import Format, Odd, Value, built_in
from exchange.connectors.files.xlsx import MAX_COLUMNS, STALE, Parts, damaged

_ROW, _BLANK, _RK, _ERROR, _BOOL, _REAL, _STRING, _SHARED = range(8)
_F_STRING, _F_NUMBER, _F_BOOL, _F_ERROR, _RICH = 8, 9, 10, 11, 62
_TEXT, _FORMAT, _STYLE, _SHEET, _WORKBOOK, _CALCULATION, _MERGE = 19, 44, 47, 156, 153, 157, 176
_BEGIN_STYLES, _END_STYLES = 617, 618
_MAX_RECORD = 1 << 24
_ERRORS = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?",
    0x24: "#NUM!", 0x2A: "#N/A", 0x2B: "#GETTING_DATA",
}  # fmt: skip


class _Context(NamedTuple):
    texts: Sequence[str]
    formats: Sequence[Format]
    since_1904: bool
    stale: bool


def read_xlsb(archive: zipfile.ZipFile) -> Book:
    """Open a workbook; raises Rejected when its parts do not fit together."""
    parts = Parts(archive)
    name = parts.workbook("xl/workbook.bin")
    relations = parts.relations(name)
    since_1904 = stale = False
    sheets: list[tuple[str, str, bool]] = []
    with parts.open(name) as stream:
        for kind, body in _records(stream):
            if kind == _WORKBOOK:
                since_1904 = bool(body[0] & 1)
            elif kind == _CALCULATION and len(body) >= 26:  # noqa: PLR2004 - up to its flags
                stale = bool(body[24] & 1)
            elif kind == _SHEET:
                relation, at = _text(body, 8)
                title, _ = _text(body, at)
                what, target = relations.get(relation, ("", ""))
                if what == "worksheet":
                    sheets.append((title, target, struct.unpack_from("<I", body)[0] == 0))
    by_kind = dict(relations.values())
    context = _Context(
        _texts(parts, by_kind.get("sharedStrings", "")),
        _formats(parts, by_kind.get("styles", "")),
        since_1904,
        stale,
    )
    return Book(
        [
            Sheet(title, partial(_rows, parts, target, context), partial(_merges, parts, target), v)
            for title, target, v in sheets
        ]
    )


def _rows(parts: Parts, target: str, context: _Context) -> SheetRows:
    number, cells = 0, SheetRow()
    with parts.open(target) as stream:
        for kind, body in _records(stream):
            if kind == _ROW:
                if cells:
                    yield number, cells
                number, cells = struct.unpack_from("<I", body)[0] + 1, []
            elif _BLANK < kind <= _F_ERROR or kind == _RICH:
                column, style = struct.unpack_from("<II", body)
                if column >= MAX_COLUMNS:
                    raise damaged(f"a cell in column {column}")
                value = _value(kind, body, style & 0xFFFFFF, context)
                if isinstance(value, Odd) and value.defect:
                    where = f"{letters(column)}{number}"
                    value = Odd(value.text, f"{value.defect} (cell {where})")
                if value is not None:
                    cells.extend([None] * (column + 1 - len(cells)))
                    cells[column] = value
    if cells:
        yield number, cells


def _value(  # noqa: PLR0911 - a line for each kind
    kind: int, body: bytes, style: int, context: _Context
) -> Value | None:
    if context.stale and _F_STRING <= kind <= _F_ERROR:
        return Odd("", STALE)
    if kind in (_ERROR, _F_ERROR):
        text = _ERRORS.get(body[8], "#ERROR")
        return Odd(text, f"the error {text}")
    if kind in (_BOOL, _F_BOOL):
        return "TRUE" if body[8] else "FALSE"
    if kind in (_STRING, _F_STRING):
        return _text(body, 8)[0] or None
    if kind == _RICH:
        return _text(body, 9)[0] or None
    try:
        if kind == _SHARED:
            return context.texts[struct.unpack_from("<I", body, 8)[0]] or None
        number = _rk(body) if kind == _RK else struct.unpack_from("<d", body, 8)[0]
        return context.formats[style].show(number, since_1904=context.since_1904)
    except IndexError as error:
        raise damaged("a text or style that is not there") from error


def _rk(body: bytes) -> float:
    """Return a number of 30 bits ([MS-XLSB] §2.5.122 RkNumber)."""
    (raw,) = struct.unpack_from("<I", body, 8)
    if raw & 2:
        number = float(struct.unpack_from("<i", body, 8)[0] >> 2)
    else:
        (number,) = struct.unpack("<d", struct.pack("<Q", (raw & 0xFFFFFFFC) << 32))
    return number / 100 if raw & 1 else number


def _merges(parts: Parts, target: str) -> Sequence[Range]:
    with parts.open(target) as stream:
        found = [body for kind, body in _records(stream) if kind == _MERGE]
    out = []
    for body in found:
        top, bottom, left, right = struct.unpack_from("<4I", body)
        out.append(Range(top + 1, left, bottom + 1, right))
    return out


def _texts(parts: Parts, name: str) -> list[str]:
    if not name or not parts.has(name):
        return []
    with parts.open(name) as stream:
        return [_text(body, 1)[0] for kind, body in _records(stream) if kind == _TEXT]


def _formats(parts: Parts, name: str) -> list[Format]:
    codes: dict[int, str] = {}
    out: list[Format] = []
    within = False
    if name and parts.has(name):
        with parts.open(name) as stream:
            for kind, body in _records(stream):
                if kind == _FORMAT:
                    codes[struct.unpack_from("<H", body)[0]] = _text(body, 2)[0]
                elif kind in (_BEGIN_STYLES, _END_STYLES):
                    within = kind == _BEGIN_STYLES
                elif kind == _STYLE and within:
                    number = struct.unpack_from("<H", body, 2)[0]
                    out.append(Format(codes.get(number, built_in(number))))
    return out or [Format(built_in(0))]


def _text(body: bytes, at: int) -> tuple[str, int]:
    """Return a text behind its length in characters, and where it ends; null is empty."""
    (size,) = struct.unpack_from("<I", body, at)
    if size == 0xFFFFFFFF:  # noqa: PLR2004 - null
        return "", at + 4
    end = at + 4 + 2 * size
    if end > len(body):
        raise damaged("a text that is cut off")
    return body[at + 4 : end].decode("utf-16-le", "replace"), end


def _records(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each record."""
    while first := stream.read(1):
        kind = first[0]
        if kind & 0x80:
            kind = kind & 0x7F | (_byte(stream) & 0x7F) << 7
        size = shift = 0
        while True:
            byte = _byte(stream)
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80 or shift > 21:  # noqa: PLR2004 - four bytes at most
                break
        body = stream.read(size) if size <= _MAX_RECORD else b""
        if len(body) != size:
            raise damaged("a record that is cut off")
        yield kind, body


def _byte(stream: IO[bytes]) -> int:
    data = stream.read(1)
    if not data:
        raise damaged("a record that is cut off")
    return data[0]
