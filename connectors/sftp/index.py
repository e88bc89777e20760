"""Index files of an exchange server (前置机): which uploads are whole, by name, size and digest."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.connect import Misconfigured, Text, Transient
from exchange.connectors.files.folder import MAX_FILES
from exchange.connectors.sftp.session import RemoteFile, SftpSession

_MAX_BYTES = 8 * 1024 * 1024
_MAX_INDEXES = 1_000
_DIGESTS: Mapping[int, tuple[str, ...]] = {32: ("md5",), 40: ("sha1",), 64: ("sha256", "sm3")}
_HEX = re.compile(r"[0-9A-Fa-f]+")
_CUT = re.compile(r"[\t,;|]")
_MAX_SIZE_DIGITS = 18


@dataclass(frozen=True, slots=True)
class UploadEntry:
    """What an index says about a file; what it does not say is None or empty."""

    size: int | None
    digest: str

    def check(self, name: str, path: Path) -> None:
        """Raise Transient where a copy is not the file that the index means."""
        if self.digest and not _has(path, self.digest):
            raise Transient(
                Text(f"{name} 与索引中的摘要不符", f"{name} is not the file of the index"),
                hint=Text(
                    "上传可能未完成，下次拉取会再核对；若持续不符，请对方重新上传",
                    "its upload may not be over: the next pull looks again; if it lasts, have it "
                    "uploaded again",
                ),
            )


def is_index(pattern: str, name: str) -> bool:
    """Whether a file is an index; case does not count."""
    return bool(pattern) and fnmatch.fnmatch(name.lower(), pattern.lower())


def read_indexes(
    opened: SftpSession, found: Sequence[RemoteFile], folder: Path
) -> dict[str, UploadEntry]:
    """Return the entries of all index files, in the order of their names; later ones count.

    Raises Misconfigured for one that is no index.
    """
    if len(found) > _MAX_INDEXES:
        raise _too_many(len(found))
    entries: dict[str, UploadEntry] = {}
    for file in found:
        if file.size > _MAX_BYTES:
            raise _no_index(file.name, f"{file.size} bytes")
        target = folder / file.name
        opened.fetch(file, target)
        entries |= parse_index(target.read_bytes(), file.name)
        target.unlink()
    return entries


def parse_index(data: bytes, name: str) -> dict[str, UploadEntry]:
    """Read lines of a name, and its size and digest in any order; blank lines and ``#`` are none.

    Cut by tab, comma, semicolon or pipe, else by blanks, as ``sha256sum`` writes. A first line
    without size and digest is a header where others have them.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError as error:
            raise _no_index(name, "it is neither UTF-8 nor GBK") from error
    lines = [line.strip() for line in text.splitlines()]
    items = [_item(line, name) for line in lines if line and not line.startswith("#")]
    bare = [entry.size is None and not entry.digest for _, entry in items]
    if len(items) > 1 and bare[0] and not any(bare[1:]):
        del items[0]
    if len(items) > MAX_FILES:
        raise _no_index(name, f"it has {len(items)} lines")
    return dict(items)


def _item(line: str, index: str) -> tuple[str, UploadEntry]:
    parts = [part.strip() for part in (_CUT.split(line) if _CUT.search(line) else line.split())]
    names: list[str] = []
    size: int | None = None
    digest = ""
    for part in filter(None, parts):
        if not digest and len(part) in _DIGESTS and _HEX.fullmatch(part):
            digest = part.lower()
        elif size is None and part.isascii() and part.isdigit() and len(part) <= _MAX_SIZE_DIGITS:
            size = int(part)
        else:
            names.append(part)
    name = " ".join(names).removeprefix("*").removeprefix("./")
    if not name or "/" in name:
        raise _no_index(index, f"the line {line[:80]!r} names no file of this folder")
    return name, UploadEntry(size, digest)


def _has(path: Path, digest: str) -> bool:
    for kind in _DIGESTS[len(digest)]:
        try:
            made = hashlib.new(kind, usedforsecurity=False)
        except ValueError:  # a build of OpenSSL without it
            continue
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                made.update(piece)
        if made.hexdigest() == digest:
            return True
    return False


def _no_index(name: str, why: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{name} 不是可用的索引文件：{why}", f"{name} is no index: {why}"),
        hint=Text(
            "每行写文件名、字节数、摘要（MD5、SHA-1、SHA-256、SM3 之一）；请检查 index",
            "each line has a name, its bytes and its digest (MD5, SHA-1, SHA-256 or SM3); "
            "check index",
        ),
    )


def _too_many(count: int) -> Misconfigured:
    return Misconfigured(
        Text(f"有 {count} 个索引文件", f"there are {count} index files"),
        hint=Text("请把已处理的索引移走", "move those away that were processed"),
    )
