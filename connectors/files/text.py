"""Text tables (CSV and its kin) as frames: decode, then split; fast where rows are regular.

A file is read in blocks that end at a line end: neither in UTF-8 nor in GB18030 can that byte
be part of another character. A block whose lines all have the header's number of cells goes
through polars' parser as it is; only irregular lines are looked at one by one. A line that has
too many or too few cells, an unclosed quote, a NUL or bytes of another encoding is delivered
with what it has, and ``_defect`` says what is wrong, with the original line.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from exchange.connect import Misconfigured, Note, Text
from exchange.connectors.files.layout import (
    DEFECT,
    HEAD_ROWS,
    MIN_GROUP_COLUMNS,
    ROW,
    Layout,
    bounded,
    find_layout,
    note,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes read at once: some 40,000 records, and what a frame takes in memory."""
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_RECORD_LINES = 1_000
"""Lines that a quoted cell may span; longer means that a quote was never closed."""
_MAX_ORIGINAL = 2_000
_DELIMITERS = (",", "\t", ";", "|")
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_HALF = 0.5

ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "gbk": "gb18030", "gb2312": "gb18030"}
ENCODINGS["gb18030"] = "gb18030"


class Position(NamedTuple):
    """How far a file was read: bytes, lines, and its encoding once that is known."""

    offset: int = 0
    lines: int = 0
    encoding: str = ""


class Part(NamedTuple):
    """A frame of records, what was no record, and the position behind them."""

    frame: pl.DataFrame
    notes: tuple[Note, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How to read: empty values are found out from the file."""

    encoding: str
    delimiter: str
    header: int | None
    columns: tuple[str, ...]
    group_rows: str
    block_bytes: int = BLOCK_BYTES


def read_text(
    stream: BinaryIO, how: TextFormat, start: Position, place: str, seen: Callable[[bytes], None]
) -> Iterator[Part]:
    """Read a file from ``start``; ``seen`` is shown every byte once, in order.

    Raises Misconfigured when the header is not found or the encoding is one of two bytes.
    """
    head = stream.read(BLOCK_BYTES)
    encoding = how.encoding or start.encoding or encoding_of(head)
    delimiter, layout = _head(head, how, encoding or "utf-8", place)
    stream.seek(0)
    notes: tuple[Note, ...] = ()
    if start.offset:
        _show(stream, start.offset, seen)
        at = start
    else:
        bom = len(_BOM) if head.startswith(_BOM) else 0
        skipped = _behind_line(head, layout.header) or bom
        seen(stream.read(skipped))
        at = Position(skipped, layout.header, encoding)
        notes = layout.notes
    parser = _Parser(layout.names, delimiter, how.group_rows == "note", place)
    frame = parser.empty()
    rest = b""
    while True:
        data = stream.read(how.block_bytes)
        seen(data)
        last = len(data) < how.block_bytes
        cut = len(data) if last else data.rfind(b"\n") + 1
        if not (cut or last):
            rest += data
            if len(rest) > MAX_LINE_BYTES:
                raise _no_lines(place)
            continue
        block, rest = rest + data[:cut], data[cut:]
        if block:
            if not at.encoding:
                at = at._replace(encoding=how.encoding or encoding_of(block))
            lines = decode(block, at.encoding or "utf-8")
            whole = last or len(block) > MAX_LINE_BYTES
            frame, found, used, carried = parser.parse(lines, at.lines + 1, last=whole)
            size = _behind_line(block, used) if carried else len(block)
            rest = block[size:] + rest
            if not used:
                continue  # One record is longer than the block: read on.
            at = Position(at.offset + size, at.lines + used, at.encoding)
            yield Part(frame, (*notes, *found), at)
            notes = ()
        if last:
            break
    if notes:
        yield Part(frame.clear(), notes, at)


def encoding_of(data: bytes) -> str:
    """Tell UTF-8 from GB18030 by the bytes; empty for plain ASCII, which may still be either.

    One damaged line does not make a UTF-8 file a GB18030 one: most lines decide.
    """
    if data.startswith(_BOM):
        return "utf-8"
    if data.isascii():
        return ""
    cut = data.rfind(b"\n") + 1 or len(data)
    if _is_utf8(data[:cut]):
        return "utf-8"
    lines = [line for line in data[:cut].split(b"\n") if not line.isascii()]
    return "utf-8" if sum(map(_is_utf8, lines)) > _HALF * len(lines) else "gb18030"


class Lines(NamedTuple):
    """A block as UTF-8, and the numbers (from 0) of lines that could not be decoded."""

    data: bytes
    damaged: tuple[int, ...] = ()


def decode(block: bytes, encoding: str) -> Lines:
    """Return the block as UTF-8; undecodable bytes become U+FFFD and are told."""
    if block.isascii() or (encoding == "utf-8" and _is_utf8(block)):
        return Lines(block)
    try:
        return Lines(block.decode(encoding).encode())
    except UnicodeDecodeError:
        lines = block.split(b"\n")
    damaged = tuple(i for i, line in enumerate(lines) if not _decodes(line, encoding))
    text = "\n".join(line.decode(encoding, "replace") for line in lines)
    return Lines(text.encode(), damaged)


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    """Check by Arrow's vector code: ten times faster than decoding."""
    ends = pa.py_buffer(np.array((0, len(data)), dtype=np.int32))
    try:
        pa.StringArray.from_buffers(1, ends, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _line_ends(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))


def _behind_line(data: bytes, line: int) -> int:
    """Return the offset behind ``line`` lines."""
    if line == 0:
        return 0
    ends = _line_ends(data)
    return int(ends[line - 1]) + 1 if line <= len(ends) else len(data)


def _show(stream: BinaryIO, size: int, seen: Callable[[bytes], None]) -> None:
    while size > 0 and (data := stream.read(min(size, BLOCK_BYTES))):
        seen(data)
        size -= len(data)


def _head(head: bytes, how: TextFormat, encoding: str, place: str) -> tuple[str, Layout]:
    """Find delimiter and header in the first lines."""
    if head.startswith(_WIDE_BOMS):
        raise Misconfigured(
            Text(f"{place} 是 UTF-16 编码", f"{place} is encoded in UTF-16"),
            hint=Text("请另存为 UTF-8 的 CSV 文件", "save it as CSV in UTF-8"),
        )
    ends = _line_ends(head)[: HEAD_ROWS * 2]
    top = head[: int(ends[-1]) + 1] if len(ends) and len(ends) == HEAD_ROWS * 2 else head
    text = top.removeprefix(_BOM).decode(encoding, "replace").replace("\r\n", "\n")
    delimiter = how.delimiter or _delimiter(text.split("\n")[:HEAD_ROWS])
    rows = []
    reader = csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=delimiter)
    try:
        for cells in reader:
            rows.append((reader.line_num, cells))
            if len(rows) == HEAD_ROWS:
                break
    except csv.Error:
        pass
    return delimiter, find_layout(rows, how.columns, how.header, place)


def _delimiter(lines: Sequence[str]) -> str:
    """Choose the delimiter that most lines have most of."""

    def typical(delimiter: str) -> int:
        counts = sorted(line.count(delimiter) for line in lines if line.strip())
        return counts[len(counts) // 2] if counts else 0

    return max(_DELIMITERS, key=typical)


def _no_lines(place: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{place} 的一行超过 64 MiB，不是文本表格", f"{place}: a line over 64 MiB, no table"),
        hint=Text("请检查该文件", "look at that file"),
    )


def _joined(text: pl.Series) -> bytes:
    return "\n".join(text.to_list()).encode()


class _Parser:
    """Turns decoded blocks into frames of the header's columns, ``_row`` and ``_defect``."""

    def __init__(self, names: tuple[str, ...], delimiter: str, groups: bool, place: str) -> None:  # noqa: FBT001
        self._names = names
        self._delimiter = delimiter
        self._groups = groups and len(names) >= MIN_GROUP_COLUMNS
        self._place = place
        self._schema = dict.fromkeys(names, pl.String())

    def empty(self) -> pl.DataFrame:
        """Return a frame without rows."""
        return pl.DataFrame(schema={**self._schema, ROW: pl.Int64(), DEFECT: pl.String()})

    def parse(
        self, lines: Lines, first: int, *, last: bool
    ) -> tuple[pl.DataFrame, tuple[Note, ...], int, bool]:
        """Return records, notes, how many lines were used and whether some were not.

        ``first`` is the number of the first line in the file. A quoted cell that goes on beyond
        the block leaves its lines unused, unless ``last``.
        """
        text = pl.read_lines(lines.data)["line"]
        quotes = b'"' in lines.data
        whole = self._cells(text, quotes=quotes) == len(self._names)
        if b"\0" in lines.data:
            whole &= ~text.str.contains("\0", literal=True)
        if lines.damaged:
            whole = whole.scatter(list(lines.damaged), False)  # noqa: FBT003
        spans: list[tuple[int, int]] = []
        used = len(text)
        if quotes:
            odd = (text.str.count_matches('"', literal=True) % 2 == 1).arg_true().to_list()
            spans, used = self._spans(text, odd, last=last)
            for start, end in spans:
                whole = whole.scatter(list(range(start, end)), False)  # noqa: FBT003
        regular = bool(whole.all()) and used == len(text)
        data = lines.data if regular else _joined(text[:used].filter(whole[:used]))
        frame = self._fast(data, used if regular else int(whole[:used].sum()))
        if frame is None:
            whole, frame = pl.repeat(False, len(text), eager=True), self.empty()  # noqa: FBT003
        else:
            rows = whole[:used].arg_true().cast(pl.Int64) + first
            told = pl.lit(None, dtype=pl.String).alias(DEFECT)
            frame = frame.with_columns(rows.alias(ROW), told)
        if frame.height < used:
            odd_ones = self._slow(text, whole[:used], spans, first, set(lines.damaged))
            frame = pl.concat((frame, odd_ones)).sort(ROW)
        return *self._without_groups(frame), used, used < len(text)

    def _cells(self, text: pl.Series, *, quotes: bool) -> pl.Series:
        """Count the cells of each line; delimiters within quotes do not count."""
        if quotes:
            text = text.str.replace_all(r'"[^"]*"', "")
        return text.str.count_matches(self._delimiter, literal=True) + 1

    def _fast(self, data: bytes, height: int) -> pl.DataFrame | None:
        """Parse regular lines; None when polars sees something else in them."""
        if not height:
            return pl.DataFrame(schema=self._schema)
        try:
            frame = pl.read_csv(
                data,
                has_header=False,
                schema=self._schema,
                separator=self._delimiter,
                # An empty cell is null, quoted or not.
                null_values="" if b'""' in data else None,
            )
        except pl.exceptions.PolarsError:
            return None
        return frame if frame.height == height else None

    def _spans(
        self, text: pl.Series, odd: list[int], *, last: bool
    ) -> tuple[list[tuple[int, int]], int]:
        """Return the lines of records with an open quote, and how many lines can be used.

        ``odd`` are the lines with an odd number of quotes: such a record ends at the next of
        them if that makes a whole one; if not, the quote was a stray one, and the line stands
        alone.
        """
        spans: list[tuple[int, int]] = []
        at = 0
        for place, start in enumerate(odd):
            if start < at:
                continue
            end = odd[place + 1] + 1 if place + 1 < len(odd) else None
            if end is None and not last and len(text) - start < MAX_RECORD_LINES:
                return spans, start
            at = start + 1
            if end is not None and end - start <= MAX_RECORD_LINES:
                cells = self._split("\n".join(text[start:end].to_list()))
                if cells is not None and len(cells) == len(self._names):
                    at = end
            spans.append((start, at))
        return spans, len(text)

    def _split(self, record: str) -> list[str] | None:
        try:
            rows = list(csv.reader([record], delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None

    def _slow(
        self,
        text: pl.Series,
        whole: pl.Series,
        spans: list[tuple[int, int]],
        first: int,
        damaged: set[int],
    ) -> pl.DataFrame:
        """Parse what is irregular record by record, with the reason of what is wrong."""
        within = {line for start, end in spans for line in range(start, end)}
        single = [line for line in (~whole).arg_true().to_list() if line not in within]
        records = [
            *((line, text[line]) for line in single),
            *((start, "\n".join(text[start:end].to_list())) for start, end in spans),
        ]
        width = len(self._names)
        columns: list[list[str | None]] = [[] for _ in self._names]
        rows: list[int] = []
        defects: list[str | None] = []
        for number, record in records:
            if not record.strip():
                continue
            cells, told = self._judged(record)
            if number in damaged:
                told = told or "bytes of another encoding"
            for column, cell in zip(columns, cells + [""] * width, strict=False):
                column.append(cell or None)
            rows.append(first + number)
            defects.append(told and f"{told}: {record[:_MAX_ORIGINAL]}")
        made = [pl.Series(self._names[i], c, dtype=pl.String) for i, c in enumerate(columns)]
        made.append(pl.Series(ROW, rows, dtype=pl.Int64))
        return pl.DataFrame([*made, pl.Series(DEFECT, defects, dtype=pl.String)])

    def _judged(self, record: str) -> tuple[list[str], str | None]:
        cells = self._split(record)
        if cells is None:
            return record.split(self._delimiter), "a quote is not closed or not doubled"
        if len(cells) != len(self._names):
            return cells, f"{len(cells)} cells where the header has {len(self._names)}"
        return cells, "a NUL character" if "\0" in record else None

    def _without_groups(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Note, ...]]:
        """Take out rows where only the first cell is filled, and rows without anything."""
        others = frame.select(self._names[1:])
        if any(column.null_count() == 0 for column in others):
            return frame, ()
        blank = pl.all_horizontal(pl.col(name).is_null() for name in self._names[1:])
        alone = frame.select((blank & pl.col(DEFECT).is_null()).alias("alone"))["alone"]
        if not self._groups:
            alone &= frame[self._names[0]].is_null()
        if not alone.any():
            return frame, ()
        taken = frame.filter(alone).select(ROW, self._names[0]).drop_nulls()
        notes = [note(row, "group", text) for row, text in taken.iter_rows()]
        return frame.filter(~alone), bounded(notes, self._place)
