"""The same workbook through our reader and through others, cell by cell.

Workbooks are generated (merges, formats, errors, sparse cells, dates of both epochs, long
numbers, leading zeros), written by libraries that are not ours, and read by ours, by openpyxl,
xlrd and calamine. Where ours gives a value without a defect, it is what the others say and what
was written; truncated at every percent, a file is refused or read whole. `make soak` runs the
full counts, `make test` a share of them.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import python_calamine as calamine
import xlrd
import xlsxwriter
import xlwt
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from exchange.connectors.files.book import SheetFormat, SheetPart, Start
from exchange.connectors.files.child import read_sheets
from exchange.connectors.files.process import ReaderProcess
from exchange.connectors.files.text import TextFormat, TextPosition, read_text
from exchange.errors import Rejected
from tests.support.soak import CUTS, WORKBOOKS
from tests.support.workbooks import minimal_xlsx, ods, xlsb

EXAMPLES = 60 * WORKBOOKS.now
PERCENTS = range(0, 100, CUTS.now)
PREFIX = "#"
ERROR_CODES = {"#N/A": 0x2A, "#DIV/0!": 0x07, "#REF!": 0x17, "#VALUE!": 0x0F}


@dataclass(frozen=True)
class Cell:
    """What is written, and what a person reads; None where nobody may read a value."""

    kind: str
    value: Any
    shown: str | None
    format: str = "General"


def number(value: float, code: str = "General", shown: str | None = None) -> Cell:
    return Cell("number", value, shown, code)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
TEXTS_AS_CELLS = TEXT.filter(lambda t: t.strip() != "").map(lambda t: Cell("text", t, t))
WHOLE = st.integers(-(10**15) + 1, 10**15 - 1).map(lambda n: number(n, shown=str(n)))
LONG = st.integers(10**15, 10**18).map(lambda n: number(n, shown=None))
DECIMALS = st.tuples(st.integers(-(10**9), 10**9), st.integers(1, 4)).map(
    lambda pair: number(pair[0] / 10 ** pair[1], shown=_plain(pair[0], pair[1]))
)
CODES = st.tuples(st.integers(0, 99_999_999), st.integers(2, 9)).map(
    lambda pair: number(pair[0], "0" * pair[1], f"{pair[0]:0{pair[1]}}")
)
DRESSED = st.tuples(
    st.integers(-(10**9), 10**9), st.sampled_from(["#,##0", "#,##0.00", "0.00%", '0"元"', "0.0"])
).map(lambda pair: number(pair[0], pair[1], str(pair[0])))
DATES = st.dates(date(1904, 1, 2), date(9999, 12, 31)).map(
    lambda d: Cell("date", d, d.isoformat(), "yyyy-mm-dd")
)
TIMES = st.datetimes(datetime(1904, 1, 2), datetime(9999, 12, 31)).map(  # noqa: DTZ001
    lambda t: Cell("time", t.replace(microsecond=0), _moment(t), "yyyy-mm-dd hh:mm:ss")
)
BOOLEANS = st.booleans().map(lambda b: Cell("boolean", b, "TRUE" if b else "FALSE"))
ERRORS = st.sampled_from(sorted(ERROR_CODES)).map(lambda e: Cell("error", e, None))
HIDDEN = st.sampled_from([";;;", "0,", "[>5]000;0"]).map(lambda c: number(7, c, None))
EMPTY = st.just(Cell("empty", None, ""))
CELLS = st.one_of(
    TEXTS_AS_CELLS, WHOLE, LONG, DECIMALS, CODES, DRESSED, DATES, TIMES, BOOLEANS, ERRORS, HIDDEN,
    EMPTY, EMPTY,
)  # fmt: skip


def _plain(digits: int, places: int) -> str:
    sign, text = ("-" if digits < 0 else ""), f"{abs(digits):0{places + 1}}"
    fraction = text[-places:].rstrip("0")
    shown = f"{sign}{text[:-places]}" + (f".{fraction}" if fraction else "")
    return "0" if shown == "-0" else shown


def _moment(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat(" ")


@dataclass(frozen=True)
class Made:
    """A workbook to be: columns, rows of cells with gaps, a merge, an epoch, a margin."""

    rows: list[list[Cell]]
    gaps: list[int]
    merge: tuple[int, int, int] | None
    since_1904: bool
    margin: int

    def place(self, row: int) -> int:
        """Return the row (from 0) in which a row of the table stands; the header is in 0."""
        return 1 + row + sum(self.gaps[: row + 1])

    def expected(self, row: int, column: int) -> Cell:
        """Return the cell that a person sees: that of the top of a merge within it."""
        if self.merge is not None:
            top, bottom, merged = self.merge
            if column == merged and top < row <= bottom:
                return self.rows[top][column]
        return self.rows[row][column]


@st.composite
def workbooks(draw: st.DrawFn, width: int) -> Made:
    height = draw(st.integers(1, 6))
    rows = draw(
        st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=height, max_size=height)
    )
    gaps = draw(st.lists(st.integers(0, 2), min_size=height, max_size=height))
    merge = None
    if height > 1 and draw(st.booleans()):
        top = draw(st.integers(0, height - 2))
        bottom = draw(st.integers(top + 1, height - 1))
        merge = (top, bottom, draw(st.integers(0, width - 1)))
    return Made(rows, gaps, merge, draw(st.booleans()), draw(st.integers(0, 3)))


def titles(width: int) -> list[str]:
    return ["key", *(f"c{n}" for n in range(width))]


def written_by_xlsxwriter(made: Made) -> bytes:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, "date_1904": made.since_1904})
    sheet = book.add_worksheet()
    formats = {code: book.add_format({"num_format": code}) for code in _codes(made)}
    width = len(made.rows[0])
    sheet.write_row(0, made.margin, titles(width))
    for row, cells in enumerate(made.rows):
        at = made.place(row)
        sheet.write_string(at, made.margin, f"{PREFIX}{row}")
        for column, cell in enumerate(cells, start=made.margin + 1):
            style = formats.get(cell.format)
            if cell.kind == "text":
                sheet.write_string(at, column, cell.value)
            elif cell.kind == "number":
                sheet.write_number(at, column, cell.value, style)
            elif cell.kind in ("date", "time"):
                sheet.write_datetime(at, column, cell.value, style)
            elif cell.kind == "boolean":
                sheet.write_boolean(at, column, cell.value)
            elif cell.kind == "error":
                sheet.write_formula(at, column, "=1/0", None, cell.value)
    book.close()
    return _with_merge(out.getvalue(), made)


def _with_merge(data: bytes, made: Made) -> bytes:
    """Merge cells as they are: the writer would empty those below the first."""
    if made.merge is None:
        return data
    top, bottom, column = made.merge
    letter = chr(ord("A") + made.margin + 1 + column)
    reference = f"{letter}{made.place(top) + 1}:{letter}{made.place(bottom) + 1}"
    tag = f'<mergeCells count="1"><mergeCell ref="{reference}"/></mergeCells>'
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            part = source.read(entry)
            if entry == "xl/worksheets/sheet1.xml":
                part = part.replace(b"</sheetData>", b"</sheetData>" + tag.encode())
            target.writestr(entry, part)
    return out.getvalue()


def _codes(made: Made) -> set[str]:
    return {cell.format for cells in made.rows for cell in cells}


def written_by_xlwt(made: Made) -> bytes:
    book = xlwt.Workbook()
    book.dates_1904 = made.since_1904
    sheet = book.add_sheet("S")
    styles = {code: xlwt.easyxf(num_format_str=code) for code in _codes(made)}
    for column, title in enumerate(titles(len(made.rows[0])), start=made.margin):
        sheet.write(0, column, title)
    for row, cells in enumerate(made.rows):
        at = made.place(row)
        sheet.write(at, made.margin, f"{PREFIX}{row}")
        for column, cell in enumerate(cells, start=made.margin + 1):
            value = cell.value
            if cell.kind in ("date", "time"):
                value = _serial(value, since_1904=made.since_1904)
            if cell.kind == "error":
                sheet.row(at).set_cell_error(column, ERROR_CODES[value])
            elif cell.kind != "empty":
                sheet.write(at, column, value, styles[cell.format])
    if made.merge is not None:
        top, bottom, column = made.merge
        at = made.margin + 1 + column
        # The writer's own merge would empty the cells below the first.
        sheet.merged_ranges.append((made.place(top), made.place(bottom), at, at))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _serial(value: date, *, since_1904: bool) -> float:
    moment = value if isinstance(value, datetime) else datetime(*value.timetuple()[:3])  # noqa: DTZ001
    epoch = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)  # noqa: DTZ001
    return (moment - epoch) / timedelta(days=1)


def ours(data: bytes) -> list[SheetPart]:
    how = SheetFormat(footer="record", group_rows="record")
    return list(read_sheets(io.BytesIO(data), how, Start(), "x"))


# --- what the others say ----------------------------------------------------------------------


def by_openpyxl(data: bytes) -> Callable[[int, int], Any]:
    book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
    sheet = book.worksheets[0]
    return lambda row, column: sheet.cell(row + 1, column + 1).value


def by_xlrd(data: bytes) -> Callable[[int, int], Any]:
    book = xlrd.open_workbook(file_contents=data, logfile=io.StringIO())
    sheet = book.sheet_by_index(0)

    def cell(row: int, column: int) -> Any:
        if row >= sheet.nrows or column >= sheet.ncols:
            return None
        kind, value = sheet.cell_type(row, column), sheet.cell_value(row, column)
        if kind == xlrd.XL_CELL_DATE:
            return xlrd.xldate_as_datetime(value, book.datemode)
        if kind == xlrd.XL_CELL_ERROR:
            return xlrd.error_text_from_code[value]
        return bool(value) if kind == xlrd.XL_CELL_BOOLEAN else value

    return cell


def by_calamine(data: bytes) -> Callable[[int, int], Any]:
    with calamine.load_workbook(io.BytesIO(data)) as book:
        sheet = book.get_sheet_by_index(0)
        rows = sheet.to_python(skip_empty_area=False)

    def cell(row: int, column: int) -> Any:
        return rows[row][column] if row < len(rows) and column < len(rows[row]) else None

    return cell


def agrees(shown: str | None, cell: Cell, said: Any) -> bool:
    """Whether what another reader says is what ours shows, in that reader's own types."""
    text = shown or ""
    if said is None or said == "":
        return text == ""
    if isinstance(said, bool):
        return text == ("TRUE" if said else "FALSE")
    if isinstance(said, datetime):
        return text == _moment(said + timedelta(milliseconds=1)) or (
            said.time() == datetime.min.time() and text[:10] == said.date().isoformat()
        )
    if isinstance(said, date):
        return text[:10] == said.isoformat()
    if isinstance(said, int | float) and cell.kind == "number":
        return float(text) == float(f"{said:.15g}")
    return text == str(said)


def compared(
    made: Made, data: bytes, others: Sequence[Callable[[bytes], Callable[[int, int], Any]]]
) -> tuple[int, int]:
    """Compare all cells; return how many agreed, and how many ours refused."""
    parts = ours(data)
    width = len(made.rows[0])
    assert [part.names[: width + 1] for part in parts] == [tuple(titles(width))]
    (part,) = parts
    assert part.rows == [made.place(row) + 1 for row in range(len(made.rows))]
    readers = [other(data) for other in others]
    agreed = refused = 0
    for row in range(len(made.rows)):
        cells = [made.expected(row, column) for column in range(width)]
        defect = part.defects[row]
        assert (defect is not None) == any(cell.shown is None for cell in cells), defect
        for column, cell in enumerate(cells):
            name = f"c{column}:"
            if cell.shown is None:
                assert defect is not None
                assert name in defect
                refused += 1
                continue
            assert defect is None or name not in defect
            value = part.columns[column + 1][row]
            if cell.kind == "date" and value is not None and value.endswith(" 00:00:00"):
                value = value[:10]  # a date among times
            if cell.kind == "time" and value == cell.shown[:10]:
                value = f"{value} 00:00:00"
            assert (value or "") == cell.shown, (cell, value)
            agreed += 1
            if _merged_away(made, row, column):
                continue
            at = (made.place(row), made.margin + 1 + column)
            for other in readers:
                assert agrees(value, cell, other(*at)), (cell, value, other(*at))
    return agreed, refused


def _merged_away(made: Made, row: int, column: int) -> bool:
    """Whether the others give the cell below the merge, or nothing."""
    return made.merge is not None and made.merge[2] == column and row > made.merge[0]


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_workbooks_read_alike_by_all(kind: str, tell: Callable[[str], None]) -> None:
    items = [0, 0, 0]
    kinds: set[str] = set()

    @seed(20_260_101)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(workbooks(width=4))
    def check(made: Made) -> None:
        if kind == "xlsx":
            data, others = written_by_xlsxwriter(made), (by_openpyxl, by_calamine)
        else:
            data, others = written_by_xlwt(made), (by_xlrd, by_calamine)
        agreed, refused = compared(made, data, others)
        kinds.update(cell.kind for cells in made.rows for cell in cells)
        items[0] += 1
        items[1] += agreed
        items[2] += refused

    check()
    assert items[0] >= EXAMPLES
    assert kinds == {"text", "number", "date", "time", "boolean", "error", "empty"}
    tell(
        f"{kind}: {items[0]:,} generated workbooks through three readers, "
        f"{items[1]:,} cells alike, {items[2]:,} refused, 0 differ in silence"
    )


@pytest.mark.soak
@seed(20_260_102)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="gb18030", exclude_characters="\0"), max_size=8),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([",", "\t", ";", "|"]),
    st.sampled_from(["utf-8", "gb18030", "utf-8-sig"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_texts_read_as_the_csv_module_reads_them(
    rows: list[list[str]], delimiter: str, encoding: str, end: str
) -> None:
    table = [
        ["甲列", "乙列", "丙列", "丁列"],
        *([f"{PREFIX}{i}", *row] for i, row in enumerate(rows)),
    ]
    text = io.StringIO(newline="")
    # Unquoted, a CR within a cell would be the end of a line to the csv module.
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows(table)
    data = text.getvalue().encode(encoding)
    codec = "utf-8" if encoding == "utf-8-sig" else encoding
    how = TextFormat(codec, delimiter, None, ("甲列",), "record", footer="record")
    parts = list(read_text(io.BytesIO(data), how, TextPosition(), "x", lambda _: None))
    reader = csv.reader(io.StringIO(data.decode(encoding), newline=""), delimiter=delimiter)
    _, *theirs = list(reader)
    here = [row for part in parts for row in part.frame.rows()]
    assert len(here) == len(theirs)
    for mine, their in zip(here, theirs, strict=True):
        if mine[-1] is None:
            assert [cell or "" for cell in mine[:4]] == their


# --- truncated --------------------------------------------------------------------------------

KINDS = ("xlsx", "xls", "xlsx by hand", "ods", "xlsb")
Read = list[tuple[tuple[str, ...], list[list[str | None]], list[str | None]]]


def whole_files() -> Iterator[tuple[str, bytes]]:
    """Yield one workbook of each format, of several hundred records."""
    chance = random.Random(7)  # noqa: S311 - a plan, no secret
    rows: list[list[Any]] = [["编码", "名称", "数量"]]
    rows += [[f"{n:05}", "大兴安岭" * chance.randint(1, 4), n * 7] for n in range(600)]
    book, old = io.BytesIO(), io.BytesIO()
    with xlsxwriter.Workbook(book) as writer:
        sheet = writer.add_worksheet()
        for number_, row in enumerate(rows):
            sheet.write_row(number_, 0, row)
    yield "xlsx", book.getvalue()
    page_book = xlwt.Workbook()
    page = page_book.add_sheet("S")
    for number_, row in enumerate(rows):
        for column, cell in enumerate(row):
            page.write(number_, column, cell)
    page_book.save(old)
    yield "xls", old.getvalue()
    yield "xlsx by hand", minimal_xlsx(rows)
    yield "ods", ods(rows, shown={})
    yield "xlsb", xlsb(rows, formats={}, errors={})


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "data"), tuple(whole_files()), ids=KINDS)
def test_cut_anywhere_a_workbook_is_refused_or_whole(
    kind: str, data: bytes, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    options = {key: getattr(SheetFormat(), key) for key in SheetFormat.__slots__}
    request = {"want": "records", "how": options, "start": (0, 0), "place": "x"}
    path = tmp_path / "x"

    def read(reader: ReaderProcess, content: bytes) -> Read | None:
        path.write_bytes(content)
        with path.open("rb") as stream:
            try:
                parts = list(reader.read(stream, request))
            except Rejected:
                return None
        return [(p["names"], p["columns"], p["defects"]) for p in parts]

    refused = whole = 0
    with ReaderProcess(memory=512, seconds=60) as reader:
        truth = read(reader, data)
        assert truth is not None
        assert sum(len(columns[0]) for _, columns, _ in truth) == 600
        for percent in PERCENTS:
            for off in (0, 1):
                items = read(reader, data[: len(data) * percent // 100 + off])
                assert items is None or items == truth, percent
                refused += items is None
                whole += items is not None
    assert refused > whole
    tell(
        f"{kind}: cut in {refused + whole} places, {refused} refused by reason, {whole} read whole"
    )
