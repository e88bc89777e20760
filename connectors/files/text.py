"""Text tables (CSV and its kin) as frames: decode, then split; fast where rows are regular.

A file is read in blocks that end at a line end: neither in UTF-8 nor in GB18030 can that byte
be part of another character. A block whose lines all have the header's number of cells goes
through polars' parser as it is; only irregular lines are looked at one by one. A line that has
too many or too few cells, an unclosed quote, a NUL or bytes of another encoding is delivered
with what it has, and ``_defect`` says what is wrong, with the original line.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import polars as pl

from exchange.connectors.files.decoding import Lines, count_utf8, decode, is_utf8, line_ends
from exchange.connectors.files.encoding import BOM, encoding_of, may_be_big5
from exchange.connectors.files.layout import (
    DEFECT,
    FOOTER,
    HEAD_ROWS,
    MIN_GROUP_COLUMNS,
    ROW,
    Layout,
    Remark,
    bounded,
    find_layout,
    note,
)
from exchange.errors import Misconfigured, Rejected
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes read at once: some 40,000 records, and what a frame takes in memory."""
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_RECORD_LINES = 1_000
"""Lines that a quoted cell may span; longer means that a quote was never closed."""
_MAX_ORIGINAL = 2_000
_BEHIND = "_behind"
"""The column behind the last delimiter of a record."""
_AS_TEXT = r'^="([^"]*)"$'
"""How a spreadsheet is made to take digits for a text: what it shows is within."""
_WRONG_COUNT = r"^\d+ cells where the header has \d+\n"
_DELIMITERS = (",", "\t", ";", "|")
SWAPPED = bytes.maketrans(b"\r\n", b"\n\r")


class TextPosition(NamedTuple):
    """How far a file was read: bytes, lines, and its encoding once that is known."""

    offset: int = 0
    lines: int = 0
    encoding: str = ""


class Part(NamedTuple):
    """A frame of records, what was no record, and the position behind them."""

    frame: pl.DataFrame
    notes: tuple[Remark, ...]
    position: TextPosition


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How to read: empty values are found out from the file."""

    encoding: str
    delimiter: str
    header: int | None
    columns: tuple[str, ...]
    group_rows: str
    block_bytes: int = BLOCK_BYTES
    footer: str = "note"


def read_text(
    stream: BinaryIO,
    how: TextFormat,
    start: TextPosition,
    place: str,
    seen: Callable[[bytes], None],
) -> Iterator[Part]:
    """Read a file from ``start``; ``seen`` is shown every byte once, in order.

    Where lines end in CR alone (old Macintosh), CR and LF change places while it is read.
    Raises Misconfigured when the header is not found, Rejected for an encoding that is not
    read, or several of them in the header.
    """
    head = stream.read(BLOCK_BYTES)
    if b"\n" not in head and b"\r" in head:
        for part in _read(
            _Swapped(stream), head.translate(SWAPPED), how, start, place, _swapped(seen)
        ):
            yield part._replace(frame=_swapped_back(part.frame))
    else:
        yield from _read(stream, head, how, start, place, seen)


def _read(  # noqa: PLR0917 - the same as read_text, and the head
    stream: BinaryIO | _Swapped,
    head: bytes,
    how: TextFormat,
    start: TextPosition,
    place: str,
    seen: Callable[[bytes], None],
) -> Iterator[Part]:
    encoding = how.encoding or start.encoding or known_encoding(head, place)
    delimiter, layout, trailing = _head(head, how, encoding or "utf-8", place)
    stream.seek(0)
    notes: tuple[Remark, ...] = ()
    if start.offset:
        _show(stream, start.offset, seen)
        at = start
    else:
        bom = len(BOM) if head.startswith(BOM) else 0
        skipped = _behind_line(head, layout.header) or bom
        seen(stream.read(skipped))
        at = TextPosition(skipped, layout.header, encoding)
        notes = layout.notes
    parser = _Parser(layout.names, delimiter, how, place, trailing=trailing)
    frame = parser.empty()
    bare = not start.offset
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
                at = at._replace(encoding=how.encoding or known_encoding(block, place))
            lines = decode(block, at.encoding or "utf-8")
            whole = last or len(block) > MAX_LINE_BYTES
            frame, found, used, carried = parser.parse(lines, at.lines + 1, last=whole)
            size = _behind_line(block, used) if carried else len(block)
            rest = block[size:] + rest
            if not used:
                continue  # One record is longer than the block: read on.
            at = TextPosition(at.offset + size, at.lines + used, at.encoding)
            yield Part(frame, (*notes, *found), at)
            notes, bare = (), False
        if last:
            break
    if notes or bare:
        yield Part(frame.clear(), notes, at)


class _Swapped:
    """A stream where CR and LF change places."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size).translate(SWAPPED)

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)


def _swapped(seen: Callable[[bytes], None]) -> Callable[[bytes], None]:
    return lambda data: seen(data.translate(SWAPPED))


def _swapped_back(frame: pl.DataFrame) -> pl.DataFrame:
    """Give line ends within cells back as they were."""
    return frame.with_columns(pl.col(pl.String).str.replace_many(["\r", "\n"], ["\n", "\r"]))


def known_encoding(data: bytes, place: str) -> str:
    """Tell the encoding, empty for plain ASCII; raises Rejected for one that is not read."""
    encoding = encoding_of(data, is_utf8, count_utf8)
    if encoding == "gb18030" and may_be_big5(data):
        raise Rejected(
            Text(
                f"{place} 像是 Big5（繁体中文）编码，不是 GBK",
                f"{place} looks like Big5 (traditional Chinese), not GBK",
            ),
            hint=Text(
                "请另存为 UTF-8；如确为 GBK，请设置 encoding: gbk",
                "save it as UTF-8; if it is GBK, set encoding: gbk",
            ),
        )
    return encoding


def _behind_line(data: bytes, line: int) -> int:
    """Return the offset behind ``line`` lines."""
    if line == 0:
        return 0
    ends = line_ends(data)
    return int(ends[line - 1]) + 1 if line <= len(ends) else len(data)


def _show(stream: BinaryIO | _Swapped, size: int, seen: Callable[[bytes], None]) -> None:
    while size > 0 and (data := stream.read(min(size, BLOCK_BYTES))):
        seen(data)
        size -= len(data)


def top_rows(
    head: bytes, how: TextFormat, encoding: str
) -> tuple[str, list[tuple[int, list[str]]], list[int]]:
    """Return the delimiter, the first rows, and which of their lines are in another encoding."""
    ends = line_ends(head)[: HEAD_ROWS * 2]
    top = head[: int(ends[-1]) + 1] if len(ends) and len(ends) == HEAD_ROWS * 2 else head
    decoded = decode(top.removeprefix(BOM), encoding)
    text = decoded.data.decode("utf-8", "replace").replace("\r\n", "\n")
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
    return delimiter, rows, [line + 1 for line in decoded.damaged if line < HEAD_ROWS]


def _head(head: bytes, how: TextFormat, encoding: str, place: str) -> tuple[str, Layout, bool]:
    """Find delimiter and header in the first lines, and whether rows end with a delimiter."""
    delimiter, rows, mixed = top_rows(head, how, encoding)
    try:
        layout = find_layout(rows, how.columns, how.header, place)
    except Misconfigured as error:
        if mixed:
            raise _mixed(place, encoding, mixed[0]) from error
        raise
    if mixed and mixed[0] <= layout.header:
        raise _mixed(place, encoding, mixed[0])
    below = [cells for line, cells in rows if line > layout.header and any(cells)]
    width = len(layout.names)
    wider = [len(cells) - width for cells in below]
    if layout.names[-1] == f"column_{width}" and wider and set(wider) == {-1}:
        # Only the header ends with a delimiter; if its last title were one, rows would have it.
        return delimiter, replace(layout, names=layout.names[:-1]), False
    # One record alone may as well have a cell too many.
    trailing = len(wider) > 1 and set(wider) == {1} and not any(cells[-1] for cells in below)
    return delimiter, layout, trailing


def _mixed(place: str, encoding: str, line: int) -> Rejected:
    return Rejected(
        Text(
            f"{place} 第 {line} 行（表头附近）的编码不是 {encoding}，与其他行不同",
            f"{place}: line {line}, near the header, is not in {encoding}, unlike the others",
        ),
        hint=Text(
            "文件中混有几种编码，请用一种编码（UTF-8）重新导出",
            "the file mixes encodings: export it again in one of them (UTF-8)",
        ),
    )


def _delimiter(lines: Sequence[str]) -> str:
    """Choose the delimiter that cuts most rows into the same number of cells."""

    def agreement(delimiter: str) -> tuple[int, int, int]:
        try:
            rows = list(csv.reader([f"{line}\n" for line in lines], delimiter=delimiter))
        except csv.Error:
            return 0, 0, 0
        counts = Counter(len(cells) for cells in rows if len(cells) > 1)
        if not counts:
            return 0, 0, 0
        width, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
        # A quote that is left within a cell says that it was cut in the wrong place.
        clean = sum(
            len(cells) == width and not any('"' in cell for cell in cells) for cells in rows
        )
        return clean, agreeing, width

    return max(_DELIMITERS, key=agreement)


def _no_lines(place: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{place} 的一行超过 64 MiB，不是文本表格", f"{place}: a line over 64 MiB, no table"),
        hint=Text("请检查该文件", "look at that file"),
    )


def _records(data: bytes, spans: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """Return records of several lines as they are, with their own line ends within."""
    if not spans:
        return []
    ends = line_ends(data)
    out = []
    for start, end in spans:
        begin = int(ends[start - 1]) + 1 if start else 0
        stop = int(ends[end - 1]) if end <= len(ends) else len(data)
        out.append((start, end, data[begin:stop].removesuffix(b"\r").decode()))
    return out


def _joined(text: pl.Series) -> bytes:
    return "\n".join(text.to_list()).encode()


class _Parser:
    """Turns decoded blocks into frames of the header's columns, ``_row`` and ``_defect``."""

    def __init__(
        self,
        names: tuple[str, ...],
        delimiter: str,
        how: TextFormat,
        place: str,
        *,
        trailing: bool,
    ) -> None:
        """``trailing``: each record ends with a delimiter, behind which nothing may stand."""
        self._titles = names
        self._trailing = trailing
        self._names = (*names, _BEHIND) if trailing else names
        self._delimiter = delimiter
        self._groups = how.group_rows == "note" and len(names) >= MIN_GROUP_COLUMNS
        self._footers = how.footer == "note"
        self._place = place
        self._schema = dict.fromkeys(self._names, pl.String())

    def empty(self) -> pl.DataFrame:
        """Return a frame without rows."""
        schema = dict.fromkeys(self._titles, pl.String())
        return pl.DataFrame(schema={**schema, ROW: pl.Int64(), DEFECT: pl.String()})

    def parse(
        self, lines: Lines, first: int, *, last: bool
    ) -> tuple[pl.DataFrame, tuple[Remark, ...], int, bool]:
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
            whole = pl.repeat(False, len(text), eager=True)  # noqa: FBT003
            frame = pl.DataFrame(schema={**self._schema, ROW: pl.Int64(), DEFECT: pl.String()})
        else:
            rows = whole[:used].arg_true().cast(pl.Int64) + first
            told = pl.lit(None, dtype=pl.String).alias(DEFECT)
            frame = frame.with_columns(rows.alias(ROW), told)
        if frame.height < used:
            odd_ones = self._slow(text, whole[:used], _records(lines.data, spans), first, lines)
            frame = pl.concat((frame, odd_ones)).sort(ROW)
        if b'="' in lines.data or b'"=""' in lines.data:
            frame = frame.with_columns(pl.col(self._titles).str.replace(_AS_TEXT, "$1"))
        frame, notes = self._without_groups(self._without_trailing(frame))
        return frame, notes, used, used < len(text)

    def _without_trailing(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self._trailing:
            return frame
        more = pl.col(_BEHIND).is_not_null() & pl.col(DEFECT).is_null()
        width = len(self._titles)
        defect = pl.format(
            f"{width + 1} cells where the header has {width}\n{{}}",
            pl.concat_str(pl.col(self._names).fill_null(""), separator=self._delimiter),
        )
        told = pl.when(more).then(defect).otherwise(pl.col(DEFECT)).alias(DEFECT)
        return frame.with_columns(told).drop(_BEHIND)

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
        spans: list[tuple[int, int, str]],
        first: int,
        lines: Lines,
    ) -> pl.DataFrame:
        """Parse what is irregular record by record, with the reason of what is wrong."""
        within = {line for start, end, _ in spans for line in range(start, end)}
        damaged = set(lines.damaged)
        single = [line for line in (~whole).arg_true().to_list() if line not in within]
        records = [
            *((line, line + 1, text[line]) for line in single),
            *spans,
        ]
        width = len(self._names)
        columns: list[list[str | None]] = [[] for _ in self._names]
        rows: list[int] = []
        defects: list[str | None] = []
        for number, end, record in records:
            if not record.strip():
                continue
            cells, told = self._judged(record)
            if damaged and not damaged.isdisjoint(range(number, end)):
                told = told or "bytes of another encoding"
            for column, cell in zip(columns, cells + [""] * width, strict=False):
                column.append(cell or None)
            rows.append(first + number)
            defects.append(told and f"{told}\n{record[:_MAX_ORIGINAL]}")
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

    def _without_groups(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Remark, ...]]:
        """Take out footers, rows where only the first cell is filled, rows without anything."""
        first, *others = self._titles
        empty = pl.all_horizontal(pl.lit(True), *(pl.col(name).is_null() for name in others))  # noqa: FBT003
        alone = empty & pl.col(DEFECT).is_null()
        if not self._groups:
            alone &= pl.col(first).is_null()
        footer = pl.lit(False)  # noqa: FBT003
        if self._footers:
            # A footer may have fewer cells than the header; its defect then holds all of it.
            footer = pl.coalesce(self._titles).str.contains(FOOTER).fill_null(value=False) & (
                pl.col(DEFECT).is_null() | pl.col(DEFECT).str.contains(_WRONG_COUNT)
            )
        # The header again, of files that were joined: see is_header.
        same = [pl.col(name).eq_missing(name) for name in self._titles]
        header = (pl.sum_horizontal(same) > 1) & pl.all_horizontal(
            match | pl.col(name).is_null() for match, name in zip(same, self._titles, strict=True)
        )
        found = frame.select(alone.alias("alone"), footer.alias("footer"), header.alias("header"))
        out = found["alone"] | found["footer"] | found["header"]
        if not out.any():
            return frame, ()
        kinds = (
            pl.when(found["alone"])
            .then(pl.lit("group"))
            .when(found["footer"])
            .then(pl.lit("footer"))
            .otherwise(pl.lit("header"))
        )
        told = pl.coalesce(
            pl.col(DEFECT).str.replace(_WRONG_COUNT, ""),
            pl.concat_str(self._titles, separator=" ", ignore_nulls=True),
        )
        taken = frame.select(ROW, kinds.alias("kind"), told.alias("text")).filter(out)
        notes = [note(row, kind, text) for row, kind, text in taken.iter_rows() if text]
        return frame.filter(~out), bounded(notes, self._place)
