"""The tree as files: C2SP tlog-tiles, with SM3 in place of SHA-256.

A tile holds 256 neighbouring hashes of one level out of eight (level ``8 L`` of the tree is
stored at ``tile/L``, the levels between are recomputed); a bundle holds 256 neighbouring
entries. The last ones may be partial: ``….p/W`` holds W < 256. Only hashes of complete
subtrees are stored, so a tile never changes once it is full, and a shorter tile is always a
beginning of a longer one.

Pure: files come in through a function, and go out as a mapping of paths to bytes. Raises
Integrity for files that are missing or of a wrong length.

Sources: c2sp.org/tlog-tiles; RFC 6962 §2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from exchange.errors import Integrity
from exchange.foreign import original
from exchange.seal.batch import tree
from exchange.seal.crypto.suites import SM2_SM3
from exchange.text import Text

SUITE: Final = SM2_SM3
HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
ENTRIES: Final = "entries"
MAX_ENTRY: Final = 0xFFFF
EMPTY: Final = "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"
"""Root of the empty tree: SM3 of nothing (RFC 6962 §2.1)."""

_LENGTH: Final = 2
_CACHED: Final = 128
"""Tiles, with the levels inside them (about 40 KB each), and bundles."""

Read = Callable[[str], bytes]
"""Reads a file by its path below the log's folder; raises FileNotFoundError."""


def number_path(number: int) -> str:
    """Write a number as folders of a thousand names each: 1234067 is ``x001/x234/067``."""
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03}")
    return "/".join(reversed(parts))


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Name the file of a tile, or of a bundle when ``level`` is ``entries``."""
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{number_path(number)}{partial}"


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry (RFC 6962 §2.1)."""
    return SUITE.digest(tree.LEAF + entry)


def pack(entries: Iterable[bytes]) -> bytes:
    """Write a bundle: each entry after its length in two bytes, big-endian."""
    return b"".join(len(entry).to_bytes(_LENGTH) + entry for entry in entries)


def unpack(data: bytes) -> list[bytes]:
    """Read a bundle; raises ValueError when it is cut off."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH])
        if end > len(data) or at + _LENGTH > len(data):
            raise ValueError(f"cut off in entry {len(entries)}, at byte {at}")
        entries.append(data[at + _LENGTH : end])
        at = end
    return entries


def broken(path: str, why: Text) -> Integrity:
    """Say that a file of the log is not what it has to be."""
    return Integrity(
        Text(f"存证日志已损坏：{path}：{why.zh}", f"the evidence log is broken: {path}: {why.en}"),
        hint=Text(
            "请停止写入，保留原目录，运行完整审计，并从备份或镜像恢复",
            "stop writing, keep the folder as it is, audit it, restore it from a copy or mirror",
        ),
    )


class Tiles:
    """The first ``size`` entries of a log, for reading; remembers the tiles it read last."""

    def __init__(self, read: Read, size: int) -> None:
        self.size = size
        self._file = read
        self._levels = lru_cache(_CACHED)(self._read_levels)
        self._bundle = lru_cache(_CACHED)(self._read_bundle)

    # --- files ------------------------------------------------------------------------------

    def width(self, level: int, number: int) -> int:
        """How many hashes a tile has in a tree of this size (entries: those of level 0)."""
        return max(0, min(WIDTH, (self.size >> HEIGHT * level) - number * WIDTH))

    def _read(self, level: int | str, number: int, width: int) -> tuple[str, bytes]:
        """Read a tile that has ``width`` parts; a fuller one in its place has them too."""
        for each in dict.fromkeys((width, WIDTH)):
            path = tile_path(level, number, each)
            try:
                return path, self._file(path)
            except FileNotFoundError:
                continue
        raise broken(tile_path(level, number, width), Text("文件缺失", "the file is missing"))

    def tile(self, level: int, number: int) -> bytes:
        """Return the hashes of a tile, end to end; raises Integrity."""
        width = self.width(level, number)
        path, data = self._read(level, number, width)
        stored = WIDTH if path == tile_path(level, number) else width
        if len(data) != stored * tree.HASH_SIZE:
            why = Text(f"长度为 {len(data)} 字节", f"it has {len(data)} bytes")
            raise broken(path, why)
        return data[: width * tree.HASH_SIZE]

    def _read_levels(self, level: int, number: int) -> list[list[bytes]]:
        return tree.levels(SUITE, tree.split(self.tile(level, number)))

    def _read_bundle(self, number: int) -> list[bytes]:
        width = self.width(0, number)
        path, data = self._read(ENTRIES, number, width)
        stored = WIDTH if path == tile_path(ENTRIES, number) else width
        try:
            entries = unpack(data)
        except ValueError as error:
            raise broken(
                path, Text(f"条目被截断（{original(error).zh}）", original(error).en)
            ) from error
        if len(entries) != stored:
            why = Text(f"含有 {len(entries)} 个条目", f"it has {len(entries)} entries")
            raise broken(path, why)
        return entries[:width]

    # --- contents ---------------------------------------------------------------------------

    def bundle(self, number: int) -> Sequence[bytes]:
        """Return the entries of a bundle; raises Integrity."""
        return self._bundle(number)

    def entry(self, index: int) -> bytes:
        """Return one entry; raises IndexError beyond the size."""
        self._within(index + 1, first=1)
        number, at = divmod(index, WIDTH)
        return self._bundle(number)[at]

    def leaf(self, index: int) -> bytes:
        """Return the hash of one entry; raises IndexError beyond the size."""
        self._within(index + 1, first=1)
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """Return the root that the first ``size`` entries (default: all) have."""
        size = self.size if size is None else size
        self._within(size)
        if size == 0:
            return bytes.fromhex(EMPTY)
        return self._hash((size - 1).bit_length(), 0, size)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the audit path of entry ``index`` in the tree of ``size`` (RFC 6962 §2.1.1)."""
        size = self.size if size is None else size
        self._within(size)
        if not 0 <= index < size:
            raise IndexError(f"no entry {index} in a tree of {size}")
        return list(self._path(0, index, size))

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the tree of ``old`` grew into that of ``new`` (§2.1.2).

        From nothing, and between equal trees, it is empty.
        """
        new = self.size if new is None else new
        self._within(new)
        if not 0 <= old <= new:
            raise IndexError(f"{old} entries are no beginning of {new}")
        if old in (0, new):
            return []
        level, index = 0, old - 1
        while index % 2:  # the largest complete subtree that ends with the old tree
            level, index = level + 1, index >> 1
        own = [self._node(level, index)] if index else []
        return [*own, *self._path(level, index, new)]

    def _within(self, size: int, first: int = 0) -> None:
        if not first <= size <= self.size:
            raise IndexError(f"{size} of {self.size} entries")

    def _path(self, level: int, index: int, size: int) -> Iterator[bytes]:
        """Yield the siblings from a node up to the root of the tree of ``size``."""
        while (size - 1) >> level:
            if (index ^ 1) << level < size:
                yield self._hash(level, index ^ 1, size)
            level, index = level + 1, index >> 1

    def _hash(self, level: int, index: int, size: int) -> bytes:
        """Return a node of the tree of ``size``, of which only the last may be incomplete."""
        if (index + 1) << level <= size:
            return self._node(level, index)
        left, right = 2 * index, 2 * index + 1
        if right << level - 1 >= size:
            return self._hash(level - 1, left, size)  # handed up
        return SUITE.digest(
            tree.NODE + self._hash(level - 1, left, size) + self._hash(level - 1, right, size)
        )

    def _node(self, level: int, index: int) -> bytes:
        """Return a node over a complete subtree, from the tile that holds it."""
        stored, above = divmod(level, HEIGHT)
        number, at = divmod(index << above, WIDTH)
        return self._levels(stored, number)[above][at >> above]


def extend(tiles: Tiles, entries: Sequence[bytes]) -> dict[str, bytes]:
    """Return the files that come to be when ``entries`` follow; nothing is changed.

    Every file is new, or longer than the one that it will be read instead of.
    """
    files: dict[str, bytes] = {}
    number, filled = divmod(tiles.size, WIDTH)
    waiting = [*(tiles.bundle(number) if filled else ()), *entries]
    for start in range(0, len(waiting), WIDTH):
        part = waiting[start : start + WIDTH]
        files[tile_path(ENTRIES, number + start // WIDTH, len(part))] = pack(part)
    level, hashes = 0, tree.entry_hashes(SUITE, entries)
    while hashes:
        number, filled = divmod(tiles.size >> HEIGHT * level, WIDTH)
        waiting = [*(tree.split(tiles.tile(level, number)) if filled else ()), *hashes]
        hashes = []
        for start in range(0, len(waiting), WIDTH):
            part = waiting[start : start + WIDTH]
            files[tile_path(level, number + start // WIDTH, len(part))] = b"".join(part)
            if len(part) == WIDTH:
                hashes.append(tree.root(SUITE, part))
        level += 1
    return files
