"""Excel 5 to 2003 workbooks (xls, et) by xlrd, and what xlrd does not tell, from the records.

[MS-XLS] §2.4.127 Formula: a program that does not calculate writes its formulas with the flag
"calculate on load" and a result that means nothing.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from exchange.connectors.files.book import Book, Range, Sheet, SheetRow, SheetRows, letters
from exchange.connectors.files.formats import Format, Odd, Value
from exchange.connectors.files.xlsx import STALE, damaged
from exchange.errors import Rejected
from exchange.text import Text

_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_FORMULA, _BOF, _EOF = 0x0006, (0x0809, 0x0409, 0x0209, 0x0009), 0x000A
_CALCULATE_ON_LOAD, _BLANK, _RECALCULATION = 0x0002, 3, 0x01C1
_FREE, _LAST_SECTOR = 0xFFFFFFFF, 0xFFFFFFFA
_WITH_UNICODE = 80
"""BIFF 8, of Excel 97 and later; before, text stands in a code page."""


def read_xls(data: bytes) -> Book:
    """Open a workbook; raises Rejected when it is encrypted, cut off or of an unknown page."""
    import xlrd

    if _ENCRYPTED in data:
        raise protected()
    _refuse_cut(data)
    try:
        book = _opened(data)
        if book.biff_version < _WITH_UNICODE and book.codepage is None:
            # Each byte becomes a character, and texts with other than ASCII are told.
            book = _opened(data, encoding_override="iso-8859-1")
    except xlrd.XLRDError as error:
        if "encrypted" in str(error).lower() or "password" in str(error).lower():
            raise protected() from error
        raise
    stale = _uncalculated(book)
    formats: dict[int, Format] = {}
    return Book(
        [
            _sheet(book, index, formats, stale.get(index, frozenset()))
            for index in range(book.nsheets)
        ]
    )


def _opened(data: bytes, **options: str) -> Any:
    import xlrd

    return xlrd.open_workbook(
        file_contents=data, formatting_info=True, on_demand=True, ragged_rows=True,
        logfile=io.StringIO(), **options,
    )  # fmt: skip


def protected() -> Rejected:
    """Return the error for a workbook that only its password opens."""
    return Rejected(
        Text("工作簿有密码保护", "the workbook has a password"),
        hint=Text("请去掉密码后重新放入", "remove the password and drop it again"),
    )


def _sheet(
    book: Any, index: int, formats: dict[int, Format], stale: frozenset[tuple[int, int]]
) -> Sheet:
    def rows() -> SheetRows:
        sheet = book.sheet_by_index(index)
        cells = _Reader(book, formats, stale)
        for number in range(sheet.nrows):
            yield number + 1, cells.row(sheet, number)

    def merges() -> Sequence[Range]:
        found = book.sheet_by_index(index).merged_cells
        return [Range(top + 1, left, bottom, right - 1) for top, bottom, left, right in found]

    visible = book._sheet_visibility[index] == 0  # noqa: SLF001 - known before a sheet is read
    return Sheet(book.sheet_names()[index], rows, merges, visible)


class _Reader:
    def __init__(
        self, book: Any, formats: dict[int, Format], stale: frozenset[tuple[int, int]]
    ) -> None:
        self._book = book
        self._formats = formats
        self._stale = stale
        self._unknown_page = book.biff_version < _WITH_UNICODE and book.codepage is None

    def row(self, sheet: Any, number: int) -> SheetRow:
        types, values = sheet.row_types(number), sheet.row_values(number)
        out: SheetRow = []
        for column, (kind, value) in enumerate(zip(types, values, strict=True)):
            out.append(self._value(sheet, number, column, kind, value))
        return out

    def _value(self, sheet: Any, row: int, column: int, kind: int, value: Any) -> Value | None:
        import xlrd

        if (row, column) in self._stale:
            shown: Value = Odd("", STALE)
        elif kind in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK) or value == "":
            return None
        elif kind == xlrd.XL_CELL_TEXT:
            doubt = self._unknown_page and not value.isascii()
            shown = Odd(value, "text in an unknown code page") if doubt else value
        elif kind == xlrd.XL_CELL_BOOLEAN:
            shown = "TRUE" if value else "FALSE"
        elif kind == xlrd.XL_CELL_ERROR:
            text = xlrd.error_text_from_code.get(value, "#ERROR")
            shown = Odd(text, f"the error {text}")
        else:
            shape = self._format(sheet.cell_xf_index(row, column))
            shown = shape.show(value, since_1904=self._book.datemode == 1)
        if isinstance(shown, Odd) and shown.defect:
            return Odd(shown.text, f"{shown.defect} (cell {letters(column)}{row + 1})")
        return shown

    def _format(self, index: int) -> Format:
        found = self._formats.get(index)
        if found is None:
            key = self._book.xf_list[index].format_key
            known = self._book.format_map.get(key)
            found = self._formats[index] = Format(known.format_str if known else "General")
        return found


def _refuse_cut(data: bytes) -> None:
    """Refuse a compound file that ends before its own tables say ([MS-CFB] §2.2).

    xlrd only warns of it, and reads what is left.
    """
    if not data.startswith(b"\xd0\xcf\x11\xe0"):
        return
    if len(data) < 512:  # noqa: PLR2004 - the header's size
        raise damaged("its header is cut off")
    shift = struct.unpack_from("<H", data, 30)[0]
    if shift not in (9, 12):
        raise damaged(f"sectors of 2^{shift} bytes")
    size = 1 << shift
    (directory,) = struct.unpack_from("<I", data, 48)
    last = directory
    for place, sector in enumerate(_tables(data, size)):
        at = 512 + sector * size
        if at + size > len(data):
            raise damaged(f"it is cut off at byte {len(data)}, within its table of sectors")
        entries = struct.unpack_from(f"<{size // 4}I", data, at)
        used = [n for n, entry in enumerate(entries) if entry != _FREE]
        last = max([last, *(place * len(entries) + n for n in used[-1:])])
    if 512 + (last + 1) * size > len(data):
        raise damaged(f"it is cut off at byte {len(data)} of {512 + (last + 1) * size}")


def _tables(data: bytes, size: int) -> list[int]:
    """Return the sectors that hold the table of sectors ([MS-CFB] §2.5)."""
    (count,) = struct.unpack_from("<I", data, 44)
    listed = list(struct.unpack_from("<109I", data, 76))
    (more,) = struct.unpack_from("<I", data, 68)
    for _ in range(len(data) // size + 1):
        at = 512 + more * size
        if more > _LAST_SECTOR or at + size > len(data):
            break
        *entries, more = struct.unpack_from(f"<{size // 4}I", data, at)
        listed += entries
    return [sector for sector in listed[:count] if sector <= _LAST_SECTOR]


def _uncalculated(book: Any) -> Mapping[int, frozenset[tuple[int, int]]]:
    """Find formulas that wait for their first calculation, by sheet, and that no sheet is cut."""
    stream, base = book.mem, book.base
    end = base + book.stream_len
    engine = _names_engine(stream, base, end)
    out = {}
    for index, start in enumerate(book._sh_abs_posn):  # noqa: SLF001 - where each sheet begins
        found = set()
        at, depth = start, 0
        while True:
            if at + 4 > end:
                raise damaged(f"sheet {index + 1} has no end")
            kind, size = struct.unpack_from("<HH", stream, at)
            if at + 4 + size > end:
                raise damaged(f"sheet {index + 1} is cut off")
            if kind in _BOF:
                depth += 1
            elif kind == _EOF:
                depth -= 1
                if depth <= 0:
                    break
            elif kind == _FORMULA and size >= 16:  # noqa: PLR2004 - up to its flags
                row, column = struct.unpack_from("<HH", stream, at + 4)
                flags = struct.unpack_from("<H", stream, at + 18)[0]
                blank = stream[at + 10] == _BLANK and stream[at + 16 : at + 18] == b"\xff\xff"
                if flags & _CALCULATE_ON_LOAD or (blank and not engine):
                    found.add((row, column))
            at += 4 + size
        out[index] = frozenset(found)
    return out


def _names_engine(stream: bytes, at: int, end: int) -> bool:
    """Whether the workbook says which engine calculated it ([MS-XLS] §2.4.215 RecalcId).

    Where it does not, a blank result may be one that was never calculated: libraries that
    cannot calculate write it.
    """
    while at + 4 <= end:
        kind, size = struct.unpack_from("<HH", stream, at)
        if kind == _RECALCULATION:
            return True
        if kind == _EOF:
            return False
        at += 4 + size
    return False
