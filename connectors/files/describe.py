"""How the files of a folder would be read: encoding, delimiter, header row, sheets, columns."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from exchange.connect import ExchangeError, Misconfigured, Text
from exchange.connectors.files.book import SheetFormat
from exchange.connectors.files.dbf import may_be_dbf
from exchange.connectors.files.encoding import Wide, wide_encoding
from exchange.connectors.files.folder import Bounded, Listing, open_file
from exchange.connectors.files.layout import find_layout
from exchange.connectors.files.outline import MAX_CELL, MAX_CELLS, TOP_ROWS, layout_facts
from exchange.connectors.files.process import ReaderProcess
from exchange.connectors.files.text import (
    BLOCK_BYTES,
    SWAPPED,
    TextFormat,
    known_encoding,
    top_rows,
)

MAX_DESCRIBED = 200
"""Files that are looked into; the others are named."""
SECONDS = timedelta(seconds=20)
_SPREADSHEET = (
    b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x09\x08", b"\x09\x04", b"\x09\x02",
)  # fmt: skip
_MARKUP = (b"<", b"mime-version:")
_SNIFFED = 4_096
_MAX_LINES = 256 * 1024 * 1024
"""Bytes of a text whose lines are counted."""
_QUICK = 8 * 1024 * 1024
"""Bytes of a file that is looked into where an answer is wanted at once."""


def is_book(stream: BinaryIO) -> bool:
    """Whether a file begins as a spreadsheet or web page; the stream stands at its start then."""
    stream.seek(0)
    top = stream.read(64)
    stream.seek(0)
    markup = top.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return top.startswith(_SPREADSHEET) or may_be_dbf(top) or markup.startswith(_MARKUP)


@dataclass(frozen=True, slots=True)
class Describer:
    """Describes files, JSON-able; of one that cannot be read it says why."""

    root: Path
    text: TextFormat
    sheet: SheetFormat
    reader: ReaderProcess
    now: Callable[[], datetime]

    def entries(self, found: Listing) -> list[dict[str, Any]]:
        """Describe the files (bounded in number and time), and name those passed over."""
        out: list[dict[str, Any]] = []
        until = self.now() + SECONDS
        for number, (name, path) in enumerate(found.files.items()):
            if number >= MAX_DESCRIBED or self.now() > until:
                out.append({"name": name, "kind": "file", "with": {"glob": glob.escape(name)}})
                continue
            out += self._file(path, name)
        for name, reason in found.passed.items():
            out.append({"name": name, "kind": "skipped", "why": reason._asdict()})
        return out

    def first_columns(self, found: Listing, sheet: str | int | None) -> tuple[str, ...] | None:
        """Return the columns of the first table that a pull would read; None for a large file."""
        if isinstance(sheet, int):
            return None  # a number counts sheets without cells, too
        for name, path in found.files.items():
            entries = [entry for entry in self._file(path, name, large=False) if "columns" in entry]
            wanted = [e for e in entries if sheet in (None, e["with"].get("sheet"))]
            for entry in [e for e in wanted if e.get("visible", True)] or wanted:
                return tuple(column["name"] for column in entry["columns"])
            break
        return None

    def _file(self, path: Path, name: str, *, large: bool = True) -> list[dict[str, Any]]:
        chosen = {"glob": glob.escape(name)}
        base = {"name": name, "kind": "file", "with": chosen}
        try:
            with open_file(path, self.root, name) as stream:
                if not large and path_size(stream) > _QUICK:
                    return []
                if is_book(stream):
                    return list(self._sheets(stream, name, chosen))
                return [base | self._text(stream, name)]
        except ExchangeError as error:
            return [base | _why(error.what, error.hint)]

    def _text(self, stream: BinaryIO, name: str) -> dict[str, Any]:
        size = path_size(stream)
        source: Any = Bounded(stream, size)
        how = self.text
        wide = how.encoding if how.encoding.startswith("utf-16") else ""
        if not how.encoding:
            wide = wide_encoding(source.read(_SNIFFED))
            source.seek(0)
        if wide:
            source, how = Wide(source, wide), replace(how, encoding="utf-8")
        head = source.read(BLOCK_BYTES)
        if b"\n" not in head and b"\r" in head:
            head = head.translate(SWAPPED)
        encoding = how.encoding or known_encoding(head, name)
        delimiter, rows, _ = top_rows(head, how, encoding or "utf-8")
        facts: dict[str, Any] = {"encoding": wide or encoding or "ascii", "delimiter": delimiter}
        try:
            layout = find_layout(rows, how.columns, how.header, name)
        except Misconfigured as error:
            top = [[n, [c[:MAX_CELL] for c in cells[:MAX_CELLS]]] for n, cells in rows[:TOP_ROWS]]
            return facts | {"top": top} | _why(error.what, error.hint)
        described = layout_facts(layout)
        columns = [{"name": column, "type": "text"} for column in described["columns"]]
        return facts | described | {"columns": columns} | _lines(source, head, layout.header, size)

    def _sheets(
        self, stream: BinaryIO, name: str, chosen: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        how = {key: getattr(self.sheet, key) for key in SheetFormat.__slots__}
        request = {"want": "outline", "how": how, "place": name}
        for answer in self.reader.read(stream, request):
            sheet = str(answer["sheet"])
            several = {} if self.sheet.sheets is None else {"sheets": None}
            entry: dict[str, Any] = {
                "name": f"{name}/{sheet}",
                "kind": "sheet",
                "visible": bool(answer["visible"]),
                "with": chosen | {"sheet": sheet} | several,
            }
            if "why" in answer:
                told = _why(Text(*map(str, answer["why"])), Text(*map(str, answer["hint"])))
                yield entry | {"top": answer["top"]} | told
                continue
            columns = [{"name": str(column), "type": "text"} for column in answer["columns"]]
            yield entry | {
                "header": int(answer["header"]),
                "columns": columns,
                "rows": int(answer["rows"]),
                "more": bool(answer["more"]),
                "about": True,  # group rows and footers are counted, too
            }


def path_size(stream: BinaryIO) -> int:
    """Return the size of an open file, which stands at its start then."""
    size = stream.seek(0, 2)
    stream.seek(0)
    return size


def _lines(source: Any, head: bytes, header: int, size: int) -> dict[str, Any]:
    """Count the lines below the header; ``about`` where a record may take several of them."""
    if size > _MAX_LINES:
        return {"rows": None}
    lines = [line for line in head.split(b"\n")[header:] if line.strip()]
    if len(head) < BLOCK_BYTES:
        return {"rows": len(lines), "about": b'"' in head}
    count = head.count(b"\n") - header
    while data := source.read(BLOCK_BYTES):
        count += data.count(b"\n")
    return {"rows": count, "about": True}


def _why(what: Text, hint: Text) -> dict[str, Any]:
    return {"why": what._asdict(), "hint": hint._asdict()}
