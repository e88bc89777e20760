"""Excel workbooks in XML (xlsx, xlsm), cell by cell as they are stored.

Read sparsely: a stray cell in the last corner costs one cell. Values keep their number
formats; errors, and formulas that were never calculated, are told and not read as empty.
ECMA-376 part 1 (transitional and strict), §18.3 worksheets, §18.4 shared strings, §18.8 styles.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from exchange.connectors.files.book import Book, Range, Sheet, SheetRow, SheetRows
from exchange.connectors.files.formats import EXACT_DIGITS, Format, Odd, Value, built_in
from exchange.connectors.files.sheet_xml import read_rows, read_strings
from exchange.connectors.files.xml import attribute, document, elements, local
from exchange.errors import Rejected
from exchange.text import Text

MAX_COLUMNS = 16_384
_MAX_SHOWN = 16_384
"""Numbers remembered with what their format shows."""
_DIGITS = "0123456789"
_MAX_PART = 64 * 1024 * 1024
"""Bytes of a part that is parsed as a whole: workbook, relations."""
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"^\$?([A-Z]{1,3})\$?([0-9]{1,7})$")
UNCALCULATED = "a formula without a result: open the file in a spreadsheet program and save it"
STALE = (
    "a formula whose result is not calculated yet (the file asks for it): "
    "open the file in a spreadsheet program and save it"
)


def read_xlsx(archive: zipfile.ZipFile) -> Book:
    """Open a workbook; raises Rejected when its parts do not fit together."""
    parts = Parts(archive)
    workbook_name = parts.workbook()
    workbook = document(parts.read(workbook_name))
    relations = parts.relations(workbook_name)
    stale = False
    since_1904 = False
    sheets: list[tuple[str, str, bool]] = []
    for element in workbook.iter():
        name = local(element)
        if name == "workbookPr":
            since_1904 = attribute(element, "date1904") in ("1", "true")
        elif name == "calcPr":
            stale = attribute(element, "fullCalcOnLoad") in ("1", "true")
        elif name == "sheet":
            kind, target = relations.get(attribute(element, "id") or "", ("", ""))
            if kind == "worksheet" and parts.has(target):
                visible = attribute(element, "state") in (None, "visible")
                sheets.append((attribute(element, "name") or "", target, visible))
    by_kind = dict(relations.values())
    cells = _Cells(
        parts.texts(by_kind.get("sharedStrings", "")),
        _formats(parts, by_kind.get("styles", "")),
        since_1904=since_1904,
        stale=stale,
    )
    return Book([_sheet(parts, cells, *one) for one in sheets])


def _sheet(parts: Parts, cells: _Cells, name: str, target: str, visible: bool) -> Sheet:  # noqa: FBT001
    def rows() -> SheetRows:
        with parts.open(target) as stream:
            yield from read_rows(stream, cells.take)

    def merges() -> Sequence[Range]:
        if not parts.mentions(target, b"mergeCell"):
            return ()
        with parts.open(target) as stream:
            # Rows are named too, so that they are emptied on the way.
            found = elements(stream, "mergeCell", "row")
            references = [e.get("ref") for e in found if local(e) == "mergeCell"]
        return [merged for text in references if (merged := _range(text or "")) is not None]

    return Sheet(name, rows, merges, visible)


@dataclass(slots=True)
class _Cells:
    """Turns cell elements into what people read."""

    texts: Sequence[str]
    formats: Sequence[Format]
    since_1904: bool
    stale: bool
    _columns: dict[str, int] = field(default_factory=dict)
    _shapes: dict[str | None, Format] = field(default_factory=dict)
    _shown: dict[tuple[str | None, str | None], Value] = field(default_factory=dict)
    """By style and number: dates repeat."""

    def take(  # noqa: PLR0917 - what the file says of a cell
        self,
        row: SheetRow,
        number: int,
        reference: str | None,
        style: str | None,
        kind: str | None,
        text: str | None,
        formula: bool,  # noqa: FBT001 - as above
        inline: str | None,
    ) -> None:
        """Append a cell to those of its row, which count from column A; empty ones are left out."""
        if reference:
            column = self._columns.get(reference.rstrip(_DIGITS), -1)
            if column < 0:
                column = self._column(reference)
        else:
            column = len(row)
        # Most cells are shared strings, or numbers that were met before.
        if formula or inline is not None:
            value = self._rare(style, kind, text, inline)
        elif kind == "s" and text is not None:
            value = self._shared(text)
        else:
            value = self._shown.get((style, text)) if kind is None else None
            if value is None and text is not None:
                value = self._stored(kind, text, style)
        if value is None:
            return
        if type(value) is Odd:
            value = Odd(value.text, f"{value.defect} (cell {reference or f'row {number}'})")
        gap = column - len(row)
        if gap < 0:
            row[column] = value
            return
        if gap:
            row.extend([None] * gap)
        row.append(value)

    def _column(self, reference: str) -> int:
        text = reference.rstrip(_DIGITS)
        found = _REFERENCE.match(f"{text}1")
        column = column_of(found[1]) if found else MAX_COLUMNS
        if column >= MAX_COLUMNS:
            raise damaged(f"a cell at {reference[:20]}")
        self._columns[text] = column
        return column

    def _rare(
        self, style: str | None, kind: str | None, text: str | None, inline: str | None
    ) -> Value | None:
        """Return an inline string, or the result of a formula."""
        if inline is not None:
            return unescaped(inline) or None
        if text is None or (text == "" and kind != "str"):
            return Odd("", UNCALCULATED)
        if self.stale and kind != "e":
            return Odd(text, STALE)
        return self._stored(kind, text, style)

    def _stored(self, kind: str | None, text: str, style: str | None) -> Value | None:
        if kind == "s":
            return self._shared(text)
        if kind == "e":
            return Odd(text, f"the error {text}")
        if kind in ("str", "d"):
            return unescaped(text) or None
        text = text.strip()
        if not text:
            return None
        if kind == "b":
            return "TRUE" if text in ("1", "true") else "FALSE"
        return self._number(text, style)

    def _shared(self, text: str) -> str | None:
        try:
            number = int(text)
            return self.texts[number if number >= 0 else len(self.texts)] or None
        except (ValueError, IndexError) as error:
            raise damaged(f"shared string {text}") from error

    def _number(self, text: str, style: str | None) -> Value:
        shape = self._shapes.get(style)
        if shape is None:
            try:
                shape = self._shapes[style] = self.formats[int(style or 0)]
            except (ValueError, IndexError) as error:
                raise damaged(f"style {style}") from error
        if shape.is_plain and text.isdecimal() and len(text) <= EXACT_DIGITS and text[0] != "0":
            return text
        try:
            number = float(text)
        except ValueError:
            return Odd(text, "a number that is none")
        value = shape.show(number, since_1904=self.since_1904)
        if len(self._shown) >= _MAX_SHOWN:
            self._shown.clear()
        self._shown[style, text] = value
        return value


class Parts:
    """The parts of the package by name; names compare without regard to case."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = {n.replace("\\", "/").lower().lstrip("/"): n for n in archive.namelist()}

    def has(self, name: str) -> bool:
        """Whether there is a part of this name."""
        return name.lower() in self._names

    def open(self, name: str) -> IO[bytes]:
        """Open a part; raises Rejected when there is none."""
        try:
            return self._archive.open(self._names[name.lower()])
        except KeyError as error:
            raise damaged(f"no part {name}") from error

    def read(self, name: str) -> bytes:
        """Read a part as a whole; raises Rejected for one that is too big for that."""
        with self.open(name) as stream:
            data = stream.read(_MAX_PART + 1)
        if len(data) > _MAX_PART:
            raise damaged(f"{name} is too big")
        return data

    def mentions(self, name: str, word: bytes) -> bool:
        """Whether a part holds a word, without parsing it."""
        with self.open(name) as stream:
            tail = b""
            while data := stream.read(1 << 20):
                if word in tail + data:
                    return True
                tail = data[-len(word) :]
        return False

    def workbook(self, otherwise: str = "xl/workbook.xml") -> str:
        """Return the name of the part that lists the sheets."""
        for kind, target in self.relations("").values():
            if kind == "officeDocument":
                return target
        return otherwise

    def relations(self, of: str) -> dict[str, tuple[str, str]]:
        """Return what a part refers to: id → (last word of the type, name of the part)."""
        folder, name = posixpath.split(of)
        part = posixpath.join(folder, "_rels", f"{name}.rels")
        if not self.has(part):
            return {}
        out = {}
        for element in document(self.read(part)):
            target = (element.get("Target") or "").replace("\\", "/")
            joined = target[1:] if target.startswith("/") else posixpath.join(folder, target)
            kind = (element.get("Type") or "").rpartition("/")[2]
            out[element.get("Id") or ""] = (kind, posixpath.normpath(joined))
        return out

    def texts(self, name: str) -> list[str]:
        """Read the shared strings."""
        if not name or not self.has(name):
            return []
        with self.open(name) as stream:
            return [unescaped(text) for text in read_strings(stream)]


def _formats(parts: Parts, name: str) -> list[Format]:
    """Return the number format of each cell style."""
    codes: dict[int, str] = {}
    made: dict[int, Format] = {}
    out: list[Format] = []
    if name and parts.has(name):
        styles = document(parts.read(name))
        for element in styles.iter("{*}numFmt"):
            # Differential styles (dxfs) have number formats, too; they dress conditions up.
            if local(element.getparent()) == "numFmts":
                codes[int(element.get("numFmtId") or 0)] = element.get("formatCode") or ""
        for block in styles.iter("{*}cellXfs"):
            for element in block.iterchildren("{*}xf"):
                number = int(element.get("numFmtId") or 0)
                if number not in made:
                    made[number] = Format(codes.get(number, built_in(number)))
                out.append(made[number])
    return out or [Format(built_in(0))]


def unescaped(text: str) -> str:
    """Turn ``_x000D_`` into the character that it stands for."""
    if "_x" not in text:
        return text
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def column_of(text: str) -> int:
    """Return the number of a column: A is 0, XFD 16383."""
    number = 0
    for char in text:
        number = number * 26 + ord(char) - ord("A") + 1
    return number - 1


def _range(text: str) -> Range | None:
    first, _, last = text.partition(":")
    top, bottom = _REFERENCE.match(first), _REFERENCE.match(last or first)
    if top is None or bottom is None:
        return None
    return Range(int(top[2]), column_of(top[1]), int(bottom[2]), column_of(bottom[1]))


def damaged(what: str) -> Rejected:
    """Return the error for a workbook that contradicts itself."""
    return Rejected(
        Text(f"工作簿自相矛盾：{what}", f"the workbook contradicts itself: {what}"),
        hint=Text("请重新导出该文件", "export the file again"),
    )
