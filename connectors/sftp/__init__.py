"""sftp: whole files from a server's folder (前置机), read as the files connector reads them.

A file is copied into a private folder of bounded size, once its upload is over: its flag file
is there, or it stood still between two looks. It is read from there, and the copy is removed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from glob import escape as escape_glob
from pathlib import Path
from typing import Annotated, Any, Protocol

import polars as pl
from pydantic import Field

from exchange.connect import (
    Cursor,
    ExchangeError,
    Note,
    Pulled,
    Secret,
    Text,
    connector,
)
from exchange.connectors.files.refusal import one_error
from exchange.connectors.files.uploads import UploadEntry, Uploads, is_index
from exchange.connectors.sftp.copies import MIB, CopyReader, fetch, groups, read_indexes
from exchange.connectors.sftp.listing import RemoteListing
from exchange.connectors.sftp.memory import Memory
from exchange.connectors.sftp.session import HostKey, SftpServer, SftpSession, session

_SMALL = 16 * MIB
_DESCRIBED = 8
"""Files up to this size, and so many of them, are looked into when files are listed."""


class _Settings(Protocol):
    """The settings below, as all but the pull itself gets them."""

    host: str
    port: int
    host_key: str
    user: str
    folder: str
    password: Secret | None
    key: Secret | None
    passphrase: Secret | None
    glob: str
    flag: str
    index: str
    connect_seconds: float
    read_seconds: float
    read: dict[str, Any]


@connector("sftp")
def sftp(
    *,
    host: Annotated[str, Text("服务器", "the server")],
    host_key: Annotated[
        str,
        Text(
            "服务器公钥（ssh-ed25519 AAAA…）或其 SHA256: 指纹",
            "the server's public key, or its SHA256: fingerprint",
        ),
    ],
    user: Annotated[str, Text("用户名", "the user")],
    folder: Annotated[str, Text("服务器上的文件夹", "the folder on the server")],
    port: Annotated[int, Text("端口", "the port"), Field(ge=1, le=65_535)] = 22,
    password: Annotated[Secret | None, Text("密码", "the password")] = None,
    key: Annotated[
        Secret | None, Text("OpenSSH 私钥", "a private key of OpenSSH, instead of a password")
    ] = None,
    passphrase: Annotated[Secret | None, Text("私钥的口令", "passphrase of the key")] = None,
    glob: Annotated[str, Text("文件名模式，如 *.csv", "names, such as *.csv")] = "*",
    flag: Annotated[
        str,
        Text(
            "完成标志文件：{name}.ok、{stem}.ok，或整个文件夹一个 index.ok",
            "file that says an upload is over: {name}.ok, {stem}.ok, or one index.ok for all",
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
        Text(
            "没有标志文件时，多少秒不变才读取", "without a flag: seconds that a file stands still"
        ),
        Field(ge=0, le=3600),
    ] = 5,
    temp_mib: Annotated[
        int,
        Text("临时文件夹的大小上限，MiB", "most that is copied at once, and of one file, MiB"),
        Field(ge=1, le=65_536),
    ] = 1_024,
    connect_seconds: Annotated[
        float, Text("连接和登录时限，秒", "time to connect and log in, s"), Field(gt=0, le=600)
    ] = 10,
    read_seconds: Annotated[
        float, Text("无数据时限，秒", "time of silence, s"), Field(gt=0, le=3600)
    ] = 60,
    read: Annotated[
        dict[str, Any],
        Text("读取方式：files 连接器的配置项", "how files are read: settings of files"),
    ] = {},  # noqa: B006 - a setting's default is never changed
    cursor: Cursor | None,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Iterator[Pulled]:
    """Pull new and changed files from a folder of an SFTP server: CSV and Excel."""
    server = SftpServer(
        host,
        port,
        HostKey.parse(host_key),
        user,
        password,
        key,
        passphrase,
        connect_seconds,
        read_seconds,
    )
    Uploads(flag, index)  # which is checked
    memory = Memory(cursor)
    failed: list[ExchangeError] = []
    with (
        tempfile.TemporaryDirectory(prefix="exchange-sftp-") as place,
        session(server, folder) as opened,
    ):
        reading = CopyReader(Path(place), read, now, sleep)
        listing, entries = _look(opened, glob, flag, index, reading.folder)
        memory.forget({file.name for file in listing.files})
        yield from _passed_over(listing, memory)
        fresh = [f for f in listing.ready if memory.is_new(f.name, f.size, f.time)]
        unfinished = len(listing.ready) < len(listing.files)
        if fresh and not flag and not index and settle:
            sleep(settle)
            again = set(opened.listing())
            whole = [file for file in fresh if file in again]
            unfinished, fresh = unfinished or len(whole) < len(fresh), whole
        for group in groups(fresh, temp_mib * MIB, failed):
            copies = fetch(opened, group, reading.folder, failed, entries)
            yield from reading.pull(copies, memory, failed)
    if unfinished:
        yield Pulled(pl.DataFrame(), memory.cursor(), unfinished=True)
    if failed:
        yield Pulled(pl.DataFrame(), memory.cursor(), complete=True)
        raise one_error(failed)


@sftp.check
def check(settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None]) -> Text:
    """Log in and count the files."""
    server = _server(settings)
    Uploads(settings.flag, settings.index)
    CopyReader(Path(), settings.read, now, sleep).check()
    with (
        tempfile.TemporaryDirectory(prefix="exchange-sftp-") as place,
        session(server, settings.folder) as opened,
    ):
        listing, _ = _look(opened, settings.glob, settings.flag, settings.index, Path(place))
    count, waiting = len(listing.files), len(listing.files) - len(listing.ready)
    return Text(
        f"{settings.folder} 有 {count} 个可读文件，其中 {waiting} 个还没有上传完",
        f"{settings.folder} has {count} files to read; {waiting} of them wait for their flag",
    )


@sftp.discover
def discover(
    settings: _Settings, now: Callable[[], datetime], sleep: Callable[[float], None]
) -> list[dict[str, Any]]:
    """List the files; the first small ones as files describes them."""
    server = _server(settings)
    with (
        tempfile.TemporaryDirectory(prefix="exchange-sftp-") as place,
        session(server, settings.folder) as opened,
    ):
        listing, entries_of = _look(
            opened, settings.glob, settings.flag, settings.index, Path(place)
        )
        small = [file for file in listing.ready if file.size <= _SMALL][:_DESCRIBED]
        copies = fetch(opened, small, Path(place), [], entries_of)
        entries = CopyReader(Path(place), settings.read, now, sleep).describe()
    rest = [file.name for file in listing.files if file.name not in copies]
    entries += [
        {"name": name, "kind": "file", "with": {"glob": escape_glob(name)}} for name in rest
    ]
    skipped = listing.passed.items()
    return entries + [{"name": n, "kind": "skipped", "why": why._asdict()} for n, why in skipped]


@sftp.retry
def retry(cursor: Cursor) -> Cursor:
    """Forget which files were refused."""
    memory = Memory(cursor)
    memory.refused.clear()
    return memory.cursor()


def _look(
    opened: SftpSession, glob: str, flag: str, index: str, folder: Path
) -> tuple[RemoteListing, dict[str, UploadEntry]]:
    """Return what lies in the server's folder, and what its index files say."""
    found = opened.listing()
    indexes = [file for file in found if file.is_file and is_index(index, file.name)]
    data = [file for file in found if not is_index(index, file.name)]
    listing = RemoteListing.sort(data, glob, flag)
    if not index:
        return listing, {}
    entries = read_indexes(opened, indexes, folder)
    return listing.whole(entries), entries


def _passed_over(listing: RemoteListing, memory: Memory) -> Iterator[Pulled]:
    """Tell once which entries are not read, and why."""
    new = memory.note(sorted(listing.passed))
    if new:
        reasons = [(name, listing.passed[name]) for name in new]
        texts = [Text(f"{name}：{why.zh}", f"{name}: {why.en}") for name, why in reasons]
        notes = tuple(Note(0, "passed over", text.joined()) for text in texts)
        yield Pulled(pl.DataFrame(), memory.cursor(), "", notes)


def _server(settings: _Settings) -> SftpServer:
    return SftpServer(
        settings.host,
        settings.port,
        HostKey.parse(settings.host_key),
        settings.user,
        settings.password,
        settings.key,
        settings.passphrase,
        settings.connect_seconds,
        settings.read_seconds,
    )
