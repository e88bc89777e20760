"""The process that reads spreadsheets and web pages: limited, and of no use to an intruder.

Started by :mod:`exchange.connectors.files.process` with an empty environment and one socket.
Each request brings an open file; the answers are frames of text, one refusal, or the end. What
a library does wrong here (a panic, an abort, a loop, all of memory) ends this process only.
It imports little, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from exchange.connectors.files.book import (
    MAX_WORKBOOK_BYTES,
    Book,
    SheetFormat,
    SheetPart,
    Start,
    read_book,
)
from exchange.connectors.files.channel import receive, send
from exchange.connectors.files.dbf import may_be_dbf, read_dbf
from exchange.connectors.files.outline import outlines
from exchange.errors import Misconfigured, Rejected
from exchange.text import Text

MAX_UNZIPPED = 512 * 1024 * 1024
"""What a workbook may unfold to; a megabyte of zeros packs into a kilobyte."""
MAX_PARTS = 10_000
"""Files within a workbook or archive."""
_SHOWN_NAMES = 20
_MEBIBYTE = 1 << 20


def main(descriptor: int, memory: int, seconds: int) -> None:
    """Answer requests until the other side ends.

    ``memory`` MiB may be asked for beyond what the start took, ``seconds`` of processor time
    for each file.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_AS, _size() + memory * _MEBIBYTE)
    channel = socket.socket(fileno=descriptor)
    while (received := receive(channel)) is not None:
        message, file = received
        if file is None:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1, soft=True)
        with os.fdopen(file, "rb") as stream:
            last = _answer(channel, stream, message, memory)
        send(channel, last)


def _answer(
    channel: socket.socket, stream: BinaryIO, message: dict[str, Any], memory: int
) -> dict[str, Any]:
    """Send the parts of a file; return the last answer: the end, or a refusal."""
    place = str(message["place"])
    try:
        if message["want"] == "names":
            send(channel, {"names": archived_names(stream)})
            return {"end": True}
        how = dict(message["how"])
        for key in ("columns", "sheets"):
            how[key] = tuple(how[key]) if isinstance(how[key], list) else how[key]
        if message["want"] == "outline":
            for outline in outlines(open_book(stream), SheetFormat(**how), place):
                send(channel, outline)
            return {"end": True}
        for part in read_sheets(stream, SheetFormat(**how), Start(*message["start"]), place):
            send(channel, part._asdict())
    except MemoryError:
        return _refusal(
            Rejected(
                Text(
                    f"读取它所需内存超过 {memory} MiB", f"it needs more than {memory} MiB to read"
                ),
                hint=_AGAIN,
            )
        )
    except Rejected as error:
        return _refusal(error)
    except BaseException as error:
        if isinstance(error, SystemExit | KeyboardInterrupt | BrokenPipeError):
            raise
        return _refusal(damage(error))
    return {"end": True}


_AGAIN = Text("请检查并重新导出该文件，或拆分它", "look at it and export it again, or split it")


def damage(error: BaseException) -> Rejected:
    """Return the refusal for what a library could not read, or for a library that is missing."""
    if isinstance(error, ModuleNotFoundError):
        return Misconfigured(
            Text(f"无法读取：没有安装 {error.name}", f"cannot be read: {error.name} is missing"),
            hint=Text("请安装 gov-exchange[node]", "install gov-exchange[node]"),
        )
    told = f"{type(error).__name__}: {error}"[:300]
    return Rejected(
        Text(f"已损坏，无法读取（{told}）", f"is damaged, it cannot be read ({told})"),
        hint=Text("请重新导出该文件", "export the file again"),
    )


def _refusal(error: Rejected) -> dict[str, Any]:
    kind = "Misconfigured" if isinstance(error, Misconfigured) else "Rejected"
    return {"refused": kind, "what": list(error.what), "hint": list(error.hint)}


def read_sheets(
    stream: BinaryIO, how: SheetFormat, start: Start, place: str
) -> Iterator[SheetPart]:
    """Yield the parts of a workbook or web page, whatever its format.

    Raises Rejected for what is damaged, locked or swollen, Misconfigured when a sheet or its
    header is not found, and what the libraries raise for what they cannot read.
    """
    yield from read_book(open_book(stream), how, start, place)


def open_book(stream: BinaryIO) -> Book:
    """Open a workbook by its first bytes."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > MAX_WORKBOOK_BYTES:
        raise _swollen()
    top = stream.read(32)
    stream.seek(0)
    if top.startswith(b"PK\x03\x04"):
        return _packed(stream)
    if may_be_dbf(top):
        return read_dbf(stream.read())
    if top.startswith(b"\xd0\xcf\x11\xe0") or top[:2] in (b"\x09\x08", b"\x09\x04", b"\x09\x02"):
        from exchange.connectors.files.xls import read_xls

        return read_xls(stream.read())
    from exchange.connectors.files.markup import read_markup

    return read_markup(stream.read())


def _packed(stream: BinaryIO) -> Book:
    archive = zipfile.ZipFile(stream)
    check_unzipped(archive)
    names = {name.lower() for name in archive.namelist()}
    if "content.xml" in names:
        from exchange.connectors.files.markup import read_ods

        return read_ods(archive)
    if any(name.endswith("workbook.bin") for name in names):
        from exchange.connectors.files.xlsb import read_xlsb

        return read_xlsb(archive)
    if "[content_types].xml" not in names:
        raise Rejected(
            Text("是压缩包，不是工作簿", "is a zip archive, no workbook"),
            hint=Text("请解压后放入其中的表格", "unzip it and drop the tables within"),
        )
    from exchange.connectors.files.xlsx import read_xlsx

    return read_xlsx(archive)


def check_unzipped(archive: zipfile.ZipFile) -> None:
    """Refuse what unfolds to more than memory should hold, by really unfolding it.

    This also checks the CRC of every part: nothing of a damaged workbook is read.
    """
    if len(archive.infolist()) > MAX_PARTS:
        raise _swollen()
    total = 0
    for entry in archive.infolist():
        if entry.flag_bits & 1:
            from exchange.connectors.files.xls import protected

            raise protected()
        with archive.open(entry) as member:
            while data := member.read(_MEBIBYTE):
                total += len(data)
                if total > MAX_UNZIPPED:
                    raise _swollen()


def archived_names(stream: BinaryIO) -> list[str]:
    """Return names within a zip archive; without the flag of UTF-8 they are mostly GBK here."""
    out = []
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist()[:_SHOWN_NAMES]:
            name = entry.filename
            if not entry.flag_bits & 0x800:
                raw = name.encode("cp437", "replace")
                try:
                    name = raw.decode("utf-8")
                except UnicodeDecodeError:
                    name = raw.decode("gb18030", "replace")
            out.append(name)
        if len(archive.infolist()) > _SHOWN_NAMES:
            out.append(f"… ({len(archive.infolist())})")
    return out


def _swollen() -> Rejected:
    return Rejected(
        Text("过大或是压缩炸弹", "is too big, or a zip bomb"),
        hint=Text("请拆分，或另存为 CSV", "split it, or save it as CSV"),
    )


def _limit(which: int, value: int, *, soft: bool = False) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, hard if soft else value))


def _size() -> int:
    """Return the bytes of address space that the start took."""
    fields = Path("/proc/self/statm").read_bytes().split()
    return int(fields[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
