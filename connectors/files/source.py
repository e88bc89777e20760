"""files: what departments drop into a folder, each file taken exactly once.

Text tables in UTF-8, UTF-16 or GB18030 (GBK), spreadsheets, and tables in web pages, told apart
by their first bytes. Every column comes as text; ``_row`` is the position in the file,
``_defect`` what is broken about a record. Titles, group rows, footers, unread sheets and files
that are passed over are reported as notes.

A file is new or changed by size, time and content: the same content saved again is not taken
again. A file that is still being written is left for later. A pull that died goes on within
the file. Files are untrusted: what has a format of its own is read in a process of its own
(:mod:`exchange.connectors.files.process`). One bad file does not hold up the others: it is
refused by name when they are done, and stays in the folder. Each pull names it; it is read
again when it or the settings change, or when a person says so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Protocol

import polars as pl
from pydantic import Field

from exchange.connect import (
    Cursor,
    Denied,
    ExchangeError,
    Misconfigured,
    Note,
    Pulled,
    Rejected,
    Text,
    Transient,
    connector,
)
from exchange.connectors.files.book import MAX_WORKBOOK_BYTES, SheetFormat
from exchange.connectors.files.describe import Describer, is_book
from exchange.connectors.files.encoding import ENCODINGS, Wide, wide_encoding
from exchange.connectors.files.folder import (
    Bounded,
    Listing,
    Stat,
    listing,
    open_file,
    root_of,
    stat_of,
    times,
)
from exchange.connectors.files.layout import DEFECT, ROW, Remark
from exchange.connectors.files.process import ReaderProcess
from exchange.connectors.files.refusal import (
    Refusal,
    one_error,
    panic_error,
    too_large,
)
from exchange.connectors.files.taken import Taken
from exchange.connectors.files.text import BLOCK_BYTES, TextFormat, TextPosition, read_text
from exchange.connectors.files.uploads import UploadEntry, Uploads

_HEAD = 4_096
_MAX_DIGEST_BYTES = 1 << 30
"""Size up to which a refused file is known by its content, too."""


class _Settings(Protocol):
    """The settings below, as those get them that only describe."""

    folder: Path
    glob: str
    encoding: str
    delimiter: str
    sheet: str | int | None
    sheets: Any
    header: int | None
    columns: tuple[str, ...]
    read_memory: int
    read_seconds: int


@connector("files")
def files(
    *,
    folder: Annotated[Path, Text("文件夹", "the folder")],
    glob: Annotated[
        str, Text("文件名模式，如 *.csv；** 含子文件夹", "names, such as *.csv; ** for subfolders")
    ] = "*",
    encoding: Annotated[
        Literal["auto", "utf-8", "gbk", "gb18030", "utf-16-le", "utf-16-be"],
        Text("文本编码，默认自动识别", "encoding of text files, detected by default"),
    ] = "auto",
    delimiter: Annotated[
        str, Text("分隔符，默认自动识别", "delimiter, detected by default"), Field(max_length=1)
    ] = "",
    sheet: Annotated[
        str | int | None,
        Text("工作表的名称或序号，默认第一个有内容的", "sheet by name or number, else the first"),
    ] = None,
    sheets: Annotated[
        Literal["all"] | tuple[str | int, ...] | None,
        Text("读取多个工作表：all 或名称、序号", "several sheets: all, or names and numbers"),
    ] = None,
    further_sheets: Annotated[
        Literal["header", "continue"],
        Text(
            "后面的工作表：各有表头，或接着第一个的数据",
            "further sheets: each has a header, or they go on with the first one's records",
        ),
    ] = "header",
    header: Annotated[
        int | None,
        Text("表头在第几行，0 为没有；默认自动查找", "row of the header, 0: none; else found"),
        Field(ge=0),
    ] = None,
    columns: Annotated[
        tuple[str, ...],
        Text(
            "必须有的列（header 为 0 时是全部列名）", "columns that must be there (header 0: all)"
        ),
    ] = (),
    group_rows: Annotated[
        Literal["note", "record"],
        Text("只填了第一格的行：报告，或当作记录", "rows with only a first cell: note or record"),
    ] = "note",
    footer: Annotated[
        Literal["note", "record"],
        Text(
            "合计、制表人、填报日期等行：报告，或当作记录",
            "rows of totals and signatures ('合计', '制表人', …): note or record",
        ),
    ] = "note",
    flag: Annotated[
        str,
        Text(
            "完成标志文件：{name}.ok、{stem}.ok，或每个文件夹一个 index.ok",
            "file that says an upload is over: {name}.ok, {stem}.ok, or one index.ok a folder",
        ),
    ] = "",
    index: Annotated[
        str,
        Text(
            "索引文件名（可含 *）：每行文件名、字节数、摘要；只读取其中列出且完整的文件",
            "index files, as *.idx: each line has a name, bytes and digest; nothing else is read",
        ),
    ] = "",
    settle: Annotated[
        float,
        Text("文件多少秒不变才读取", "seconds that a file stays unchanged before it is read"),
        Field(ge=0, le=3600),
    ] = 2,
    batch_rows: Annotated[
        int, Text("电子表格每帧行数", "rows per frame of a spreadsheet"), Field(ge=1, le=100_000)
    ] = 20_000,
    block_bytes: Annotated[
        int, Text("文本文件每次读取字节数", "bytes of a text file read at once"), Field(ge=16)
    ] = BLOCK_BYTES,
    read_memory: Annotated[
        int,
        Text("读取一个文件的内存上限，MiB", "memory for one file, MiB"),
        Field(ge=64, le=65_536),
    ] = 2_048,
    read_seconds: Annotated[
        int,
        Text("读取一个文件的处理器时间上限，秒", "processor time for one file, s"),
        Field(ge=1, le=7_200),
    ] = 600,
    cursor: Cursor | None,
    now: Callable[..., Any],
    sleep: Callable[[float], None],
    base: Path,
) -> Iterator[Pulled]:
    """Pull the new and changed files of a folder: CSV and Excel."""
    if header == 0 and not columns:
        raise Misconfigured(
            Text("header 为 0 时要用 columns 写明列名", "header 0 needs the names in columns"),
            hint=Text("请修改该数据源的配置", "edit the settings of this source"),
        )
    root = root_of(base / folder)
    taken = Taken.read(cursor)
    found = listing(root, glob)
    taken.forget(found.files)
    uploads = Uploads(flag, index)
    listed = found.files
    found, entries = uploads.look(root, found)
    stats = {name: _stat_or_none(path) for name, path in found.files.items()}
    fresh = {name: s for name, s in stats.items() if s is not None and taken.is_new(name, s)}
    young = [name for name, stat in fresh.items() if now().timestamp() - stat[1] / 1e9 < settle]
    if uploads.are_told:
        young = []
    elif young:
        sleep(settle)
    text = TextFormat(
        ENCODINGS.get(encoding, ""), delimiter, header, columns, group_rows, block_bytes, footer
    )
    workbook = SheetFormat(
        sheet, sheets, header, columns, group_rows, footer, further_sheets, batch_rows
    )
    failed: list[ExchangeError] = list(found.refused.values())
    unfinished = uploads.leave_out(root, listed, found.files)
    with ReaderProcess(memory=read_memory, seconds=read_seconds) as reader:
        reading = _reading(text, workbook, read_memory, read_seconds)
        how = _How(root, text, workbook, reader, reading)
        yield from _passed_over(found, taken, how)
        for name, stat in fresh.items():
            if name in young and _stat_or_none(found.files[name]) != stat:
                unfinished = True  # It is still being written: the next pull looks again.
                continue
            file = _File(found.files[name], name, stat, taken, how)
            if not (yield from _still_refused(file, failed)):
                yield from _apart(file, failed, entries.get(name))
    if unfinished:
        yield Pulled(pl.DataFrame(), taken.cursor(), unfinished=True)
    if failed:
        yield Pulled(pl.DataFrame(), taken.cursor(), complete=True)
        raise one_error(failed)


@files.columns
def columns_of(settings: _Settings, now: Callable[..., Any], base: Path) -> tuple[str, ...] | None:
    """Return the columns of the first file that can be read; None where there is none yet."""
    with _describing(settings, now, base) as describer:
        return describer.first_columns(listing(describer.root, settings.glob), settings.sheet)


@files.retry
def retry(cursor: Cursor) -> Cursor:
    """Forget which files were refused."""
    taken = Taken.read(cursor)
    taken.refused.clear()
    return taken.cursor()


def _reading(*how: object) -> str:
    """Return a digest of how files are read: with another one a refused file is tried again."""
    version = importlib.metadata.version("gov-exchange")
    return hashlib.sha256(repr((version, how)).encode()).hexdigest()[:16]


def _still_refused(file: _File, failed: list[ExchangeError]) -> Generator[Pulled, None, bool]:
    """Tell whether a file was refused before and still is; it is not read for that.

    A header that whoever pulls has refused is shown once more: the catalog may have changed.
    """
    known = file.refusal()
    if known is None:
        return False
    if not known.columns:
        failed.append(known.error())
        return True
    texts = dict.fromkeys(known.columns, pl.String())
    header = pl.DataFrame(schema={**texts, ROW: pl.Int64(), DEFECT: pl.String()})
    try:
        yield Pulled(header, file.taken.cursor(), known.locator)
    except ExchangeError as error:
        failed.append(error)
        return True
    return False


@files.discover
def discover(settings: _Settings, now: Callable[..., Any], base: Path) -> list[dict[str, Any]]:
    """List files and sheets: how they are read, columns and rows; the first rows without header."""
    with _describing(settings, now, base) as describer:
        return describer.entries(listing(describer.root, settings.glob))


@contextmanager
def _describing(settings: _Settings, now: Callable[..., Any], base: Path) -> Iterator[Describer]:
    names = settings.header, settings.columns
    text = TextFormat(ENCODINGS.get(settings.encoding, ""), settings.delimiter, *names, "note")
    workbook = SheetFormat(settings.sheet, settings.sheets, *names)
    with ReaderProcess(memory=settings.read_memory, seconds=settings.read_seconds) as reader:
        yield Describer(root_of(base / settings.folder), text, workbook, reader, now)


def _apart(file: _File, failed: list[ExchangeError], entry: UploadEntry | None) -> Iterator[Pulled]:
    """Pull one file; what goes wrong with it is kept for the end.

    A frame that is refused by who pulls ends its file, which counts as not taken.
    """
    before = (file.taken.files.get(file.name), dict(file.taken.at))
    columns: Sequence[str] = ()
    locator = ""
    try:
        if entry is not None:
            entry.check(file.name, file.path)
        for pulled in file.take():
            try:
                yield pulled
            except ExchangeError:
                file.taken.forget_file(file.name, *before)
                columns = [name for name in pulled.frame.columns if name not in (ROW, DEFECT)]
                locator = pulled.locator
                raise
    except ExchangeError as error:
        failed.append(error)
        if isinstance(error, Rejected) and not isinstance(error, Denied):
            file.refuse(error, columns, locator)
    except BaseException as error:
        # A panic of the column library is no Exception; nothing else is caught here.
        if type(error).__name__ != "PanicException":
            raise
        panic = panic_error(file.name, error)
        failed.append(panic)
        file.refuse(panic)


@dataclass(frozen=True, slots=True)
class _How:
    root: Path
    text: TextFormat
    sheet: SheetFormat
    reader: ReaderProcess
    reading: str
    """Digest of all this."""


def _stat_or_none(path: Path) -> Stat | None:
    """Return size and time; None for a file that is gone meanwhile."""
    try:
        return stat_of(path)
    except OSError:
        return None


def _passed_over(found: Listing, taken: Taken, how: _How) -> Iterator[Pulled]:
    """Tell once which files are not read, and why."""
    new = taken.told(found.passed)
    if not new:
        return
    notes = []
    for name in new:
        reason = found.passed[name]
        inside = _archived(how, name) if name.lower().endswith(".zip") else ""
        text = Text(
            f"{name}：{reason.zh}" + (f"：{inside}" if inside else ""),
            f"{name}: {reason.en}" + (f": {inside}" if inside else ""),
        )
        notes.append(Note(0, "passed over", text.joined()))
    yield Pulled(pl.DataFrame(), taken.cursor(), "", tuple(notes))


def _archived(how: _How, name: str) -> str:
    """Name what lies in an archive; empty for one that cannot be read."""
    try:
        with open_file(how.root / name, how.root, name) as stream:
            request = {"want": "names", "place": name}
            found = [answer["names"] for answer in how.reader.read(stream, request)]
    except ExchangeError:
        return ""
    return ", ".join(map(str, found[0]))[:_MAX_NAMES] if found else ""


_MAX_NAMES = 1_000


@dataclass(frozen=True, slots=True)
class _File:
    """One file to take, as it was seen in the listing."""

    path: Path
    name: str
    stat: Stat
    taken: Taken
    how: _How

    def take(self) -> Iterator[Pulled]:
        """Pull the file; the last frame's cursor counts it as taken."""
        with open_file(self.path, self.how.root, self.name) as stream:
            at = self.taken.resume(self.name, self.stat)
            known = self.taken.files.get(self.name)
            if known is not None and not at:
                digest = self._digest(stream)
                if digest == known[2]:
                    cursor = self.taken.done(self.name, self.stat, digest)
                    yield Pulled(pl.DataFrame(), cursor, self.name)
                    return
            stream.seek(0)
            if is_book(stream):
                yield from self._sheet(stream, (at.get("sheet", 0), at.get("row", 0)))
            else:
                yield from self._text(stream, TextPosition(*at.get("position", ())))

    def _text(self, stream: BinaryIO, start: TextPosition) -> Iterator[Pulled]:
        how, digest = self.how.text, hashlib.sha256()
        seen: Callable[[bytes], None] = digest.update
        text: Any = Bounded(stream, self.stat[0])
        wide = how.encoding if how.encoding.startswith("utf-16") else ""
        if not how.encoding:
            wide = wide_encoding(stream.read(_HEAD))
            stream.seek(0)
        if wide:
            text, how, seen = Wide(text, wide), replace(how, encoding="utf-8"), _nothing
        last = Pulled(pl.DataFrame(), None, self.name)
        for part in read_text(text, how, start, self.name, seen):
            if last.cursor is not None:
                yield last
            cursor = self.taken.stop(self.name, self.stat, position=list(part.position))
            last = Pulled(part.frame, cursor, self.name, _notes(part.notes))
        yield self._finished(stream, last, self._digest(stream) if wide else digest.hexdigest())

    def _sheet(self, stream: BinaryIO, start: tuple[int, int]) -> Iterator[Pulled]:
        if self.stat[0] > MAX_WORKBOOK_BYTES:
            raise too_large(self.name)
        digest = self._digest(stream)
        last = Pulled(pl.DataFrame(), None, self.name)
        how = {key: getattr(self.how.sheet, key) for key in SheetFormat.__slots__}
        request = {"want": "records", "how": how, "start": start, "place": self.name}
        answers = self.how.reader.read(stream, request)
        while True:
            try:
                part = next(answers, None)
            except ExchangeError as error:
                raise self._named(error) from error
            if part is None:
                break
            if last.cursor is not None:
                yield last
            sheet, row = part["at"]
            cursor = self.taken.stop(self.name, self.stat, sheet=sheet, row=row)
            notes = _notes(Remark(*told) for told in part["notes"])
            last = Pulled(_frame(part), cursor, f"{self.name}/{part['sheet']}", notes)
        yield self._finished(stream, last, digest)

    def refusal(self) -> Refusal | None:
        """Return why the file was refused, where it is still the same and is read the same way."""
        known = self.taken.refused.get(self.name)
        if known is None or known.reading != self.how.reading or known.size != self.stat[0]:
            return None
        if known.time != self.stat[1]:
            if not known.digest or known.digest != self._content():
                return None
            self.taken.refused[self.name] = replace(known, time=self.stat[1])
        return known

    def refuse(self, error: Rejected, columns: Sequence[str] = (), locator: str = "") -> None:
        """Remember that the file was refused."""
        made = Refusal.make(
            error,
            stat=self.stat,
            digest=self._content(),
            reading=self.how.reading,
            columns=columns,
            locator=locator,
        )
        self.taken.refuse(self.name, made)

    def _content(self) -> str:
        """Return the digest of the content; empty for what is too large, or cannot be opened."""
        if self.stat[0] > _MAX_DIGEST_BYTES:
            return ""
        try:
            with open_file(self.path, self.how.root, self.name) as stream:
                return self._digest(stream)
        except ExchangeError:
            return ""

    def _digest(self, stream: BinaryIO) -> str:
        """Return the digest of the file as long as it was in the listing."""
        stream.seek(0)
        digest, content = hashlib.sha256(), Bounded(stream, self.stat[0])
        while data := content.read(1 << 20):
            digest.update(data)
        stream.seek(0)
        return digest.hexdigest()

    def _named(self, error: ExchangeError) -> ExchangeError:
        """Begin what was said with the name of the file."""
        if error.what.en.startswith(self.name):
            return error
        what = Text(f"{self.name} {error.what.zh}", f"{self.name} {error.what.en}")
        return type(error)(what, hint=error.hint)

    def _finished(self, stream: BinaryIO, last: Pulled, digest: str) -> Pulled:
        """Let the last frame count the file as taken, unless it was written to meanwhile."""
        if times(os.fstat(stream.fileno())) != self.stat:
            raise Transient(
                Text(f"读取时 {self.name} 被改动", f"{self.name} changed while it was read"),
                hint=Text("下次会重新读取整个文件", "the next pull reads the whole file again"),
            )
        return replace(last, cursor=self.taken.done(self.name, self.stat, digest))


def _nothing(_data: bytes) -> None:
    """See nothing: the digest is taken from the file itself."""


def _notes(remarks: Iterable[Remark]) -> tuple[Note, ...]:
    return tuple(Note(*remark) for remark in remarks)


def _frame(part: dict[str, Any]) -> pl.DataFrame:
    """Make a frame of what the reading process answered; it is checked, not trusted."""
    made = [
        pl.Series(name, texts, dtype=pl.String)
        for name, texts in zip(part["names"], part["columns"], strict=True)
    ]
    made.append(pl.Series(ROW, part["rows"], dtype=pl.Int64))
    made.append(pl.Series(DEFECT, part["defects"], dtype=pl.String))
    return pl.DataFrame(made)
