"""The log of one node on disk: one writer appends, anybody reads.

=====================  =====================================================================
``tile/…``             tiles and bundles, see :mod:`exchange.evidence.tiles`
``head``               size and root: **the commit point**; nothing beyond it is in the log
``checkpoint``         the newest signed checkpoint
``witnessed``          the newest checkpoint that a witness has signed too
``checkpoints/N``      every signed checkpoint, by size
``certificates/…``     the certificates that verify them, named by their SM3, DER
``lock``, ``.part``    of the writer; not to be published
=====================  =====================================================================

An append makes tiles and bundles durable first and the head last. Whatever dies in between
leaves files beyond the head, which the next writer removes, or writes again: tiles are only
ever replaced by longer ones with the same beginning, so the entries below the head stay
readable at every moment.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from exchange.errors import Integrity, Misconfigured, Transient
from exchange.evidence.checkpoint import Head, SignedNote, holder, sign
from exchange.evidence.disk import TEMPORARY, Disk
from exchange.evidence.index import Index
from exchange.evidence.tiles import (
    EMPTY,
    ENTRIES,
    MAX_ENTRY,
    WIDTH,
    Tiles,
    broken,
    extend,
    leaf_hash,
    number_path,
    tile_path,
)
from exchange.foreign import original
from exchange.seal.batch import tree
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.x509 import read_certificate
from exchange.text import Text

HEAD: Final = "head"
CHECKPOINT: Final = "checkpoint"
WITNESSED: Final = "witnessed"
CHECKPOINTS: Final = "checkpoints"
CERTIFICATES: Final = "certificates"
MAX_APPEND: Final = 65_536
"""Entries of one append: they are in memory at once."""


def checkpoint_path(size: int) -> str:
    """Name the file of the kept checkpoint of a size."""
    return f"{CHECKPOINTS}/{number_path(size)}"


def certificate_path(certificate: bytes) -> str:
    """Name the file of a certificate (DER)."""
    return f"{CERTIFICATES}/{SM2_SM3.digest(certificate).hex()}.der"


def read_head(disk: Disk) -> Head | None:
    """Read the head; None where there is no log at all.

    Raises Integrity when it is broken, or missing though there are tiles.
    """
    try:
        return Head.from_bytes(disk.read(HEAD))
    except FileNotFoundError as error:
        if next(disk.files("tile"), None) is not None:
            raise broken(HEAD, Text("文件缺失", "the file is missing")) from error
        return None
    except ValueError as error:
        raise broken(HEAD, Text(f"无法识别（{original(error).zh}）", original(error).en)) from error


class Locked(Transient):
    """Another process has the log open to append."""


class LogReader:
    """A log as it was when it was opened, for reading; a writer may go on meanwhile."""

    def __init__(self, disk: Disk, head: Head) -> None:
        """Use :meth:`at`."""
        self._disk = disk
        self._mutex = threading.RLock()
        self._index: Index | None = None
        self._take(head)

    @classmethod
    def at(cls, folder: Path) -> LogReader:
        """Read the log in ``folder``; raises Misconfigured where there is none.

        Also Integrity when its head is broken, Transient when the disk fails.
        """
        disk = Disk(folder)
        with _disk_errors():
            head = read_head(disk)
        if head is None:
            raise Misconfigured(
                Text(f"{folder} 中没有存证日志", f"there is no evidence log in {folder}"),
                hint=Text("请检查存证日志的目录", "check the folder of the log"),
            )
        return LogReader(disk, head)

    def _take(self, head: Head) -> None:
        self._head = head
        self._tiles = Tiles(self._disk.read, head.size)

    def _indexed(self) -> Index:
        if self._index is None:
            self._index = Index(self._tiles)
        return self._index

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._head.origin

    @property
    def size(self) -> int:
        """How many entries are in the log, durably."""
        return self._head.size

    @property
    def root(self) -> bytes:
        """The root of the tree of all entries."""
        return self._head.root

    def root_of(self, size: int) -> bytes:
        """Return the root of the tree of the first ``size`` entries."""
        with self._mutex, _disk_errors():
            return self._tiles.root(size)

    def entry(self, index: int) -> bytes:
        """Return one entry; raises IndexError beyond the size, Integrity, Transient."""
        with self._mutex, _disk_errors():
            return self._tiles.entry(index)

    def find(self, entry: bytes) -> int | None:
        """Return where an entry is in the log, or None."""
        with self._mutex, _disk_errors():
            return self._indexed().find(leaf_hash(entry))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the audit path of an entry in the tree of ``size``, by default the newest."""
        with self._mutex, _disk_errors():
            return self._tiles.inclusion(index, size)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the tree of ``old`` entries grew into that of ``new``."""
        with self._mutex, _disk_errors():
            return self._tiles.consistency(old, new)

    def newest(self) -> SignedNote | None:
        """Return the newest signed checkpoint, or None."""
        return self._note(CHECKPOINT)

    def witnessed(self) -> SignedNote | None:
        """Return the newest checkpoint that a witness has signed, or None."""
        return self._note(WITNESSED)

    def kept(self, size: int) -> SignedNote | None:
        """Return the checkpoint of a size, or None."""
        return self._note(checkpoint_path(size))

    def certificates(self) -> list[bytes]:
        """Return the certificates that came with checkpoints (DER)."""
        with _disk_errors():
            return [self._disk.read(path) for path in sorted(self._disk.files(CERTIFICATES))]

    def _note(self, path: str) -> SignedNote | None:
        with _disk_errors():
            try:
                return SignedNote.from_bytes(self._disk.read(path))
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise broken(
                    path, Text(f"无法识别（{original(error).zh}）", original(error).en)
                ) from error


class EvidenceLog(LogReader):
    """A log, open for appending; safe to share between threads, not between processes."""

    def __init__(self, disk: Disk, lock: IO[bytes], head: Head) -> None:
        """Use :meth:`open`."""
        super().__init__(disk, head)
        self._lock = lock
        self._sure = True
        """Whether memory and disk are known to agree; not so after a failed append."""

    @classmethod
    def open(cls, folder: Path, *, origin: str) -> Self:
        """Open the log in ``folder`` to append, or begin a new one named ``origin``.

        Whatever an interrupted append left behind is cleared away. Raises Locked when
        another process has it open, Transient when the disk fails, Misconfigured for another
        log's folder, Integrity when the log is broken (nothing is changed then).
        """
        disk = Disk(folder)
        with _disk_errors(), contextlib.ExitStack() as undo:
            try:
                lock = undo.enter_context(disk.lock())
            except BlockingIOError as error:
                raise _locked(folder) from error
            head = read_head(disk)
            if head is None:
                head = _new_head(origin)
                disk.write({HEAD: head.to_bytes()})
            if head.origin != origin:
                raise _other_log(folder, origin, head.origin)
            log = cls(disk, lock, head)
            log._recover()
            undo.pop_all()
        return log

    def close(self) -> None:
        """Give the log free for another process."""
        with self._mutex:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- appending --------------------------------------------------------------------------

    def append(
        self, entries: Sequence[bytes], *, expected_size: int | None = None
    ) -> tuple[int, ...]:
        """Append entries, durable on return; return the index of each.

        An entry that is in already is not doubled: its index is returned, so an append may be
        repeated after any failure. ``expected_size`` is what the caller knows to be in: a
        shorter log has lost acknowledged entries, which raises Integrity. Raises Transient when
        the disk fails: none of the entries is promised to be in, nor to be out.
        """
        if len(entries) > MAX_APPEND or any(not 0 < len(e) <= MAX_ENTRY for e in entries):
            raise ValueError(f"at most {MAX_APPEND} entries of 1 to {MAX_ENTRY} bytes")
        with self._mutex, _disk_errors():
            self._make_sure()
            if expected_size is not None and self.size < expected_size:
                why = Text(
                    f"只有 {self.size} 条，而已确认过 {expected_size} 条",
                    f"{self.size} entries, but {expected_size} had been acknowledged",
                )
                raise broken(HEAD, why)
            index = self._indexed()
            places: dict[bytes, int] = {}
            fresh: list[bytes] = []
            leaves = tree.entry_hashes(SM2_SM3, entries)
            for leaf, entry in zip(leaves, entries, strict=True):
                if leaf in places:
                    continue
                found = index.find(leaf)
                places[leaf] = self.size + len(fresh) if found is None else found
                if found is None:
                    fresh.append(entry)
            if fresh:
                before = self.size
                self._commit(fresh)
                for leaf, place in places.items():
                    if place >= before:
                        index.add(leaf, place)
            return tuple(places[leaf] for leaf in leaves)

    def _commit(self, entries: list[bytes]) -> None:
        files = extend(self._tiles, entries)

        def read(path: str) -> bytes:
            return files[path] if path in files else self._disk.read(path)

        size = self.size + len(entries)
        head = Head(self.origin, size, Tiles(read, size).root())
        self._sure = False
        self._disk.write(files)
        self._disk.write({HEAD: head.to_bytes()})  # the commit point
        self._take(head)
        self._sure = True
        with contextlib.suppress(OSError):  # the next start sweeps again
            for path in files:
                if place(path)[-1] == WIDTH:
                    self._disk.remove(self._disk.files(f"{path}.p"))

    def _indexed(self) -> Index:
        self._make_sure()
        return super()._indexed()

    def _make_sure(self) -> None:
        if not self._sure:
            self._recover()

    def _recover(self) -> None:
        """Take the disk's word for what is in, clear the rest away, and make it durable.

        The head is written once more: a failed fsync may have left the one that is there in
        memory only. Nothing is touched while the log is shorter than what it has signed.
        """
        head = read_head(self._disk)
        if head is None:
            raise broken(HEAD, Text("文件缺失", "the file is missing"))
        self._take(head)
        kept = _kept_sizes(self._disk.files(CHECKPOINTS))
        if kept and kept[-1] > head.size:
            why = Text(
                f"只有 {head.size} 条，短于已签名的检查点",
                f"{head.size} entries, fewer than a checkpoint has signed",
            )
            raise broken(HEAD, why)
        if self._tiles.root() != head.root:
            raise broken(HEAD, Text("树根与分片不符", "its root is not that of the tiles"))
        left = [path for path in self._disk.files("tile") if not _needed(path, self._tiles)]
        self._disk.remove([TEMPORARY, *left])
        self._disk.write({HEAD: head.to_bytes()})
        since = min(_size(self.newest()), _size(self.witnessed()))
        for size in kept[bisect_left(kept, since) :]:
            self._publish(size)
        self._index = None
        self._sure = True

    # --- checkpoints ------------------------------------------------------------------------

    def checkpoint(self, sealer: Sealer, at: datetime) -> SignedNote:
        """Sign the log as it is and keep the checkpoint; one and the same for each size.

        Raises Misconfigured where the certificate is not valid at ``at``, Transient.
        """
        with self._mutex, _disk_errors():
            self._make_sure()
            kept = self.kept(self.size)
            if kept is None:
                kept = sign(self._head, sealer, at)
                self._keep(kept, [sealer.signer.certificate, *sealer.chain])
            return kept

    def add_witness(self, size: int, line: bytes, certificates: Sequence[bytes]) -> SignedNote:
        """Keep a witness's line for the checkpoint of ``size``; return the whole note.

        ``certificates`` are the witness's and those between it and its root (DER). Raises
        Integrity when the line is not its holder's signature on that checkpoint; trust in the
        certificate is the caller's question.
        """
        with self._mutex, _disk_errors():
            kept = self.kept(size)
            if kept is None:
                raise broken(checkpoint_path(size), Text("文件缺失", "the file is missing"))
            note = _witnessed(kept, line, certificates)
            self._keep(note, certificates)
            return note

    def _keep(self, note: SignedNote, certificates: Sequence[bytes]) -> None:
        """Write certificates, then the note under its size, then the copies of the newest."""
        self._sure = False
        paths = {certificate_path(each): each for each in certificates}
        known = set(self._disk.files(CERTIFICATES))
        self._disk.write({path: data for path, data in paths.items() if path not in known})
        size = note.checkpoint.head.size
        self._disk.write({checkpoint_path(size): note.to_bytes()})
        self._publish(size)
        self._sure = True

    def _publish(self, size: int) -> None:
        """Copy the kept checkpoint of a size to where the newest ones are looked for."""
        note = self.kept(size)
        if note is None:
            return
        if _size(self.newest()) <= size:
            self._disk.write({CHECKPOINT: note.to_bytes()})
        if note.witnesses and _size(self.witnessed()) <= size:
            self._disk.write({WITNESSED: note.to_bytes()})


def _size(note: SignedNote | None) -> int:
    return 0 if note is None else note.checkpoint.head.size


def _kept_sizes(paths: Iterable[str]) -> list[int]:
    """Read the sizes of kept checkpoints off their names, shortest first."""
    sizes = []
    for path in paths:
        with contextlib.suppress(ValueError):  # a stranger's file: an audit names it
            size = int("".join(part.removeprefix("x") for part in path.split("/")[1:]))
            if checkpoint_path(size) == path:
                sizes.append(size)
    return sorted(sizes)


def _witnessed(kept: SignedNote, line: bytes, certificates: Sequence[bytes]) -> SignedNote:
    try:
        note = kept.with_witness(line)
    except ValueError as error:
        raise _no_witness(str(error)) from error
    pool = [read_certificate(each) for each in certificates]
    if holder(note.witnesses[-1], "witness", kept.checkpoint, pool) is None:
        raise _no_witness("no certificate's signature on this checkpoint")
    return note


def _new_head(origin: str) -> Head:
    try:
        return Head(origin, 0, bytes.fromhex(EMPTY))
    except ValueError as error:
        raise Misconfigured(
            Text(
                f"存证日志的名称不可用：{original(error).zh}",
                f"cannot name an evidence log so: {original(error).en}",
            ),
            hint=Text(
                "请用不含空格和加号的 ASCII 名称，如 data.example.gov.cn/evidence",
                "use ASCII without spaces and plus signs, such as data.example.gov.cn/evidence",
            ),
        ) from error


def place(path: str) -> tuple[int | str, int, int]:
    """Read the path of a tile or bundle: level, number, width; raises ValueError."""
    _, name, rest = path.split("/", 2)
    whole, partial, width = rest.partition(".p/")
    number = int("".join(part.removeprefix("x") for part in whole.split("/")))
    level = name if name == ENTRIES else int(name)
    found = level, number, int(width) if partial else WIDTH
    if tile_path(*found) != path or not 0 < found[2] <= WIDTH:
        raise ValueError(f"not the path of a tile: {path}")
    return found


def _needed(path: str, tiles: Tiles) -> bool:
    """Whether a file below ``tile`` belongs to the tree, or to one before it."""
    try:
        level, number, width = place(path)
    except ValueError:
        return True  # not ours to remove; an audit names it
    have = tiles.width(0 if isinstance(level, str) else level, number)
    return width <= have and not (width < WIDTH == have)


class _disk_errors(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a verb
    """Turn what the disk says into Transient."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            why = error.strerror or str(error)
            raise Transient(
                Text(f"存证日志的磁盘出错：{why}", f"the disk of the evidence log fails: {why}"),
                hint=Text(
                    "请检查磁盘空间和权限；同样的条目可以再次追加",
                    "check space and permissions; the same entries may be appended again",
                ),
            ) from error


def _locked(folder: Path) -> Locked:
    return Locked(
        Text(
            f"存证日志 {folder} 正被另一个进程写入",
            f"another process has the evidence log {folder} open",
        ),
        hint=Text(
            "请等它结束；同一时间只能有一个写入者", "wait for it; there is one writer at a time"
        ),
    )


def _other_log(folder: Path, wanted: str, found: str) -> Misconfigured:
    return Misconfigured(
        Text(
            f"{folder} 是存证日志 {found}，不是 {wanted}",
            f"{folder} is the evidence log {found}, not {wanted}",
        ),
        hint=Text("请检查存证日志的目录和名称", "check the folder and the name of the log"),
    )


def _no_witness(why: str) -> Integrity:
    return Integrity(
        Text(f"见证签名无效：{why}", f"the witness's signature does not hold: {why}"),
        hint=Text("请保留原文并联系省级平台", "keep it as it is and contact the province"),
    )
