"""Writes the demo's sources as departments have them: a database, and folders of files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
import xlsxwriter

from exchange.catalog.model import Catalog, Physical, Resource
from exchange.devtools.demo.data import SEED, generate
from exchange.errors import Misconfigured
from exchange.text import Text

LICENCES: Final = 20_000
PENALTIES: Final = 5_000
ORDERS: Final = 3_000
SEALS: Final = 635
"""Electronic seals of the prefecture (domain.md §7.7)."""

DIVISIONS: Final = "divisions"
"""The resource of the real divisions, which are copied, not made."""

_TITLE: Final = "大兴安岭地区电子印章台账（截至2026年6月30日）"
_BLANK_AFTER: Final = 100
"""Records of the sheet before its blank row."""
_FILES: Final = 2
_FIRST_UPDATE: Final = datetime(2026, 6, 1, 8, 30)  # noqa: DTZ001 - local time, as it is stored
_TIED: Final = 50
"""Records of the database that share one ``updated_at``, as bulk updates leave them."""
_SQL: Final[Mapping[Physical, str]] = {
    Physical.STRING: "TEXT",
    Physical.LONG: "INTEGER",
    Physical.DECIMAL: "DECIMAL",
    Physical.DATE: "DATE",
    Physical.TIMESTAMP: "DATETIME",
    Physical.BOOLEAN: "BOOLEAN",
    Physical.DOUBLE: "DOUBLE",
}
_EXCEL_DAY: Final = "yyyy-mm-dd"
_EXCEL_TIME: Final = "yyyy-mm-dd hh:mm:ss"


@dataclass(frozen=True, slots=True)
class DemoSource:
    """One source: the file of a database, or a folder; ``planted`` counts dirty rows by kind."""

    resource: str
    path: Path
    rows: int
    table: str = ""
    """Table of the database; it has ``id`` as its key and ``updated_at`` for a cursor."""
    planted: Mapping[str, int] = field(default_factory=dict)

    @property
    def dirty(self) -> int:
        """How many rows validation must refuse."""
        return sum(self.planted.values())


@dataclass(frozen=True, slots=True)
class DemoSources:
    """The sources by resource."""

    by_resource: Mapping[str, DemoSource]

    @property
    def rows(self) -> int:
        """All rows of all sources."""
        return sum(source.rows for source in self.by_resource.values())

    @property
    def dirty(self) -> int:
        """All rows that validation must refuse."""
        return sum(source.dirty for source in self.by_resource.values())


def write_sources(
    folder: Path, *, catalog: Catalog, divisions: Path, seed: int = SEED, scale: float = 1.0
) -> DemoSources:
    """Write the sources below ``folder``; the same arguments give the same bytes.

    ``divisions`` is the CSV file of the real divisions, ``scale`` multiplies the rows of the
    others. Raises :class:`Misconfigured` when the folder cannot be written.
    """
    plan: list[tuple[str, int, Callable[..., DemoSource], str]] = [
        ("credit_license", LICENCES, _write_database, "market/licences.db"),
        ("credit_penalty", PENALTIES, _write_csv, "market/penalties"),
        ("eseal_registry", SEALS, _write_excel, "data/seals"),
        ("hotline_order", ORDERS, _write_database, "hotline/hotline.db"),
    ]
    try:
        sources = [_copy(folder / "civil/divisions", divisions)]
        for name, count, write, place in plan:
            frame = generate(catalog, name, max(100, round(count * scale)), seed=seed)
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            sources.append(write(path, catalog.resources[name], frame.frame, frame.planted))
    except OSError as error:
        raise Misconfigured(
            Text(f"无法写入演示数据：原文：{error}", f"cannot write the demo's sources: {error}"),
            hint=Text("请换一个可写的文件夹", "choose a folder that can be written"),
        ) from error
    return DemoSources({source.resource: source for source in sources})


def _in_source_names(resource: Resource, frame: pl.DataFrame) -> pl.DataFrame:
    """Rename fields to the columns that the catalog maps them from."""
    return frame.rename({name: column for column, name in resource.columns.items()})


def _write_database(
    path: Path, resource: Resource, frame: pl.DataFrame, planted: Mapping[str, int]
) -> DemoSource:
    """Write a SQLite database as a small department application keeps it."""
    table = f"t_{resource.name}"
    renamed_frame = _in_source_names(resource, frame)
    kinds = [_SQL[item.type.physical] for item in resource.fields]
    columns = [f'"{name}" {kind}' for name, kind in zip(renamed_frame.columns, kinds, strict=True)]
    layout = ", ".join(["id INTEGER PRIMARY KEY", *columns, "updated_at DATETIME NOT NULL"])
    places = ", ".join("?" * (frame.width + 2))
    rows = (
        (number, *row, _updated(number))
        for number, row in enumerate(renamed_frame.iter_rows(), start=1)
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f'CREATE TABLE "{table}" ({layout})')
        database.executemany(f'INSERT INTO "{table}" VALUES ({places})', rows)  # noqa: S608 - names of the catalog
        database.execute(f'CREATE INDEX "{table}_updated" ON "{table}" (updated_at, id)')
    return DemoSource(resource.name, path, frame.height, table, planted)


def _updated(number: int) -> str:
    return str(_FIRST_UPDATE + timedelta(seconds=7 * (number // _TIED)))


def _write_csv(
    path: Path, resource: Resource, frame: pl.DataFrame, planted: Mapping[str, int]
) -> DemoSource:
    """Write a folder of GBK files with Windows line ends."""
    path.mkdir(parents=True)
    size = -(-frame.height // _FILES)
    for number, part in enumerate(_in_source_names(resource, frame).iter_slices(size), start=1):
        text = part.write_csv(line_terminator="\r\n")
        (path / f"{resource.title}-{number}.csv").write_bytes(text.encode("gbk"))
    return DemoSource(resource.name, path, frame.height, planted=planted)


def _write_excel(
    path: Path, resource: Resource, frame: pl.DataFrame, planted: Mapping[str, int]
) -> DemoSource:
    """Write a folder with one workbook: a title, the header in row 2, a blank row in the data."""
    path.mkdir(parents=True)
    renamed_frame = _in_source_names(resource, frame)
    kinds = [item.type.physical for item in resource.fields]
    with xlsxwriter.Workbook(path / f"{resource.title}.xlsx") as book:
        # Otherwise the file tells the moment it was written.
        book.set_properties({"created": _FIRST_UPDATE})
        formats = {
            Physical.DATE: book.add_format({"num_format": _EXCEL_DAY}),
            Physical.TIMESTAMP: book.add_format({"num_format": _EXCEL_TIME}),
        }
        sheet = book.add_worksheet("台账")
        sheet.merge_range(0, 0, 0, frame.width - 1, _TITLE)
        sheet.write_row(1, 0, renamed_frame.columns)
        for number, row in enumerate(renamed_frame.iter_rows()):
            line = number + (2 if number < _BLANK_AFTER else 3)
            for place, (value, kind) in enumerate(zip(row, kinds, strict=True)):
                cell = _cell(value, kind)
                if isinstance(cell, datetime):
                    sheet.write_datetime(line, place, cell, formats[kind])
                elif isinstance(cell, int):
                    sheet.write_number(line, place, cell)
                elif cell is not None:
                    sheet.write_string(line, place, cell)
    return DemoSource(resource.name, path, frame.height, planted=planted)


def _cell(value: str | None, kind: Physical) -> str | int | datetime | None:
    """Return the value as a spreadsheet holds it; what is no date or number stays text."""
    if value is None:
        return None
    try:
        if kind in (Physical.DATE, Physical.TIMESTAMP):
            return datetime.fromisoformat(value)
        if kind is Physical.LONG:
            return int(value)
    except ValueError:
        return value
    return value


def _copy(path: Path, divisions: Path) -> DemoSource:
    path.mkdir(parents=True)
    data = divisions.read_bytes()
    (path / divisions.name).write_bytes(data)
    return DemoSource(DIVISIONS, path, data.count(b"\n") - 1)
