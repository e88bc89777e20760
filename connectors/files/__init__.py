"""files: what departments drop into a folder, each file taken exactly once.

Text tables in UTF-8 or GB18030 (GBK) and spreadsheets, told apart by their first bytes. Every
column comes as text; ``_row`` is the position in the file, ``_defect`` what is broken about a
record. Titles, group rows and unread sheets are reported as notes.

A file is new or changed by size, time and content: the same content saved again is not taken
again. A file that is still being written is left for later. A pull that died goes on within
the file. One bad file does not hold up the others: its error comes last.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import polars as pl
from pydantic import Field

from exchange.connect import (
    Cursor,
    Misconfigured,
    Pulled,
    Rejected,
    Text,
    Transient,
    connector,
)
from exchange.connectors.files.sheet import SheetFormat, read_sheet
from exchange.connectors.files.text import BLOCK_BYTES, ENCODINGS, Position, TextFormat, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SUFFIXES = {".csv", ".txt", ".tsv", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".et"}
MAX_FILES = 4_096
"""Files remembered in the cursor; files that are gone are forgotten first, oldest first."""
_SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
_MARKUP = (b"<html", b"<!doct", b"<table", b"<?xml")

Stat = tuple[int, int]
"""Size, and the later of the times of content and of change, in nanoseconds."""


@connector("files")
def files(
    *,
    folder: Annotated[Path, Text("文件夹", "the folder")],
    glob: Annotated[
        str, Text("文件名模式，如 *.csv；** 含子文件夹", "names, such as *.csv; ** for subfolders")
    ] = "*",
    encoding: Annotated[
        Literal["auto", "utf-8", "gbk", "gb18030"],
        Text("文本编码，默认自动识别", "encoding of text files, detected by default"),
    ] = "auto",
    delimiter: Annotated[
        str, Text("分隔符，默认自动识别", "delimiter, detected by default"), Field(max_length=1)
    ] = "",
    sheet: Annotated[
        str | int | None,
        Text("工作表的名称或序号，默认第一个有内容的", "sheet by name or number, else the first"),
    ] = None,
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
    root = _root(base / folder)
    taken = _Taken.read(cursor)
    found = _found(root, glob)
    taken.forget(found)
    fresh = {name: _stat(path) for name, path in found.items() if taken.is_new(name, _stat(path))}
    young = [name for name, stat in fresh.items() if now().timestamp() - stat[1] / 1e9 < settle]
    if young:
        sleep(settle)
    failed: list[Rejected] = []
    text = TextFormat(
        ENCODINGS.get(encoding, ""), delimiter, header, columns, group_rows, block_bytes
    )
    how = _How(text, SheetFormat(sheet, header, columns, group_rows, batch_rows))
    for name, stat in fresh.items():
        if name in young and _stat(found[name]) != stat:
            continue  # It is still being written: the next pull looks again.
        try:
            yield from _File(found[name], name, stat, taken, how).take()
        except Rejected as error:
            failed.append(error)
    if failed:
        raise failed[0]


@dataclass(frozen=True, slots=True)
class _How:
    text: TextFormat
    sheet: SheetFormat


@dataclass(slots=True)
class _Taken:
    """The cursor: files taken (name → size, time, digest), and where the current one stands."""

    files: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    at: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: Cursor | None) -> _Taken:
        """Read the cursor back."""
        given: Mapping[str, Any] = cursor or {}
        taken = {name: (s, t, d) for name, (s, t, d) in given.get("files", {}).items()}
        return cls(taken, dict(given.get("at", {})))

    def cursor(self) -> Cursor:
        """Return a copy as JSON."""
        files = {name: list(known) for name, known in self.files.items()}
        return {"files": files, "at": dict(self.at)} if self.at else {"files": files}

    def is_new(self, name: str, stat: Stat) -> bool:
        """Whether size or time are not the ones taken."""
        known = self.files.get(name)
        return known is None or known[:2] != stat

    def resume(self, name: str, stat: Stat) -> dict[str, Any]:
        """Return where reading stopped, if this is still the same file."""
        at = self.at
        same = at.get("name") == name and (at.get("size"), at.get("time")) == stat
        return at if same else {}

    def stop(self, name: str, stat: Stat, **where: Any) -> Cursor:
        """Remember where reading stands within a file."""
        self.at = {"name": name, "size": stat[0], "time": stat[1], **where}
        return self.cursor()

    def done(self, name: str, stat: Stat, digest: str) -> Cursor:
        """Remember a file as taken."""
        self.at = {}
        self.files.pop(name, None)
        self.files[name] = (*stat, digest)
        return self.cursor()

    def forget(self, found: Mapping[str, Path]) -> None:
        """Keep the cursor bounded: forget files that are gone, the oldest first."""
        gone = [name for name in self.files if name not in found]
        for name in gone[: max(0, len(self.files) - MAX_FILES)]:
            del self.files[name]
        if len(found) > MAX_FILES:
            raise Misconfigured(
                Text(
                    f"文件夹里有 {len(found)} 个文件，上限 {MAX_FILES}",
                    f"the folder has {len(found)} files, the limit is {MAX_FILES}",
                ),
                hint=Text("请把已处理的文件移走", "move files away that were processed"),
            )


def _root(folder: Path) -> Path:
    try:
        root = folder.resolve(strict=True)
    except OSError as error:
        raise _no_folder(folder) from error
    if not root.is_dir():
        raise _no_folder(folder)
    return root


def _no_folder(folder: Path) -> Misconfigured:
    return Misconfigured(
        Text(f"没有文件夹 {folder}", f"there is no folder {folder}"),
        hint=Text("路径从配置文件所在目录算起", "paths start at the settings file's folder"),
    )


def _found(root: Path, glob: str) -> dict[str, Path]:
    """List the files by name; raises Misconfigured for one that lies outside the folder."""
    if ".." in Path(glob).parts or Path(glob).is_absolute():
        raise _outside(glob)
    out = {}
    for path in sorted(root.glob(glob)):
        hidden = path.name.startswith((".", "~$"))
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if not path.resolve().is_relative_to(root):
            raise _outside(path.name)
        # A name in the bytes of another system must not break the cursor.
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        out[name] = path
    return out


def _outside(name: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{name} 指向文件夹之外", f"{name} points outside the folder"),
        hint=Text("只读取该文件夹内的文件，请移走该链接", "only files within are read: remove it"),
    )


def _stat(path: Path) -> Stat:
    return _times(path.stat())


def _times(found: os.stat_result) -> Stat:
    # Copying tools set the first time back; nobody sets the second.
    return found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class _File:
    """One file to take, as it was seen in the listing."""

    path: Path
    name: str
    stat: Stat
    taken: _Taken
    how: _How

    def take(self) -> Iterator[Pulled]:
        """Pull the file; the last frame's cursor counts it as taken."""
        with self.path.open("rb") as stream:
            at = self.taken.resume(self.name, self.stat)
            known = self.taken.files.get(self.name)
            if known is not None and not at:
                digest = _digest(stream)
                if digest == known[2]:
                    cursor = self.taken.done(self.name, self.stat, digest)
                    yield Pulled(pl.DataFrame(), cursor, self.name)
                    return
            top = stream.read(8)
            stream.seek(0)
            if top.startswith(_SPREADSHEET):
                yield from self._sheet(stream, at.get("row", 0))
            elif top.lstrip().lower().startswith(_MARKUP):
                raise Rejected(
                    Text(f"{self.name} 是网页，不是表格", f"{self.name} is a web page, no table"),
                    hint=Text("请用 Excel 另存为 xlsx", "open it in Excel and save it as xlsx"),
                )
            else:
                yield from self._text(stream, Position(*at.get("position", ())))

    def _text(self, stream: BinaryIO, start: Position) -> Iterator[Pulled]:
        digest = hashlib.sha256()
        last = Pulled(pl.DataFrame(), None, self.name)
        for part in read_text(stream, self.how.text, start, self.name, digest.update):
            if last.cursor is not None:
                yield last
            cursor = self.taken.stop(self.name, self.stat, position=list(part.position))
            last = Pulled(part.frame, cursor, self.name, part.notes)
        yield self._finished(stream, last, digest.hexdigest())

    def _sheet(self, stream: BinaryIO, row: int) -> Iterator[Pulled]:
        digest = _digest(stream)
        last = Pulled(pl.DataFrame(), None, self.name)
        for sheet, part in read_sheet(stream, self.how.sheet, row, self.name):
            if last.cursor is not None:
                yield last
            cursor = self.taken.stop(self.name, self.stat, row=part.row)
            last = Pulled(part.frame, cursor, f"{self.name}/{sheet}", part.notes)
        yield self._finished(stream, last, digest)

    def _finished(self, stream: BinaryIO, last: Pulled, digest: str) -> Pulled:
        """Let the last frame count the file as taken, unless it was written to meanwhile."""
        if _times(os.fstat(stream.fileno())) != self.stat:
            raise Transient(
                Text(f"读取时 {self.name} 被改动", f"{self.name} changed while it was read"),
                hint=Text("下次会重新读取整个文件", "the next pull reads the whole file again"),
            )
        return replace(last, cursor=self.taken.done(self.name, self.stat, digest))


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while data := stream.read(1 << 20):
        digest.update(data)
    stream.seek(0)
    return digest.hexdigest()
