"""What the sheets of a workbook look like, without their records; runs in the limited process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from exchange.connectors.files.book import Book, Sheet, SheetFormat, SheetTable
from exchange.connectors.files.layout import Layout
from exchange.errors import Misconfigured

MAX_COUNTED = 100_000
"""Rows that are counted; a larger sheet is said to have more."""
TOP_ROWS = 12
"""Rows shown where no header is found."""
MAX_CELLS, MAX_CELL = 50, 100


def outlines(book: Book, how: SheetFormat, place: str) -> Iterator[dict[str, Any]]:
    """Describe each sheet with cells: ``header`` and ``columns``, or ``top`` rows and ``why``."""
    how = book.format(how)
    for sheet in book.sheets:
        if not sheet.filled():
            continue
        found: dict[str, Any] = {"sheet": sheet.name, "visible": sheet.visible}
        try:
            table = SheetTable.open(sheet, how, f"{place}/{sheet.name}", None)
        except Misconfigured as error:
            found |= {"top": _top(sheet), "why": list(error.what), "hint": list(error.hint)}
        else:
            found |= layout_facts(table.layout)
            rows = _count(sheet, table.layout.header)
            found |= {"rows": min(rows, MAX_COUNTED), "more": rows > MAX_COUNTED}
        yield found


def layout_facts(layout: Layout) -> dict[str, Any]:
    """Return the row in which the header ends, and the columns."""
    return {"header": layout.header, "columns": list(layout.names)}


def _count(sheet: Sheet, header: int) -> int:
    filled = (
        1
        for number, cells in sheet.rows()
        if number > header and any(cell not in (None, "") for cell in cells)
    )
    return sum(islice(filled, MAX_COUNTED + 1))


def _top(sheet: Sheet) -> list[list[Any]]:
    """Return the first rows: number and cells as text (bounded)."""
    return [
        [number, ["" if c is None else _shown(c) for c in cells[:MAX_CELLS]]]
        for number, cells in islice(sheet.rows(), TOP_ROWS)
    ]


def _shown(cell: object) -> str:
    text = cell[0] if isinstance(cell, tuple) else str(cell)
    return str(text)[:MAX_CELL]
