"""One SQLite file as a durable medium: how it is made, opened, written and read.

Owner of the library ``sqlite3`` for the log. In: a path. Out: connections, lent for one read
or one write. Every error of the library passes :func:`map_errors` and comes out by what to do
next (:mod:`exchange.errors`).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from exchange.durable import sync_folder
from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.foreign import original, os_reason
from exchange.sqlite_codes import Cause, cause_of
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PAGE_BYTES = 16_384
"""Measured with values of 500 KiB: 8 to 16 KiB pages cost the least CPU over append, read and
position commit together. Larger ones rewrite too much per commit, smaller ones chain too long.
"""
CHECKPOINT_PAGES = 1_000
"""Fold the write-ahead log into the file every 16 MiB: rare enough for disks with slow fsync."""
WAL_LIMIT_BYTES = 64 << 20


@contextmanager
def map_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ours, keeping the cause."""
    try:
        yield
    except sqlite3.Error as error:
        cause = cause_of(error)
        if cause is None:
            raise
        raise VERDICTS[cause](path, original(error)) from error
    except OSError as error:
        verdict = OS_VERDICTS.get(error.errno or 0, _failing)
        raise verdict(path, os_reason(error)) from error


def _busy(path: Path, detail: Text) -> ExchangeError:
    return Transient(
        Text(f"日志文件 {path} 正被占用：{detail.zh}", f"log file {path} is busy: {detail.en}"),
        hint=Text(
            "稍后重试;若一直如此,查看是否有进程长时间占用该文件",
            "try again; if it lasts, look for a process that holds the file",
        ),
    )


def _full(path: Path, detail: Text) -> ExchangeError:
    return Transient(
        Text(
            f"写入 {path} 时磁盘已满：{detail.zh}",
            f"no space left while writing {path}: {detail.en}",
        ),
        hint=Text(
            "清理磁盘空间后重试;未提交的内容没有写入",
            "free some space and try again; nothing of the transaction was kept",
        ),
    )


def _denied(path: Path, detail: Text) -> ExchangeError:
    return Denied(
        Text(
            f"无权写入日志文件 {path}：{detail.zh}",
            f"no right to write log file {path}: {detail.en}",
        ),
        hint=Text(
            f"确认运行用户可以写 {path.parent} 及其中的文件,且没有只读挂载",
            f"let the running user write {path.parent} and its files, and mount it writable",
        ),
    )


def _too_big(path: Path, detail: Text) -> ExchangeError:
    return Rejected(
        Text(f"内容过大,无法写入 {path}：{detail.zh}", f"too big for {path}: {detail.en}"),
        hint=Text("减少每条消息的行数", "put fewer rows into a message"),
    )


def _failing(path: Path, detail: Text) -> ExchangeError:
    return Transient(
        Text(f"读写 {path} 失败：{detail.zh}", f"reading or writing {path} failed: {detail.en}"),
        hint=Text("检查磁盘与文件系统后重试", "check the disk and its file system, then try again"),
    )


def _damaged(path: Path, detail: Text) -> ExchangeError:
    return damaged(path, detail)


def damaged(path: Path, why: Text) -> Integrity:
    """Describe a log that contradicts itself."""
    return Integrity(
        Text(f"日志文件 {path} 已损坏:{why.zh}", f"log file {path} is damaged: {why.en}"),
        hint=Text(
            "停止节点,保留该文件(连同 -wal),检查磁盘,从备份恢复",
            "stop the node, keep the file with its -wal, check the disk, restore a backup",
        ),
    )


VERDICTS: Mapping[Cause, Callable[[Path, Text], ExchangeError]] = {
    Cause.BUSY: _busy,
    Cause.FULL: _full,
    Cause.DENIED: _denied,
    Cause.DAMAGED: _damaged,
    Cause.SCHEMA: _damaged,  # our SQL is fixed: it fails when a table is not as made
    Cause.TOO_LARGE: _too_big,
    Cause.FAILING: _failing,
}

OS_VERDICTS: Mapping[int, Callable[[Path, Text], ExchangeError]] = {
    errno.EACCES: _denied,
    errno.EPERM: _denied,
    errno.EROFS: _denied,
    errno.ENOSPC: _full,
    errno.EDQUOT: _full,
}


class Database:
    """Lends connections to one SQLite file (WAL, synchronous FULL), from any thread.

    A connection serves one read or write and goes back; after an error it is closed instead.
    Do not carry a Database across ``fork``.
    """

    def __init__(
        self, path: Path, *, application: int, version: int, schema: str, patience: float
    ) -> None:
        """Open the file, or make it whole.

        ``application`` and ``version`` mark the file as ours (``PRAGMA application_id``,
        ``user_version``). ``patience`` is the longest wait for a lock, in seconds.
        """
        self.path = path
        self._patience = patience
        self._idle: list[sqlite3.Connection] = []
        # Threads of one process queue here, fairly; processes wait in SQLite's busy handler.
        self._writing = threading.Lock()
        with map_errors(path):
            if not path.exists():
                _create(path, application=application, version=version, schema=schema)
            with self._lend() as connection:
                found = connection.execute("PRAGMA application_id").fetchone()[0]
                reached = connection.execute("PRAGMA user_version").fetchone()[0]
        if (found, reached) != (application, version):
            raise Misconfigured(
                Text(
                    f"{path} 不是本版本的日志文件(标识 {found},结构版本 {reached})",
                    f"{path} is no log file of this release (id {found}, schema {reached})",
                ),
                hint=Text(
                    f"检查路径,或使用支持结构版本 {reached} 的程序",
                    f"check the path, or use a release that knows schema {reached}",
                ),
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees one committed state."""
        with map_errors(self.path), self._lend() as connection:
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection holding the write lock; commits, or rolls back on an exception."""
        if not self._writing.acquire(timeout=self._patience):
            raise _busy(
                self.path, Text(f"已等待 {self._patience} 秒", f"waited {self._patience} s")
            )
        try:
            with map_errors(self.path), self._lend() as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # SQLite may have rolled back by itself
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close the connections that are not lent out."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        except BaseException:
            self._idle.append(connection)
            raise
        else:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            connection.execute("PRAGMA secure_delete = FAST")
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path, *, application: int, version: int, schema: str) -> None:
    """Make the file under another name and link it into place: two makers cannot collide."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {schema}"
                f"PRAGMA application_id = {application}; PRAGMA user_version = {version}; COMMIT;"
            )
        with suppress(FileExistsError):
            os.link(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
