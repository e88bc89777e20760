"""A corrected spreadsheet read back: it comes from outside, so a limited process reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exchange.durable import read_file
from exchange.errors import Misconfigured, Rejected
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.connectors.files.process import ReaderProcess
    from exchange.validate.refused_records import Corrections

MAX_BYTES: Final = 128 * 1024 * 1024
"""Largest file that is read."""
_MEMORY: Final = 2_048
_SECONDS: Final = 600
_HEADERS: Final = (2, 1, 3, 4)
"""Rows in which the names may stand; they were written into the second."""


def read_corrections(path: Path) -> Corrections:
    """Read a corrected spreadsheet (xlsx, xls, ods or CSV) that the export wrote.

    Raises Rejected when it is none, when a cell in it cannot be read for sure, as a long code
    that became a number, or when reading it takes more than the limits.
    """
    from exchange.validate.sheet import corrections_of

    try:
        data = read_file(path, MAX_BYTES)
        lines = _csv(data) if path.suffix.lower() == ".csv" else _workbook(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path) from error
    return corrections_of(lines, path.name)


def _csv(data: bytes) -> list[list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def _workbook(path: Path) -> list[list[str]]:
    """Return the names and the rows of the sheet with the records."""
    from exchange.connectors.files.process import ReaderProcess
    from exchange.validate.sheet import ADDRESS, SHEET

    with ReaderProcess(memory=_MEMORY, seconds=_SECONDS) as reader:
        for sheet in (SHEET, None):
            for header in _HEADERS:
                lines = _lines(reader, path, sheet, header)
                if lines and ADDRESS in lines[0]:
                    return lines
    return []


def _lines(reader: ReaderProcess, path: Path, sheet: str | None, header: int) -> list[list[str]]:
    """Return names and rows with the names in row ``header``; empty when there are none."""
    from exchange.connectors.files.book import SheetFormat

    how = SheetFormat(sheet=sheet, header=header, group_rows="record", footer="record")
    plain = {key: getattr(how, key) for key in SheetFormat.__slots__}
    request = {"want": "records", "how": plain, "start": (0, 0), "place": path.name}
    lines: list[list[str]] = []
    try:
        with path.open("rb") as stream:
            for part in reader.read(stream, request):
                lines = lines or [part["names"]]
                lines += _rows(part, path.name)
    except Misconfigured:
        return []  # no such sheet, or no such row
    return lines


def _rows(part: Mapping[str, Any], name: str) -> Iterator[list[str]]:
    for row, defect, *cells in zip(part["rows"], part["defects"], *part["columns"], strict=True):
        if defect is not None:
            raise Rejected(
                Text(f"{name} 第 {row} 行：{defect}", f"{name}, row {row}: {defect}"),
                hint=Text(
                    "请改正该单元格；编码须为文本格式，不要用公式",
                    "mend that cell; codes are text, and no formulas",
                ),
            )
        yield [cell or "" for cell in cells]


def _unreadable(path: Path) -> Rejected:
    return Rejected(
        Text(f"{path.name} 无法读取", f"{path.name} cannot be read"),
        hint=Text(
            "须为 xlsx、xls、ods 或 CSV（UTF-8 或 GB18030），不加密，不超过 128 MiB",
            "it must be xlsx, xls, ods or CSV (UTF-8 or GB18030), without a password, 128 MiB"
            " at most",
        ),
    )
