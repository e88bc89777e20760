"""What is read at once is what a parser reads: sheets and strings as written, and spoilt."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from xml.parsers.expat import ExpatError

import openpyxl
import pytest
import xlsxwriter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.connectors.files.sheet_xml import SheetRowParser, StringItems, read_rows, read_strings
from exchange.errors import Rejected

Outcome = list[Any] | str
ROWS: list[list[Any]] = [
    ["编号", "名称 & <值>", "日期"],
    [1, " 两端 ", date(2026, 11, 1)],
    [2.5, "换\n行", None],
    [-3, 'it\'s "so"', date(1999, 1, 2)],
    *([number, f"文{number}", None] for number in range(400)),
]


def by_xlsxwriter(*, inline: bool) -> bytes:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"constant_memory": inline})
    sheet = book.add_worksheet()
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for row, cells in enumerate(ROWS):
        for column, cell in enumerate(cells):
            if cell is not None:
                sheet.write(row, column, cell, day if isinstance(cell, date) else None)
        if row == 5:
            sheet.write_formula(row, 3, "=A1&B1", None, "x & y")
            sheet.write_boolean(row, 4, True)  # noqa: FBT003 - the library's own
    book.close()
    return out.getvalue()


def by_openpyxl() -> bytes:
    book = openpyxl.Workbook()
    for cells in ROWS:
        book.worksheets[0].append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


BOOKS = {
    "xlsxwriter": by_xlsxwriter(inline=False),
    "xlsxwriter, inline": by_xlsxwriter(inline=True),
    "openpyxl": by_openpyxl(),
}


def part(book: str, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(BOOKS[book])) as archive:
        return archive.read(f"xl/{name}")


def take(row: list[Any], *cell: Any) -> None:
    row.append(cell)


def rows_at_once(data: bytes) -> Outcome:
    return outcome(lambda: read_rows(io.BytesIO(data), take))


def rows_parsed(data: bytes) -> Outcome:
    return outcome(lambda: SheetRowParser(take).parse(io.BytesIO(data)))


def outcome(read: Callable[[], Iterator[Any]]) -> Outcome:
    try:
        return list(read())
    except (ExpatError, Rejected, LookupError, ValueError) as error:
        return type(error).__name__


@pytest.mark.parametrize("book", BOOKS)
def test_sheets_and_strings_are_read_alike(book: str) -> None:
    data = part(book, "worksheets/sheet1.xml")
    rows = rows_parsed(data)
    assert len(rows) == len(ROWS)
    assert rows_at_once(data) == rows
    if book == "xlsxwriter":
        strings = part(book, "sharedStrings.xml")
        parsed = outcome(lambda: StringItems().parse(io.BytesIO(strings)))
        assert "名称 & <值>" in parsed
        assert outcome(lambda: read_strings(io.BytesIO(strings))) == parsed


@pytest.mark.parametrize("book", ["xlsxwriter", "xlsxwriter, inline"])
def test_the_plain_spelling_leaves_nothing_to_the_parser(book: str) -> None:
    """Else all of this would only cost time."""
    data = part(book, "worksheets/sheet1.xml")
    at = data.index(b"<sheetData>") + len(b"<sheetData>")
    spoilt = data[:at] + data[at:].replace(b"</sheetData>", b"</sheetDatum>")
    rows: list[Any] = []
    with pytest.raises(ExpatError):
        rows.extend(read_rows(io.BytesIO(spoilt), take))
    assert len(rows) == len(ROWS), "the parser is not asked before they are over"


SHORT = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    b'<worksheet xmlns="http://x/main"><cols/><sheetData>'
    b'<row r="1" spans="1:3"><c r="A1" t="s"><v>0</v></c><c r="B1" s="3"><v>1.5</v></c></row>'
    b'<row r="2"/>'
    b'<row r="3"><c r="A3" t="str"><f>A1</f><v>a &amp; b</v></c><c r="C3" s="1"/></row>'
    b'<row r="4"><c r="A4" t="inlineStr"><is><t xml:space="preserve"> x </t></is></c></row>'
    b"</sheetData><mergeCells/></worksheet>"
)
PIECES = st.sampled_from(
    [
        *(b"<!-- ", b" -->", b"<![CDATA[", b"]]>", b"<?x ?>", b"<!DOCTYPE x>", b"&", b"&amp;"),
        *(b"&#10;", b"&x;", b"<", b">", b"\r", b"\n", b"\x01", b"\xff", b"\xef\xbf\xbf", b"x:"),
        *(b"</row>", b'<row r="9">', b"</c>", b"<v>", b"</v>", b'<c r="Z9">', b"<f/>", b' t="s"'),
        *(
            b' r="A1"',
            b' xmlns="y"',
            b"<sheetData>",
            b"</sheetData>",
            b"<t/>",
            b"<r/>",
            "甲".encode(),
        ),
        "甲".encode(),
        *(b"'", b'"', b" ", b"/", b"=", b"<row/>", b"<x><row/></x>", b"<c/>", b"<is><t>q</t></is>"),
    ]
)
EDIT = st.tuples(st.integers(0, len(SHORT)), st.integers(0, 12), st.just(b"") | PIECES)


@given(st.lists(EDIT, min_size=1, max_size=3))
@example([(SHORT.index(b"<row"), 0, b"<!-- "), (len(SHORT) - 12, 0, b" -->")])
@settings(max_examples=400)
def test_what_is_spoilt_is_read_as_the_parser_reads_it(edits: list[tuple[int, int, bytes]]) -> None:
    data = SHORT
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    assert rows_at_once(data) == rows_parsed(data)


@given(text=st.text(st.characters(codec="utf-8"), max_size=40), escape=st.booleans())
def test_any_text_is_a_string_as_the_parser_reads_it(*, text: str, escape: bool) -> None:
    if escape:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    data = f'<sst xmlns="x" count="2"><si><t>{text}</t></si><si><t>b</t></si></sst>'.encode()
    parsed = outcome(lambda: StringItems().parse(io.BytesIO(data)))
    assert outcome(lambda: read_strings(io.BytesIO(data))) == parsed
