"""Audit a log's folder completely: every byte is hashed again, every signature verified.

In: the folder (a node's, a mirror's, a backup's), the certificates that the auditor trusts, and
the checkpoints and receipts that he has from elsewhere: only these, and witnesses, tell a
history that was cut or written anew from the one that others have seen. Out: a ``Verification``
with the checks of ``AUDIT_CHECKS`` in their order; what is wrong is named by its file. Nothing
is changed. Raises Transient where the disk cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from exchange import receipt as receipts
from exchange.errors import Integrity, Transient
from exchange.evidence.checkpoint import Head, SignedNote, Signers, read_note
from exchange.evidence.disk import LOCK, TEMPORARY, Disk
from exchange.evidence.entry import well_formed
from exchange.evidence.index import Index
from exchange.evidence.log import (
    CERTIFICATES,
    CHECKPOINT,
    CHECKPOINTS,
    HEAD,
    WITNESSED,
    certificate_path,
    checkpoint_path,
    place,
    read_head,
)
from exchange.evidence.tiles import (
    ENTRIES,
    SUITE,
    WIDTH,
    Tiles,
    pack,
    tile_path,
)
from exchange.seal.batch import tree
from exchange.seal.checks import Check, Verification
from exchange.seal.pki.trust import Trust
from exchange.text import Text

AUDIT_CHECKS: Final[Mapping[str, Text]] = {
    "head": Text("日志头可读且规范", "the head can be read and is canonical"),
    "files": Text("目录中只有日志自己的文件", "the folder has the files of a log and no others"),
    "entries": Text("每个条目包完整", "every bundle has all its entries"),
    "entries.form": Text("每个条目格式规范", "every entry is of the known form"),
    "tiles": Text("每个分片与重新计算的杂凑值一致", "every tile has the hashes as recomputed"),
    "partial": Text("较短的分片是完整分片的开头", "every shorter tile begins the longer one"),
    "entries.once": Text("没有重复的条目", "no entry is there twice"),
    "root": Text("树根与日志头一致", "the tree has the root of the head"),
    "certificates": Text("证书文件与其名称一致", "every certificate is the one its name says"),
    "checkpoints": Text(
        "每个检查点可读、规范、属于本日志", "every checkpoint is canonical and ours"
    ),
    "checkpoints.root": Text(
        "每个检查点都是现有日志的一段开头", "every checkpoint is a beginning of this log"
    ),
    "checkpoints.time": Text("检查点的时间随长度递增", "checkpoints are the later the longer"),
    "checkpoints.signature": Text(
        "每个检查点的签名正确，签名者可信", "every checkpoint is signed by a trusted node"
    ),
    "checkpoints.witness": Text(
        "每个见证签名正确，见证方可信", "every witness's line is that of a trusted witness"
    ),
    "checkpoint": Text("最新检查点就是保存的最新一个", "the newest checkpoint is the newest kept"),
    "witnessed": Text("最新见证检查点就是保存的最新一个", "the newest witnessed one likewise"),
    "known": Text(
        "日志延续审计者已有的检查点和回执",
        "the log continues the checkpoints and receipts that the auditor has",
    ),
}
_NAMED: Final = 5
"""Faults that a check names; the others are counted."""


def audit(
    folder: Path,
    *,
    trust: Trust,
    witnesses: Trust | None = None,
    known: Sequence[bytes] = (),
) -> Verification:
    """Make all checks of the log in ``folder``.

    ``trust`` is that in the node's signers, ``witnesses`` that in witnesses (None: the same);
    ``known`` are checkpoints (signed notes), and receipts with the checkpoint that they name,
    that the auditor has from others and has verified. The facts:
    ``origin``, ``size``, ``root``, ``checkpoints``, ``witnessed`` (entries), ``beyond`` (files
    of an append in progress, or interrupted).
    """
    try:
        return _Audit(Disk(folder), trust, witnesses or trust, known).run()
    except OSError as error:
        raise Transient(
            Text(f"无法读取存证日志：原文：{error}", f"cannot read the evidence log: {error}"),
            hint=Text("请检查目录和权限", "check the folder and its permissions"),
        ) from error


class _Audit:
    """One audit: faults by check, in the order they are met."""

    def __init__(self, disk: Disk, trust: Trust, witnesses: Trust, known: Sequence[bytes]) -> None:
        self.disk = disk
        self.trust = trust
        self.witnesses = witnesses
        self.known = known
        self.faults: dict[str, list[str]] = {}
        self.facts: dict[str, object] = {}
        self.silent = 0
        """Receipts among ``known`` that name no checkpoint: they cannot tell anything."""

    def fault(self, check: str, found: str) -> None:
        self.faults.setdefault(check, []).append(found)

    def run(self) -> Verification:
        try:
            head = read_head(self.disk)
        except Integrity as error:
            self.fault("head", error.what.en)
            return self._verification(reached=("head",))
        if head is None:
            self.fault("head", f"{HEAD}: there is no log in {self.disk.folder}")
            return self._verification(reached=("head",))
        tiles = Tiles(self.disk.read, head.size)
        notes = list(self._notes(head))
        self._files(tiles)
        self._tree(tiles)
        self._once(tiles)
        self._root(tiles, head)
        self._checkpoints(tiles, notes)
        self._copies(notes)
        self._known(tiles, head)
        witnessed = [note.checkpoint.head.size for note in notes if note.witnesses]
        self.facts |= {
            "origin": head.origin,
            "size": head.size,
            "root": head.root.hex(),
            "checkpoints": len(notes),
            "witnessed": max(witnessed, default=0),
        }
        return self._verification(reached=tuple(AUDIT_CHECKS))

    def _verification(self, *, reached: Iterable[str]) -> Verification:
        checks = []
        for name, text in AUDIT_CHECKS.items():
            faults = self.faults.get(name, [])
            found = "; ".join(faults[:_NAMED])
            if len(faults) > _NAMED:
                found += f"; and {len(faults) - _NAMED} more"
            if name not in reached:
                found = "not reached because head failed"
            checks.append(Check(name, not found, text, text.en if found else "", found[:2000]))
        if checks[-1].ok and self.silent:
            told = f"receipts that name no checkpoint: {self.silent}"
            checks[-1] = replace(checks[-1], found=told, note=True)
        return Verification(tuple(checks), facts=self.facts)

    # --- the tree -----------------------------------------------------------------------------

    def _files(self, tiles: Tiles) -> None:
        """Look at names only: strangers, shorter tiles, and what no head vouches for yet."""
        beyond = 0
        own = {HEAD, CHECKPOINT, WITNESSED, LOCK, TEMPORARY}
        for path in self.disk.files():
            if path in own or path.startswith((f"{CERTIFICATES}/", f"{CHECKPOINTS}/")):
                continue
            try:
                level, number, width = place(path)
            except ValueError:
                self.fault("files", path)
                continue
            have = tiles.width(0 if isinstance(level, str) else level, number)
            if width > have:
                beyond += 1
            elif width < have:
                self._shorter(tiles, path, level, number, width)
        self.facts["beyond"] = beyond

    def _shorter(self, tiles: Tiles, path: str, level: int | str, number: int, width: int) -> None:
        data = self.disk.read(path)
        try:
            if isinstance(level, str):
                whole = pack(tiles.bundle(number)[:width])
            else:
                whole = tiles.tile(level, number)[: width * tree.HASH_SIZE]
        except Integrity:
            return  # named by the check of that file
        if data != whole:
            self.fault("partial", path)

    def _tree(self, tiles: Tiles) -> None:
        """Hash all entries, and compare every tile from the leaves upwards."""
        hashes: list[bytes] = []
        for number in range(-(-tiles.size // WIDTH)):
            leaves = self._leaves(tiles, number)
            self._tile(tiles, 0, number, leaves)
            if len(leaves) == WIDTH:
                hashes.append(tree.root(SUITE, leaves))
        level = 1
        while hashes:
            above: list[bytes] = []
            for number in range(-(-len(hashes) // WIDTH)):
                part = hashes[number * WIDTH : (number + 1) * WIDTH]
                self._tile(tiles, level, number, part)
                if len(part) == WIDTH:
                    above.append(tree.root(SUITE, part))
            hashes = above
            level += 1

    def _leaves(self, tiles: Tiles, number: int) -> list[bytes]:
        """Return the leaf hashes of a bundle, or those that the tile claims when it is broken."""
        try:
            entries = tiles.bundle(number)
        except Integrity as error:
            self.fault("entries", error.what.en)
            try:
                return tree.split(tiles.tile(0, number))
            except Integrity:
                return [bytes(tree.HASH_SIZE)] * tiles.width(0, number)
        for at, entry in enumerate(entries):
            if not well_formed(entry):
                path = tile_path(ENTRIES, number, len(entries))
                self.fault("entries.form", f"{path}: entry {number * WIDTH + at}")
        return tree.entry_hashes(SUITE, entries)

    def _tile(self, tiles: Tiles, level: int, number: int, hashes: list[bytes]) -> None:
        try:
            stored = tiles.tile(level, number)
        except Integrity as error:
            self.fault("tiles", error.what.en)
            return
        if stored != b"".join(hashes):
            pairs = enumerate(zip(tree.split(stored), hashes, strict=True))
            at = next(n for n, (one, other) in pairs if one != other)
            path = tile_path(level, number, len(hashes))
            below = tile_path(level - 1, number * WIDTH + at)
            if level == 0:
                below = tile_path(ENTRIES, number, len(hashes))
            self.fault("tiles", f"{path}: hash {at} is not what {below} makes")

    def _once(self, tiles: Tiles) -> None:
        try:
            for index in sorted(Index(tiles).doubled()):
                self.fault("entries.once", f"entry {index}")
        except Integrity as error:
            self.fault("entries.once", error.what.en)

    def _root(self, tiles: Tiles, head: Head) -> None:
        found = self._root_of(tiles, head.size)
        if found != head.root.hex():
            self.fault("root", f"{HEAD}: {head.root.hex()}, the tiles make {found}")

    @staticmethod
    def _root_of(tiles: Tiles, size: int) -> str:
        try:
            return tiles.root(size).hex()
        except Integrity as error:
            return error.what.en
        except IndexError:
            return f"only {tiles.size} entries"

    # --- checkpoints --------------------------------------------------------------------------

    def _notes(self, head: Head) -> Iterator[SignedNote]:
        """Read the kept checkpoints, shortest first."""
        found: dict[int, SignedNote] = {}
        for path in self.disk.files(CHECKPOINTS):
            try:
                note = read_note(self.disk.read(path))
            except Integrity as error:
                self.fault("checkpoints", f"{path}: {error.what.en}")
                continue
            told = note.checkpoint.head
            if path != checkpoint_path(told.size) or told.origin != head.origin:
                found_there = f"{told.size} entries of {told.origin}"
                self.fault("checkpoints", f"{path}: {found_there}; {HEAD}: {head.origin}")
                continue
            found[told.size] = note
        for size in sorted(found):
            yield found[size]

    def _checkpoints(self, tiles: Tiles, notes: Sequence[SignedNote]) -> None:
        signers = Signers(list(self._certificates()), trust=self.trust, witnesses=self.witnesses)
        last = ""
        for note in notes:
            head = note.checkpoint.head
            path = checkpoint_path(head.size)
            found = self._root_of(tiles, head.size)
            if found != head.root.hex():
                self.fault("checkpoints.root", f"{path}: {head.root.hex()}, but {found}")
            if note.checkpoint.at < last:  # UTC in one form: their order is that of the times
                self.fault("checkpoints.time", f"{path}: {note.checkpoint.at}, after {last}")
            last = note.checkpoint.at
            for check in signers.check(note):
                if check.ok or (check.name == "witness.signature" and not note.witnesses):
                    continue
                kind = "witness" if check.name.startswith("witness") else "signature"
                self.fault(f"checkpoints.{kind}", f"{path}: {check.name}: {check.found}")

    def _certificates(self) -> Iterator[bytes]:
        for path in self.disk.files(CERTIFICATES):
            data = self.disk.read(path)
            if path == certificate_path(data):
                yield data
            else:
                self.fault("certificates", path)

    def _copies(self, notes: Sequence[SignedNote]) -> None:
        witnessed = [note for note in notes if note.witnesses]
        for name, kept in ((CHECKPOINT, list(notes)), (WITNESSED, witnessed)):
            try:
                found = self.disk.read(name)
            except FileNotFoundError:
                found = b""
            if found != (kept[-1].to_bytes() if kept else b""):
                self.fault(name, name)

    def _known(self, tiles: Tiles, head: Head) -> None:
        for data in self.known:
            try:
                theirs = _told(data)
            except (Integrity, ValueError) as error:
                self.fault("known", str(error))
                continue
            if theirs is None:
                self.silent += 1
                continue
            found = self._root_of(tiles, theirs.size)
            if theirs.origin != head.origin or found != theirs.root.hex():
                told = f"{theirs.size} entries of {theirs.origin}: {theirs.root.hex()}"
                self.fault("known", f"{told}; here {head.origin}: {found}")


def _told(data: bytes) -> Head | None:
    """Read the head that a checkpoint or a receipt names; None for a receipt that names none.

    Raises Integrity for what is neither, ValueError for a head that cannot be.
    """
    if not data.startswith(b"{"):
        return read_note(data).checkpoint.head
    log = receipts.read(data).log
    if not log:
        return None
    origin, size, root = log.split(" ")
    return Head(origin, int(size), bytes.fromhex(root))
