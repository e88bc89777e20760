"""A folder that files are dropped into, as a source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import xlsxwriter

from exchange.connect import Cursor, ExchangeError, Pulled, Source
from exchange.connectors.files import files


def waits(pulls: Iterable[Pulled]) -> bool:
    """Tell whether a pull brought nothing, and said that something is not whole yet."""
    return [(p.frame.height, p.notes, p.unfinished) for p in pulls] == [(0, (), True)]


class Folder:
    """A folder that files are dropped into, and a clock that stands a year ahead of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slept: list[float] = []

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def source(self, **options: Any) -> Source:
        return files.open(
            {"folder": str(self.path), **options},
            lambda _: "",
            now=lambda: datetime.now(UTC).replace(year=datetime.now(UTC).year + 1),
            sleep=self.slept.append,
        )

    def pull(self, cursor: Cursor | None = None, **options: Any) -> list[Pulled]:
        return list(self.source(**options).pull(cursor))

    def frame(self, **options: Any) -> pl.DataFrame:
        return pl.concat([p.frame for p in self.pull(**options) if p.frame.width])

    def notes(self, **options: Any) -> list[tuple[int, str, str]]:
        pulls = self.pull(**options)
        return [(note.row, note.kind, note.text) for p in pulls for note in p.notes]

    def sheet(self, name: str, rows: Sequence[Sequence[Any]], **merged: str) -> Path:
        path = self.path / name
        book = xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm:ss"})
        sheet = book.add_worksheet("表一")
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                if value is not None:
                    sheet.write(number, column, value)
        for cells, text in merged.items():
            sheet.merge_range(cells.replace("_", ":"), text)
        book.close()
        return path


def records(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.drop("_row", "_defect").rows()


def end(stream: Iterable[Pulled]) -> None:
    """Read a pull to its end: no more records come."""
    for pulled in stream:
        assert pulled.frame.is_empty()


def pull_all(stream: Iterable[Pulled]) -> tuple[list[Pulled], ExchangeError | None]:
    """Return what a pull brings, and the error that ends it."""
    pulls: list[Pulled] = []
    try:
        pulls.extend(stream)
    except ExchangeError as error:
        return pulls, error
    return pulls, None
