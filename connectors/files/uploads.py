"""Whole uploads of an exchange server (前置机): flag files; indexes of names, sizes, digests."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from exchange.connect import Misconfigured, Text, Transient
from exchange.connectors.files.folder import MAX_FILES, Listing, listing, open_file, stat_of

MAX_INDEX_BYTES = 8 * 1024 * 1024
MAX_INDEXES = 1_000
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


@dataclass(frozen=True, slots=True)
class Uploads:
    """How the files of a folder are known to be whole: by a flag file, by an index, or neither."""

    flag: str
    index: str

    def __post_init__(self) -> None:
        """Raise Misconfigured for a flag that is a path."""
        if "/" in self.flag:
            raise Misconfigured(
                Text("flag 是文件名，不是路径", "flag is a name, not a path"),
                hint=Text("标志文件与数据文件在同一文件夹", "flags lie in the folder of the files"),
            )

    @property
    def are_told(self) -> bool:
        """Whether anything tells when an upload is over."""
        return bool(self.flag or self.index)

    def look(self, root: Path, found: Listing) -> tuple[Listing, dict[str, UploadEntry]]:
        """Return the listing with whole files only, and what the indexes say about them."""
        entries, own = self._entries(root)
        if self.flag:
            own |= {self._name(root, self._flag(path)) for path in found.files.values()}
        files = {
            name: path
            for name, path in found.files.items()
            if name not in own and self._is_whole(name, path, entries)
        }
        passed = {name: why for name, why in found.passed.items() if name not in own}
        if self.index:
            lost = Text("索引中有，文件夹里没有", "the index names it, and it is not there")
            passed |= {name: lost for name in entries if name not in found.files}
        return Listing(files, passed, found.refused), entries

    def leave_out(self, root: Path, listed: Mapping[str, Path], whole: Mapping[str, Path]) -> bool:
        """Tell whether a file of the folder is not whole; flags and indexes are none."""
        left = {name: path for name, path in listed.items() if name not in whole}
        if not left or not self.are_told:
            return False
        own = set(listing(root, self.index, suffixes=None).files) if self.index else set()
        if self.flag:
            own |= {self._name(root, self._flag(path)) for path in listed.values()}
        return not left.keys() <= own

    @staticmethod
    def _name(root: Path, path: Path) -> str:
        return os.fsencode(path.relative_to(root)).decode("utf-8", "replace")

    def _is_whole(self, name: str, path: Path, entries: Mapping[str, UploadEntry]) -> bool:
        try:
            size, time = stat_of(path)
            # A flag that is older than its file belongs to the upload before.
            if self.flag and stat_of(self._flag(path))[1] < time:
                return False
        except OSError:
            return False
        if not self.index:
            return True
        return name in entries and entries[name].size in (None, size)

    def _flag(self, path: Path) -> Path:
        return path.with_name(flag_of(self.flag, path.name))

    def _entries(self, root: Path) -> tuple[dict[str, UploadEntry], set[str]]:
        """Read the indexes; each names files of its own folder, and later ones count.

        Return their names, too.
        """
        entries: dict[str, UploadEntry] = {}
        if not self.index:
            return entries, set()
        found = listing(root, self.index, suffixes=None).files
        if len(found) > MAX_INDEXES:
            raise too_many(len(found))
        for name, path in found.items():
            with open_file(path, root, name) as stream:
                data = stream.read(MAX_INDEX_BYTES + 1)
            if len(data) > MAX_INDEX_BYTES:
                raise no_index(name, f"more than {MAX_INDEX_BYTES} bytes")
            folder = "".join(name.rpartition("/")[:2])
            entries |= {folder + file: entry for file, entry in parse_index(data, name).items()}
        return entries, set(found)


def flag_of(flag: str, name: str) -> str:
    """Return the name of the flag file of a file."""
    return flag.replace("{name}", name).replace("{stem}", PurePosixPath(name).stem)


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
            raise no_index(name, "it is neither UTF-8 nor GBK") from error
    lines = [line.strip() for line in text.splitlines()]
    items = [_item(line, name) for line in lines if line and not line.startswith("#")]
    bare = [entry.size is None and not entry.digest for _, entry in items]
    if len(items) > 1 and bare[0] and not any(bare[1:]):
        del items[0]
    if len(items) > MAX_FILES:
        raise no_index(name, f"it has {len(items)} lines")
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
        raise no_index(index, f"the line {line[:80]!r} names no file of this folder")
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


def no_index(name: str, why: str) -> Misconfigured:
    """Return the error for a file that is no index."""
    return Misconfigured(
        Text(f"{name} 不是可用的索引文件：{why}", f"{name} is no index: {why}"),
        hint=Text(
            "每行写文件名、字节数、摘要（MD5、SHA-1、SHA-256、SM3 之一）；请检查 index",
            "each line has a name, its bytes and its digest (MD5, SHA-1, SHA-256 or SM3); "
            "check index",
        ),
    )


def too_many(count: int) -> Misconfigured:
    """Return the error for too many index files."""
    return Misconfigured(
        Text(f"有 {count} 个索引文件", f"there are {count} index files"),
        hint=Text("请把已处理的索引移走", "move those away that were processed"),
    )
