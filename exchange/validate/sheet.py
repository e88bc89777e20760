"""Quarantine as a spreadsheet for the department, and the corrected one back.

Owner of xlsxwriter. The first sheet explains the second, which has the records: its first row
has Chinese titles, its second the names by which a corrected file is read again; rows may be
deleted, columns too. Cells that were refused are marked; code tables are offered as lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from exchange.catalog.model import CodeTable, Resource
from exchange.durable import replacing, sync_folder
from exchange.errors import Rejected
from exchange.text import Text
from exchange.validate.refused_records import Corrections, RecordView, RefusedRecords, show, visible

ADDRESS: Final = "_address"
MAX_RECORDS: Final = 1_000_000
"""A sheet has 1,048,576 rows."""
SHEET: Final = "隔离记录"
"""Name of the sheet that has the records."""
_CODES: Final = "代码表"
_MARKED: Final = "#FFC7CE"

_ABOUT: Final = (
    (ADDRESS, "隔离编号（请勿修改）", 18),
    ("_source", "来源", 14),
    ("_locator", "位置", 30),
    ("_row", "行号", 8),
    ("_pulled_at", "取数时间", 22),
    ("_reasons", "拒收原因", 60),
)


_EXPLAINED: Final = (
    "本表为未通过检验、尚未共享的记录，请核对后改正。",
    f"1. 在工作表“{SHEET}”中修改；红色底色的单元格是被拒收的值，“拒收原因”列说明原因。",
    "2. 有代码表的列可从下拉列表选择代码，代码的含义见工作表“代码表”。",
    "3. 带 * 的单元格已脱敏：不改动即保留真实值；须更正时填写完整的新值。",
    "4. 不需要送回的行可整行删除；请勿修改第一列（隔离编号）和第二行（列名）。",
    "5. 所有单元格均为文本格式，长编码请勿改为数值，否则末几位会丢失。",
    "6. 改完后保存为 xlsx 或 CSV，交数据管理部门送回：exchange quarantine replay 资源 --file 文件",
    "These records were refused. Correct the marked cells on the second sheet; keep its first",
    "column and its second row; delete rows that are not to be sent back; return the file.",
)


def export(
    records: Iterable[RefusedRecords],
    resource: Resource,
    path: Path,
    tables: Mapping[str, CodeTable] = MappingProxyType({}),
) -> int:
    """Write refused records, masked, to a new spreadsheet; return how many.

    Every cell is text, so nothing in a record can act as a formula, and codes keep their
    digits. Memory does not grow with the records. Raises :class:`Rejected` when there are more
    than a sheet holds, or the file cannot be written.
    """
    if path.suffix.lower() != ".xlsx":
        raise Rejected(
            Text(f"{path.name} 不是 .xlsx 文件名", f"{path.name} is no name of an .xlsx file"),
            hint=Text("文件名以 .xlsx 结尾", "let the name end in .xlsx"),
        )
    try:
        with (
            replacing(path) as file,
            xlsxwriter.Workbook(file, {"constant_memory": True}) as book,
        ):
            _explain(book, resource)
            sheet = book.add_worksheet(SHEET)
            sheet.activate()
            count = _Records(book, sheet, resource).write(records)
            _offer(book, sheet, resource, tables, count)
        sync_folder(path.parent)
    except (XlsxWriterException, OSError) as error:
        raise Rejected(
            Text(f"无法写入 {path.name}", f"{path.name} cannot be written"),
            hint=Text(
                "检查文件夹是否可写、磁盘空间，并关闭已打开的文件",
                "check that the folder is writable, the disk not full, and the file not open",
            ),
        ) from error
    return count


def _explain(book: xlsxwriter.Workbook, resource: Resource) -> None:
    sheet = book.add_worksheet("说明")
    sheet.set_column(0, 0, 100)
    title = book.add_format({"bold": True, "font_size": 14})
    text = book.add_format({"text_wrap": True, "valign": "top"})
    sheet.write_string(0, 0, visible(f"{resource.title}（{resource.name}）：被拒收的记录"), title)
    for line, sentence in enumerate(_EXPLAINED, start=2):
        sheet.write_string(line, 0, sentence, text)


def _offer(
    book: xlsxwriter.Workbook,
    sheet: Worksheet,
    resource: Resource,
    tables: Mapping[str, CodeTable],
    count: int,
) -> None:
    """Offer the codes of each field that has a code table as a drop-down list."""
    names = {field.type.table for field in resource.fields} & tables.keys()
    code_tables = [tables[name] for name in sorted(filter(None, names))]
    if not code_tables or not count:
        return
    codes = book.add_worksheet(_CODES)
    bold = book.add_format({"bold": True})
    items = [list(table.values.items()) for table in code_tables]
    for line in range(max(map(len, items)) + 1):  # row by row: that is how they are written out
        for place, (table, pairs) in enumerate(zip(code_tables, items, strict=True)):
            codes.set_column(2 * place, 2 * place + 1, 20) if line == 0 else None
            head = (table.title, "含义")
            cells = head if line == 0 else pairs[line - 1] if line <= len(pairs) else ()
            for column, cell in enumerate(cells):
                style = bold if line == 0 else None
                codes.write_string(line, 2 * place + column, visible(cell), style)
    for column, field in enumerate(resource.fields, start=len(_ABOUT)):
        offered = tables.get(field.type.table or "")
        if offered is None:
            continue
        place = code_tables.index(offered)
        letter = xl_col_to_name(2 * place, col_abs=True)
        last = len(items[place]) + 1
        sheet.data_validation(
            *(2, column, count + 1, column),
            {
                "validate": "list",
                "source": f"='{_CODES}'!{letter}$2:{letter}${last}",
                "error_type": "warning",
                "error_title": "不在代码表中",
                "error_message": "请从列表中选择代码",
            },
        )


@dataclass
class _Records:
    """The sheet with the records."""

    book: xlsxwriter.Workbook
    sheet: Worksheet
    resource: Resource

    def write(self, records: Iterable[RefusedRecords]) -> int:
        """Write titles, names and records; return how many records."""
        book, sheet, resource = self.book, self.sheet, self.resource
        fields = [field.name for field in resource.fields]
        shape = {"num_format": "@", "text_wrap": True, "valign": "top"}
        text = book.add_format(shape)
        marked = book.add_format(shape | {"bg_color": _MARKED})
        bold = book.add_format({"bold": True, "bg_color": "#DCE6F1", "text_wrap": True})
        grey = book.add_format({"font_color": "#808080"})
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
        for record in (
            record_view for message in records for record_view in show(message, resource)
        ):
            if line >= MAX_RECORDS + 2:
                raise _too_many()
            wrong = {name for reason in record.reasons for name in reason["field"].split(",")}
            for column, cell in enumerate(_cells(record, fields)):
                style = marked if names[column] in wrong else text
                sheet.write_string(line, column, visible(cell), style)
            line += 1
        return line - 2


def _cells(record: RecordView, fields: Sequence[str]) -> list[str]:
    reasons = "；".join(reason["zh"] for reason in record.reasons)
    about = [record.address, record.source, record.locator]
    row = "" if record.row is None else str(record.row)
    return [*about, row, record.pulled_at, reasons, *(record.values.get(n, "") for n in fields)]


def _too_many() -> Rejected:
    return Rejected(
        Text(f"超过 {MAX_RECORDS} 条，一个表格放不下", f"more than {MAX_RECORDS} records"),
        hint=Text("按来源或日期分次导出", "export by source or by date, one at a time"),
    )


def corrections_of(lines: Iterable[Sequence[str]], name: str) -> Corrections:
    """Take the corrections out of the rows of a file that :func:`export` wrote.

    Raises :class:`Rejected` when it is none.
    """
    rows = iter(lines)
    names = next((line for line in rows if ADDRESS in line), None)
    if names is None:
        raise Rejected(
            Text(f"{name} 中没有隔离编号列", f"{name} has no column {ADDRESS}"),
            hint=Text(
                "请在导出的表格上修改，保留第二行的列名",
                "correct the exported spreadsheet itself, and keep the names in its second row",
            ),
        )
    about = {column for column, _, _ in _ABOUT}
    records = (dict(zip(names, line, strict=False)) for line in rows)
    return {
        cells[ADDRESS].strip(): {n: cell for n, cell in cells.items() if n and n not in about}
        for cells in records
        if cells.get(ADDRESS, "").strip()
    }
