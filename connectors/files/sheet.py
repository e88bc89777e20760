"""Spreadsheets (xlsx, xls, xlsb, ods) as frames of text, the way a person reads the cells.

Whole numbers come without ``.0``, exactly. Excel keeps 15 significant digits: a longer number
has lost its end before it reached us, and ``_defect`` says so. Dates come as ISO text. A cell
merged over several rows counts for each of them.
"""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import polars as pl
import python_calamine as calamine

from exchange.connect import Misconfigured, Note, Rejected, Text, suggest
from exchange.connectors.files.layout import (
    DEFECT,
    HEAD_ROWS,
    ROW,
    Layout,
    bounded,
    find_layout,
    is_group,
    note,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_UNZIPPED = 512 * 1024 * 1024
"""What a workbook may unfold to; a megabyte of zeros packs into a kilobyte."""
MAX_WORKBOOK_BYTES = 128 * 1024 * 1024
_EXACT = 10**15
"""Excel keeps 15 significant digits."""

Cells = list[Any]


class SheetPart(NamedTuple):
    """A frame of records, what was no record, and the last row read."""

    frame: pl.DataFrame
    notes: tuple[Note, ...]
    row: int


class SheetFormat(NamedTuple):
    """How to read: empty values are found out from the sheet."""

    sheet: str | int | None
    header: int | None
    columns: tuple[str, ...]
    group_rows: str
    batch_rows: int


def read_sheet(
    stream: BinaryIO, how: SheetFormat, start: int, place: str
) -> Iterator[tuple[str, SheetPart]]:
    """Yield (sheet name, part) of the chosen sheet, behind row ``start``.

    Raises Rejected for a damaged, locked or swollen workbook, Misconfigured when the sheet or
    its header is not found.
    """
    with _border(place):
        _check_size(stream, place)
        with calamine.load_workbook(stream) as book:
            sheet, notes = _choose(book, how.sheet, place)
            where = f"{place}/{sheet.name}"
            rows = [
                (number, [_shown(cell) for cell in cells])
                for number, cells in enumerate(islice(sheet.iter_rows(), HEAD_ROWS), start=1)
            ]
            layout = find_layout(rows, how.columns, how.header, where)
            notes = (*notes, *layout.notes) if start == 0 else ()
            for part in _parts(sheet, layout, max(start, layout.header), how, where):
                yield sheet.name, part._replace(notes=(*notes, *part.notes))
                notes = ()


def _parts(
    sheet: calamine.CalamineSheet, layout: Layout, behind: int, how: SheetFormat, where: str
) -> Iterator[SheetPart]:
    merged = _merged(sheet)
    rows = islice(enumerate(sheet.iter_rows(), start=1), behind, None)
    while True:
        chunk = list(islice(rows, how.batch_rows))
        records: list[tuple[int, Cells]] = []
        notes: list[Note] = []
        for number, cells in chunk:
            for column, value in merged.get(number, ()):
                cells[column] = value
            if how.group_rows == "note" and is_group(cells):
                notes.append(note(number, "group", _shown(cells[0])))
            elif any(cell != "" for cell in cells):
                records.append((number, cells))
        last = chunk[-1][0] if chunk else behind
        yield SheetPart(_frame(layout.names, records), bounded(notes, where), last)
        if len(chunk) < how.batch_rows:
            return


def _frame(names: Sequence[str], records: list[tuple[int, Cells]]) -> pl.DataFrame:
    defects: list[str | None] = [None] * len(records)
    made = []
    for index, name in enumerate(names):
        values = [cells[index] if index < len(cells) else "" for _, cells in records]
        timed = any(isinstance(value, datetime) for value in values)
        texts: list[str | None] = []
        for place, value in enumerate(values):
            if isinstance(value, int | float) and abs(value) >= _EXACT:
                told = f"{name}: Excel kept 15 digits of {_shown(value)}, the rest are lost"
                defects[place] = "; ".join(filter(None, (defects[place], told)))
            # A date among times is one at midnight.
            midnight = timed and isinstance(value, date) and not isinstance(value, datetime)
            texts.append(f"{_shown(value)} 00:00:00" if midnight else _shown(value) or None)
        made.append(pl.Series(name, texts, dtype=pl.String))
    made.append(pl.Series(ROW, [number for number, _ in records], dtype=pl.Int64))
    made.append(pl.Series(DEFECT, defects, dtype=pl.String))
    return pl.DataFrame(made)


def _shown(value: Any) -> str:
    """Return a cell as a person reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{Decimal(f'{value:.15g}'):f}"
    # Dates and times print as ISO 8601, with a blank between the two.
    return str(value)


def _merged(sheet: calamine.CalamineSheet) -> dict[int, list[tuple[int, Any]]]:
    """Return, by row, the values of cells that are merged downwards (合并单元格)."""
    ranges = [r for r in sheet.merged_cell_ranges or () if r[1][0] > r[0][0]]
    if not ranges or sheet.start is None:
        return {}
    left = sheet.start[1]
    tops = {start[0] for start, _ in ranges}
    wanted = {n: cells for n, cells in enumerate(sheet.iter_rows()) if n in tops}
    out: dict[int, list[tuple[int, Any]]] = {}
    for (top, column), (bottom, _) in ranges:
        value = wanted[top][column - left]
        for row in range(top + 1, bottom + 1):
            out.setdefault(row + 1, []).append((column - left, value))
    return out


def _choose(
    book: calamine.CalamineWorkbook, wanted: str | int | None, place: str
) -> tuple[calamine.CalamineSheet, tuple[Note, ...]]:
    """Return the wanted sheet, or the first visible one that has cells; name the others."""
    names = book.sheet_names
    if isinstance(wanted, int) and 1 <= wanted <= len(names):
        return book.get_sheet_by_index(wanted - 1), ()
    if wanted in names:
        return book.get_sheet_by_name(str(wanted)), ()
    if wanted is not None:
        near = suggest(str(wanted), names)
        raise Misconfigured(
            Text(f"{place} 没有工作表 {wanted}", f"{place} has no sheet {wanted}"),
            hint=Text(f"请修改 sheet。{near.zh}", f"edit sheet: {near.en}"),
        )
    filled = [
        sheet
        for meta in book.sheets_metadata
        if meta.visible == calamine.SheetVisibleEnum.Visible
        and meta.typ == calamine.SheetTypeEnum.WorkSheet
        and (sheet := book.get_sheet_by_name(meta.name)).height
    ]
    if not filled:
        raise Rejected(
            Text(f"{place} 的工作表都是空的", f"{place}: all sheets are empty"),
            hint=Text("请检查该文件", "look at that file"),
        )
    others = tuple(note(0, "sheet", sheet.name) for sheet in filled[1:])
    return filled[0], others


def _check_size(stream: BinaryIO, place: str) -> None:
    """Refuse a workbook that unfolds to more than memory should hold, by really unfolding it."""
    size = stream.seek(0, 2)
    stream.seek(0)
    packed = stream.read(2) == b"PK"
    stream.seek(0)
    if size > MAX_WORKBOOK_BYTES:
        raise _swollen(place)
    if not packed:
        return
    total = 0
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as member:
                while data := member.read(1 << 20):
                    total += len(data)
                    if total > MAX_UNZIPPED:
                        raise _swollen(place)
    stream.seek(0)


def _swollen(place: str) -> Rejected:
    return Rejected(
        Text(f"工作簿 {place} 过大或是压缩炸弹", f"the workbook {place} is too big, or a zip bomb"),
        hint=Text("请拆分，或另存为 CSV", "split it, or save it as CSV"),
    )


@contextmanager
def _border(place: str) -> Iterator[None]:
    """Turn errors of the spreadsheet libraries into ours."""
    try:
        yield
    except calamine.PasswordError as error:
        raise Rejected(
            Text(f"工作簿 {place} 有密码", f"the workbook {place} has a password"),
            hint=Text("请去掉密码后重新放入", "remove the password and drop it again"),
        ) from error
    except (calamine.CalamineError, zipfile.BadZipFile, NotImplementedError) as error:
        raise Rejected(
            Text(f"工作簿 {place} 已损坏：{error}", f"the workbook {place} is damaged: {error}"),
            hint=Text("请重新导出该文件", "export the file again"),
        ) from error
