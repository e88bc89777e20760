"""Tables out of a workbook, whatever its format: choose sheets, find the header, cut frames.

A reader of a format gives a :class:`Book`: sheets with rows of cells, counted from column A,
and the ranges of merged cells. Everything that makes a table of it happens here, once. Cells
outside of the table's columns, unread sheets, titles, group rows and footers become notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import islice
from typing import NamedTuple

from exchange.connectors.files.formats import Odd, Value
from exchange.connectors.files.layout import (
    HEAD_ROWS,
    Layout,
    Remark,
    bounded,
    find_layout,
    is_footer,
    is_group,
    is_header,
    note,
    squeezed,
)
from exchange.errors import Misconfigured, Rejected
from exchange.text import Text, suggest

SheetRow = list[Value | None]
SheetRows = Iterator[tuple[int, SheetRow]]
"""(1-based row, cells from column A); rows without cells may be left out."""

ALL = "all"
MAX_WORKBOOK_BYTES = 128 * 1024 * 1024
"""What is larger is not opened."""
_MAX_OUTSIDE = 20
"""Cells outside of the table that are told one by one, for each frame."""


class Range(NamedTuple):
    """Merged cells: rows count from 1, columns from 0, both ends included."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet; ``rows`` and ``merges`` read it from the start each time they are called."""

    name: str
    rows: Callable[[], SheetRows]
    merges: Callable[[], Sequence[Range]] = tuple
    visible: bool = True

    def filled(self) -> bool:
        """Whether any cell is filled."""
        return any(cell not in (None, "") for _, cells in self.rows() for cell in cells)


@dataclass(frozen=True, slots=True)
class Book:
    """A workbook: its sheets in order, without charts and macros."""

    sheets: Sequence[Sheet]
    notes: tuple[Remark, ...] = ()
    is_table: bool = False
    """Whether it is one table of a database: names in row 1, then a record in each row."""

    def format(self, how: SheetFormat) -> SheetFormat:
        """Return how it is read: of a database's table nothing has to be found out."""
        if not self.is_table:
            return how
        return replace(how, header=1, group_rows="record", footer="record")


@dataclass(frozen=True, slots=True)
class SheetFormat:
    """How to read: empty values are found out from the sheet."""

    sheet: str | int | None = None
    sheets: str | tuple[str | int, ...] | None = None
    header: int | None = None
    columns: tuple[str, ...] = ()
    group_rows: str = "note"
    footer: str = "note"
    further: str = "header"
    batch_rows: int = 20_000


class Start(NamedTuple):
    """Where reading goes on: which of the chosen sheets, behind which row."""

    sheet: int = 0
    row: int = 0


class SheetPart(NamedTuple):
    """A frame of records as columns of text, what was no record, and the last row read."""

    sheet: str
    at: Start
    names: tuple[str, ...]
    columns: list[list[str | None]]
    rows: list[int]
    defects: list[str | None]
    notes: tuple[Remark, ...]


def read_book(book: Book, how: SheetFormat, start: Start, place: str) -> Iterator[SheetPart]:
    """Yield the parts of the chosen sheets behind ``start``.

    All headers are found before the first record is given; of several sheets each header comes
    first as a part without records, so that whoever reads may refuse the workbook as a whole.

    Raises Misconfigured when a sheet or a header is not found (the sheets there are stand in
    the hint), Rejected when all sheets are empty.
    """
    how = book.format(how)
    chosen, notes = _choose(book, how, place)
    tables: list[SheetTable] = []
    for sheet in chosen:
        first = tables[0] if tables else None
        try:
            tables.append(SheetTable.open(sheet, how, f"{place}/{sheet.name}", first))
        except Misconfigured as error:
            raise _with_sheets(error, book) from error
    if len(tables) > 1 and start == Start():
        yield from (table.header() for table in tables)
    for index, table in enumerate(tables):
        if index < start.sheet:
            continue
        behind = start.row if index == start.sheet else 0
        told = (*notes, *table.layout.notes) if behind == 0 else ()
        for part in table.parts(max(behind, table.layout.header), index):
            yield part._replace(notes=(*told, *part.notes))
            told = ()
        notes = ()


@dataclass(slots=True)
class SheetTable:
    """A sheet whose header is found: its columns begin at column ``left``."""

    sheet: Sheet
    how: SheetFormat
    where: str
    layout: Layout
    left: int

    @classmethod
    def open(
        cls, sheet: Sheet, how: SheetFormat, where: str, first: SheetTable | None
    ) -> SheetTable:
        """Look at the first rows; a further sheet without header takes the first one's."""
        head = list(islice(_consecutive(sheet.rows()), HEAD_ROWS))
        if first is not None and how.further == "continue":
            return cls(sheet, how, where, Layout(0, first.layout.names, ()), first.left)
        used = [_used(cells) for _, cells in head]
        filled = [columns for columns in used if columns]
        left = min((columns[0] for columns in filled), default=0)
        width = max((columns[-1] + 1 for columns in filled), default=0)
        if how.header == 0:
            return cls(sheet, how, where, Layout(0, tuple(how.columns), ()), left)
        rows = [
            (number, [_text(cell) for cell in _padded(cells, width)[left:]])
            for number, cells in head
        ]
        try:
            layout = find_layout(rows, how.columns, how.header, where)
        except Misconfigured as error:
            if first is None:
                raise
            raise _other_columns(first, next(filter(any, (c for _, c in rows))), where) from error
        if first is not None and _differ(first.layout.names, layout.names):
            raise _other_columns(first, layout.names, where)
        missing = width - left - len(layout.names)
        if missing > 0:  # cells right of the last title, within the first rows
            extra = range(len(layout.names) + 1, width - left + 1)
            names = (*layout.names, *(f"column_{number}" for number in extra))
            layout = Layout(layout.header, names, layout.notes)
        return cls(sheet, how, where, layout, left)

    def header(self) -> SheetPart:
        """Return the header as a part without records."""
        return self._part([], Start())

    def parts(self, behind: int, index: int) -> Iterator[SheetPart]:
        """Yield frames of at most ``batch_rows`` rows behind a row."""
        merges = [r for r in self.sheet.merges() if r.top > self.layout.header]
        rows = _merged(self.sheet.rows(), merges)
        rows = ((number, cells) for number, cells in rows if number > behind)
        last = behind
        while True:
            chunk = list(islice(rows, self.how.batch_rows))
            last = chunk[-1][0] if chunk else last
            yield self._part(chunk, Start(index, last))
            if len(chunk) < self.how.batch_rows:
                return

    def _part(self, chunk: list[tuple[int, SheetRow]], at: Start) -> SheetPart:
        width = len(self.layout.names)
        records: list[tuple[int, SheetRow]] = []
        notes: list[Remark] = []
        outside: list[tuple[int, int, str]] = []
        for number, cells in chunk:
            inner = cells
            if self.left or len(cells) != width:
                inner = _padded(cells, self.left + width)[self.left : self.left + width]
                outside += _outside(number, cells, self.left, self.left + width)
            if not any(inner):  # no value is false but an empty text
                continue
            if self.how.group_rows == "note" and is_group(inner):
                notes.append(note(number, "group", _text(inner[0])))
            elif self.how.footer == "note" and is_footer([_first_text(inner)]):
                text = " ".join(_text(cell) for cell in inner if cell not in (None, ""))
                notes.append(note(number, "footer", text))
            elif is_header(inner, self.layout.names):
                notes.append(note(number, "header", " ".join(map(_text, inner))))
            else:
                records.append((number, inner))
        columns, defects = _columns(self.layout.names, records)
        return SheetPart(
            self.sheet.name,
            at,
            self.layout.names,
            columns,
            [number for number, _ in records],
            defects,
            (*bounded(notes, self.where), *_told(outside)),
        )


def _differ(first: Sequence[str], here: Sequence[str]) -> bool:
    return 2 * len(set(first) & set(here)) < len(first)


def _other_columns(first: SheetTable, titles: Sequence[str], where: str) -> Misconfigured:
    """Return the error for a further sheet: another table, or records without a header."""
    there, here = ", ".join(first.layout.names), ", ".join(titles)
    return Misconfigured(
        Text(
            f"{where} 的列（{here}）不同于 {first.sheet.name}（{there}）",
            f"{where} has the columns {here}, unlike {first.sheet.name}: {there}",
        ),
        hint=Text(
            "如果它没有表头、接着前一个工作表，请设置 further_sheets: continue；"
            "否则请用 sheets 写明要读取的工作表",
            "if it goes on without a header, set further_sheets: continue; "
            "if not, name the sheets to read with sheets",
        ),
    )


def _columns(
    names: Sequence[str], records: list[tuple[int, SheetRow]]
) -> tuple[list[list[str | None]], list[str | None]]:
    """Print the records by columns; return them, and what is wrong with each record."""
    defects: list[str | None] = [None] * len(records)
    columns = [list(values) for values in zip(*(cells for _, cells in records), strict=True)]
    printed = [
        _column(name, values, defects)
        for name, values in zip(names, columns or [[] for _ in names], strict=True)
    ]
    return printed, defects


def _column(name: str, values: list[Value | None], defects: list[str | None]) -> list[str | None]:
    """Print a column, by kinds of values where there is but one."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str} and "\0" not in "".join(filter(None, values)):  # type: ignore[arg-type]
        return [value or None for value in values]  # type: ignore[misc]
    if kinds <= {date}:
        return [_text(value) or None for value in values]
    texts: list[str | None] = []
    for place, value in enumerate(values):
        if type(value) is str and "\0" not in value:
            texts.append(value or None)
            continue
        if type(value) is str:
            value = Odd(value, "a NUL character")  # noqa: PLW2901 - told like the others
        if isinstance(value, Odd) and value.defect:
            defect = f"{name}: {value.defect}"
            defects[place] = "; ".join(filter(None, (defects[place], defect)))
        # A date among times is one at midnight.
        midnight = datetime in kinds and type(value) is date
        texts.append(f"{_text(value)} 00:00:00" if midnight else _text(value) or None)
    return texts


def _first_text(cells: SheetRow) -> str:
    """Return the text of the first cell that is filled."""
    return next((text for cell in cells if cell and (text := _text(cell)).strip()), "")


def _text(cell: Value | None) -> str:
    """Print a cell; dates and times as ISO 8601, with a blank between the two."""
    if cell is None:
        return ""
    if isinstance(cell, Odd):
        return cell.text
    if isinstance(cell, datetime):
        fine = "milliseconds" if cell.microsecond else "seconds"
        return cell.isoformat(" ", fine)
    return str(cell)


def _padded(cells: SheetRow, width: int) -> SheetRow:
    return cells if len(cells) >= width else cells + [None] * (width - len(cells))


def _used(cells: SheetRow) -> list[int]:
    return [column for column, cell in enumerate(cells) if cell not in (None, "")]


def _consecutive(rows: SheetRows) -> SheetRows:
    """Fill in the rows that were left out, as far as a header is looked for."""
    expected = 1
    for number, cells in rows:
        while expected < min(number, HEAD_ROWS + 1):
            yield expected, []
            expected += 1
        expected = number + 1
        yield number, cells


def _merged(rows: SheetRows, ranges: Sequence[Range]) -> SheetRows:
    """Let cells that are merged downwards (合并单元格) count for each of their rows.

    A row that has nothing else is none: a merge over a blank line makes no record of it.
    """
    down = sorted(r for r in ranges if r.bottom > r.top)
    if not down:
        yield from rows
        return
    at = 0
    open_ranges: list[tuple[Range, Value | None]] = []
    for number, cells in rows:
        while at < len(down) and down[at].top <= number:
            merged = down[at]
            at += 1
            seen = merged.top == number and merged.left < len(cells)
            open_ranges.append((merged, cells[merged.left] if seen else None))
        open_ranges = [(r, value) for r, value in open_ranges if r.bottom >= number]
        for merged, value in open_ranges if _used(cells) else ():
            cells = _padded(cells, merged.left + 1)  # noqa: PLW2901 - the row grows
            cells[merged.left] = value
        yield number, cells


def _outside(number: int, cells: SheetRow, left: int, end: int) -> Iterator[tuple[int, int, str]]:
    for column, cell in enumerate(cells):
        if cell not in (None, "") and not left <= column < end:
            yield number, column, _text(cell)


def _told(outside: list[tuple[int, int, str]]) -> Iterator[Remark]:
    """Name cells outside of the table; many of them are counted."""
    for number, column, text in outside[:_MAX_OUTSIDE]:
        yield note(number, "outside", f"{letters(column)}{number}: {text}")
    if len(outside) > _MAX_OUTSIDE:
        number, column, _ = outside[_MAX_OUTSIDE]
        more = len(outside) - _MAX_OUTSIDE
        yield note(number, "outside", f"{letters(column)}{number} … (+{more})")


def letters(column: int) -> str:
    """Return the letters of a column: 0 is A, 16383 is XFD."""
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _choose(book: Book, how: SheetFormat, place: str) -> tuple[list[Sheet], tuple[Remark, ...]]:
    """Return the wanted sheets, or the first that looks like a table; name the others."""
    filled = [sheet for sheet in book.sheets if sheet.filled()]
    visible = [sheet for sheet in filled if sheet.visible]
    if how.sheets == ALL:
        chosen = visible
    elif how.sheets is not None:
        chosen = [_named(book, wanted, place) for wanted in how.sheets]
    elif how.sheet is not None:
        chosen = [_named(book, how.sheet, place)]
    else:
        chosen = visible[:1]
        chosen = [s for s in visible if _suits(s, how.columns)][:1] or chosen
    if not chosen:
        hidden = "、".join(sheet.name for sheet in filled)
        raise Rejected(
            Text(
                f"{place} 的工作表都是空的" + (f"或隐藏的：{hidden}" if hidden else ""),
                f"{place}: all sheets are empty" + (f" or hidden: {hidden}" if hidden else ""),
            ),
            hint=Text(
                "请检查该文件；要读取隐藏的工作表，请用 sheet 写明",
                "look at that file; name a hidden sheet with sheet to read it",
            ),
        )
    names = {id(sheet) for sheet in chosen}
    others = [sheet for sheet in filled if id(sheet) not in names]
    told = [note(0, "sheet" if s.visible else "hidden sheet", s.name) for s in others]
    return chosen, (*book.notes, *told)


def _suits(sheet: Sheet, columns: Sequence[str]) -> bool:
    """Whether the first rows hold the columns, or, unless they are known, more than prose."""
    head = [cells for _, cells in islice(sheet.rows(), HEAD_ROWS)]
    if not columns:
        return sum(len(_used(cells)) > 1 for cells in head) > 1
    wanted = {squeezed(name) for name in columns}
    return any(wanted <= {squeezed(_text(cell)) for cell in cells} for cells in head)


def _named(book: Book, wanted: str | int, place: str) -> Sheet:
    names = [sheet.name for sheet in book.sheets]
    if isinstance(wanted, int) and 1 <= wanted <= len(names):
        return book.sheets[wanted - 1]
    if wanted in names:
        return book.sheets[names.index(str(wanted))]
    near = suggest(str(wanted), names)
    there = ", ".join(names)
    raise Misconfigured(
        Text(f"{place} 没有工作表 {wanted}", f"{place} has no sheet {wanted}"),
        hint=Text(
            f"请修改 sheet。{near.zh} 有：{there}", f"edit sheet: {near.en} there are: {there}"
        ),
    )


def _with_sheets(error: Misconfigured, book: Book) -> Misconfigured:
    """Add which sheets there are: perhaps another one was meant."""
    if len(book.sheets) <= 1:
        return error
    there = ", ".join(s.name + ("" if s.visible else " (hidden)") for s in book.sheets)
    return Misconfigured(
        error.what,
        hint=Text(
            f"{error.hint.zh}；工作表有：{there}，可用 sheet 写明",
            f"{error.hint.en}; the sheets are: {there}; name one with sheet",
        ),
    )


def kept(rows: Iterable[tuple[int, SheetRow]]) -> Callable[[], SheetRows]:
    """Return ``rows`` of a sheet that is small enough to be kept."""
    known = list(rows)
    return lambda: ((number, list(cells)) for number, cells in known)
