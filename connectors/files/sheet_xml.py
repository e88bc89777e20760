"""Rows and strings out of the XML of a workbook, as its parser meets them.

These parts are large: building a tree of them costs more than all else. expat tells each element
to a handler, and nothing is kept but the row under way. Document types are refused, so there are
no entities but the five of XML; nothing is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO, Any, Generic, TypeVar
from xml.parsers import expat

from exchange.connectors.files.plain_xml import (
    CELL,
    ROWS,
    STRING,
    STRINGS,
    plain_chunks,
    plain_rows,
    unescape_entities,
)
from exchange.connectors.files.xml import doctype_error

_FIRST_CHUNK, _LAST_CHUNK = 8 * 1024, 256 * 1024
"""Bytes parsed at once, twice as many each time: the first rows alone are read several times."""
_ITEM, _PART, _RUN = 1, 2, 3
"""Depths within a string item: its children, and the children of a run of characters."""

T = TypeVar("T")


class _Handler(Generic[T]):
    """Turns elements into items; ``items`` is emptied by whoever takes them."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.depth = 0
        """How deep the parser is within the item under way; 0 outside."""
        self.text: str | None = None
        """Characters of the element that is listened to."""
        self.listening = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Meet the start of an element."""
        raise NotImplementedError

    def end(self, name: str) -> None:
        """Meet the end of an element."""
        raise NotImplementedError

    def characters(self, data: str) -> None:
        """Meet characters."""
        if self.listening:
            self.text = self.text + data if self.text else data

    def parse(self, stream: IO[bytes], before: bytes = b"") -> Iterator[T]:
        """Yield the items of a part; ``before`` is what was read of it already.

        Raises Rejected for a document type, ExpatError for what is no XML.
        """
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = _refuse
        size = _FIRST_CHUNK
        while data := before or stream.read(size):
            before = b""
            size = min(2 * size, _LAST_CHUNK)
            parser.Parse(data, False)  # noqa: FBT003 - the parser's own signature
            yield from self.items
            self.items = []
        parser.Parse(b"", True)  # noqa: FBT003
        yield from self.items


def _refuse(*_declaration: object) -> None:
    raise doctype_error()


class StringItems(_Handler[str]):
    """The shared strings; readings of characters (rPh) do not belong to them."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._in_run = False

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - the parser's
        """Meet the start of an element."""
        depth = self.depth
        if depth == 0:
            if _local(name) == "si":
                self.depth = _ITEM
                self._pieces = []
            return
        self.depth = depth + 1
        self.listening = False
        if depth == _ITEM:
            kind = _local(name)
            self._in_run = kind == "r"
            self.listening = kind == "t"
        elif depth == _PART:
            self.listening = self._in_run and _local(name) == "t"

    def end(self, name: str) -> None:  # noqa: ARG002 - the parser's signature
        """Meet the end of an element."""
        if self.depth == 0:
            return
        self.depth -= 1
        if self.listening:
            self.listening = False
            if self.text:
                self._pieces.append(self.text)
            self.text = None
        if self.depth == 0:
            self.items.append("".join(self._pieces))


class SheetRowParser(_Handler[tuple[int, list[Any]]]):
    """The rows of a sheet: number, and what ``make`` makes of each cell, see :func:`read_rows`.

    ``number`` is that of the row before the first one.
    """

    def __init__(self, make: Callable[..., None], number: int = 0) -> None:
        super().__init__()
        self._make = make
        self._row: list[Any] = []
        self._number = number
        self._cell_name = ""
        self._value_name = ""
        self._attributes: dict[str, str] | None = None
        """Those of the cell under way; None outside of one."""
        self._value: str | None = None
        self._formula = False
        self._pieces: list[str] | None = None
        """Texts within the cell, where it has an inline string."""
        self._in_run = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Meet the start of an element."""
        depth = self.depth
        if depth == 0:
            self._start_row(name, attributes)
            return
        self.depth = depth + 1
        if depth == 1:
            if name == self._cell_name:
                self._attributes = attributes
                self._value = self._pieces = None
                self._formula = False
        elif depth == 2 and self._attributes is not None:  # noqa: PLR2004 - within a cell
            if name == self._value_name or _local(name) == "v":
                self.listening = True
                self.text = ""
            elif (kind := _local(name)) == "f":
                self._formula = True
            elif kind == "is" and self._attributes.get("t") == "inlineStr":
                self._pieces = []
        else:
            self._start_text(name, depth - 2)

    def _start_row(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "row":
            self.depth = 1
            self._row = []
            number = attributes.get("r")
            self._number = int(number) if number else self._number + 1
            space = name[: -len("row")]
            self._cell_name, self._value_name = f"{space}c", f"{space}v"

    def _start_text(self, name: str, depth: int) -> None:
        """Meet an element within an inline string, or where none belongs."""
        self.listening = False
        if self._pieces is None:
            return
        if depth == _ITEM:
            self._in_run = _local(name) == "r"
            self.listening = _local(name) == "t"
        elif depth == _PART:
            self.listening = self._in_run and _local(name) == "t"
        self.text = ""

    def end(self, name: str) -> None:  # noqa: ARG002 - the parser's signature
        """Meet the end of an element."""
        depth = self.depth
        if depth == 0:
            return
        self.depth = depth = depth - 1
        if self.listening:
            self.listening = False
            if self._pieces is None:
                self._value = self.text
            else:
                self._pieces.append(self.text or "")
        if depth == 1:
            attributes = self._attributes
            if attributes is not None:
                self._attributes = None
                inline = None if self._pieces is None else "".join(self._pieces)
                self._make(
                    self._row,
                    self._number,
                    attributes.get("r"),
                    attributes.get("s"),
                    attributes.get("t"),
                    self._value,
                    self._formula,
                    inline,
                )
        elif depth == 0:
            self.items.append((self._number, self._row))


def read_strings(stream: IO[bytes]) -> Iterator[str]:
    """Yield the shared strings of a workbook."""
    chunks = plain_chunks(stream, _STRINGS_BEGIN, b"</si>", STRINGS)
    while True:
        try:
            text = next(chunks)
        except StopIteration as end:
            yield from StringItems().parse(stream, end.value)
            return
        yield from map(unescape_entities, STRING.findall(text))


def read_rows(stream: IO[bytes], make: Callable[..., None]) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows of a sheet: number, and what ``make`` makes of each cell.

    ``make`` is called with a row's cells so far and its number, and with reference, style, kind,
    value, formula and inline text of the next one; None where there is none.
    """
    number = 0
    chunks = plain_chunks(stream, _ROWS_BEGIN, b"</row>", ROWS)
    while True:
        try:
            text = next(chunks)
        except StopIteration as end:
            yield from SheetRowParser(make, number).parse(stream, end.value)
            return
        plain = "&" not in text
        for digits, cells in plain_rows(text):
            number = int(digits)
            row: list[Any] = []
            for reference, style, kind, formula, value, inline in CELL.findall(cells):
                make(
                    row,
                    number,
                    reference,
                    style or None,
                    kind or None,
                    (value if plain else unescape_entities(value)) or None,
                    formula != "",
                    unescape_entities(inline) if kind == "inlineStr" and not value else None,
                )
            yield number, row


_STRINGS_BEGIN = re.compile(rb"<sst [^<>]*>")
_ROWS_BEGIN = re.compile(rb"<sheetData>")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
