"""Quarantine as a spreadsheet for the department, and the corrected one back.

Owner of xlsxwriter and the reader of what it wrote. The first row has Chinese titles, the
second the names by which a corrected file is read again; rows may be deleted, columns too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import xlsxwriter
from python_calamine import CalamineError, CalamineWorkbook, PasswordError
from xlsxwriter.exceptions import XlsxWriterException

from exchange.catalog.model import Resource
from exchange.durable import replacing, sync_folder
from exchange.errors import Rejected
from exchange.text import Text
from exchange.validate.quarantine import Corrections, Refused, Shown, show, visible

ADDRESS: Final = "_address"
MAX_RECORDS: Final = 1_000_000
"""A sheet has 1,048,576 rows."""
_EXACT: Final = 10**15
"""Whole numbers below this survive a spreadsheet's 15 digits."""

_ABOUT: Final = (
    (ADDRESS, "隔离编号（请勿修改）", 18),
    ("_source", "来源", 14),
    ("_locator", "位置", 30),
    ("_row", "行号", 8),
    ("_pulled_at", "取数时间", 22),
    ("_reasons", "拒收原因", 60),
)


def export(records: Iterable[Refused], resource: Resource, path: Path) -> int:
    """Write refused records, masked, to a new spreadsheet; return how many.

    Every cell is text, so nothing in a record can act as a formula, and codes keep their
    digits. Memory does not grow with the records. Raises :class:`Rejected` when there are more
    than a sheet holds, or the file cannot be written.
    """
    fields = [field.name for field in resource.fields]
    try:
        with (
            replacing(path) as file,
            xlsxwriter.Workbook(file, {"constant_memory": True}) as book,
        ):
            text = book.add_format({"num_format": "@", "text_wrap": True, "valign": "top"})
            bold = book.add_format({"bold": True, "bg_color": "#DCE6F1", "text_wrap": True})
            grey = book.add_format({"font_color": "#808080"})
            sheet = book.add_worksheet("隔离记录")
            sheet.freeze_panes(2, 1)
            widths = [width for _, _, width in _ABOUT] + [20] * len(fields)
            for column, width in enumerate(widths):
                sheet.set_column(column, column, width, text)
            titles = [title for _, title, _ in _ABOUT] + [f.title for f in resource.fields]
            names = [name for name, _, _ in _ABOUT] + fields
            for line, (cells, style) in enumerate(((titles, bold), (names, grey))):
                for column, cell in enumerate(cells):
                    sheet.write_string(line, column, visible(cell), style)
            line = 2
            for record in (shown for refused in records for shown in show(refused, resource)):
                if line >= MAX_RECORDS + 2:
                    raise _too_many()
                for column, cell in enumerate(_cells(record, fields)):
                    sheet.write_string(line, column, visible(cell), text)
                line += 1
        sync_folder(path.parent)
    except (XlsxWriterException, OSError) as error:
        raise Rejected(
            Text(f"无法写入 {path.name}", f"{path.name} cannot be written"),
            hint=Text(
                "检查文件夹是否可写、磁盘空间，并关闭已打开的文件",
                "check that the folder is writable, the disk not full, and the file not open",
            ),
        ) from error
    return line - 2


def _cells(record: Shown, fields: Sequence[str]) -> list[str]:
    reasons = "；".join(reason["zh"] for reason in record.reasons)
    about = [record.address, record.source, record.locator]
    row = "" if record.row is None else str(record.row)
    return [*about, row, record.pulled_at, reasons, *(record.values.get(n, "") for n in fields)]


def _too_many() -> Rejected:
    return Rejected(
        Text(f"超过 {MAX_RECORDS} 条，一个表格放不下", f"more than {MAX_RECORDS} records"),
        hint=Text("按来源或日期分次导出", "export by source or by date, one at a time"),
    )


def read_corrections(path: Path) -> Corrections:
    """Read a corrected spreadsheet (xlsx, xls, ods or CSV) that :func:`export` wrote.

    Raises :class:`Rejected` when it is none, or when a number in it has lost digits.
    """
    lines = iter(_csv(path) if path.suffix.lower() == ".csv" else _workbook(path))
    names = next((line for line in lines if ADDRESS in line), None)
    if names is None:
        raise Rejected(
            Text(f"{path.name} 中没有隔离编号列", f"{path.name} has no column {ADDRESS}"),
            hint=Text(
                "请在导出的表格上修改，保留第二行的列名",
                "correct the exported spreadsheet itself, and keep the names in its second row",
            ),
        )
    about = {name for name, _, _ in _ABOUT}
    read = (dict(zip(names, line, strict=False)) for line in lines)
    return {
        cells[ADDRESS].strip(): {n: cell for n, cell in cells.items() if n and n not in about}
        for cells in read
        if cells.get(ADDRESS, "").strip()
    }


def _csv(path: Path) -> list[list[str]]:
    try:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("gb18030")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path) from error


def _workbook(path: Path) -> Iterator[list[str]]:
    try:
        with CalamineWorkbook.from_path(path) as book:
            rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (CalamineError, PasswordError, OSError) as error:
        raise _unreadable(path) from error
    for line, row in enumerate(rows, start=1):
        yield [_cell(value, path, line) for value in row]


def _cell(value: object, path: Path, line: int) -> str:
    """Write a cell as the text that a person sees in it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() if abs(value) >= _EXACT:
            raise Rejected(
                Text(
                    f"{path.name} 第 {line} 行有被转成数值的长编码，末几位已丢失",
                    f"{path.name}, row {line}: a long code became a number and lost digits",
                ),
                hint=Text(
                    "把单元格设为文本格式后重新填写该编码",
                    "format the cell as text and write the code again",
                ),
            )
        case float() if value.is_integer():
            return str(int(value))
        case datetime():
            return value.isoformat(" ")
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _unreadable(path: Path) -> Rejected:
    return Rejected(
        Text(f"{path.name} 无法读取", f"{path.name} cannot be read"),
        hint=Text(
            "须为 xlsx、xls、ods 或 CSV（UTF-8 或 GB18030），不加密",
            "it must be xlsx, xls, ods or CSV (UTF-8 or GB18030), without a password",
        ),
    )
