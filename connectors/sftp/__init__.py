"""sftp: whole files from a server's folder (前置机), read as the files connector reads them.

A file is copied into a private folder of bounded size, once its upload is over: its flag file
is there, or it stood still between two looks. It is read from there, and the copy is removed.
"""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from exchange.connect import (
    Cursor,
    ExchangeError,
    Misconfigured,
    Note,
    Pulled,
    Rejected,
    Secret,
    Text,
    connector,
)
from exchange.connectors.files.folder import MAX_FILES, SUFFIXES, stat_of
from exchange.connectors.files.refusal import one_error
from exchange.connectors.files.source import files
from exchange.connectors.sftp.memory import Copy, Memory
from exchange.connectors.sftp.session import HostKey, RemoteFile, SftpServer, SftpSession, session

_OURS = ("folder", "glob", "settle")
"""Settings of files that sftp sets itself."""
_GROUP = 64
"""Files copied at once."""
_MIB = 1024 * 1024


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
    server = _server(
        host=host,
        port=port,
        host_key=host_key,
        user=user,
        password=password,
        key=key,
        passphrase=passphrase,
        connect_seconds=connect_seconds,
        read_seconds=read_seconds,
    )
    _check_flag(flag)
    memory = Memory(cursor)
    failed: list[ExchangeError] = []
    with (
        tempfile.TemporaryDirectory(prefix="exchange-sftp-") as place,
        session(server, folder) as opened,
    ):
        reading = _Reading(Path(place), read, now, sleep)
        found = opened.listing()
        listing = _Listing.sort(found, glob, flag)
        memory.forget({file.name for file in listing.files})
        yield from _passed_over(listing, memory)
        fresh = [f for f in listing.ready if memory.is_new(f.name, f.size, f.time)]
        if fresh and not flag and settle:
            sleep(settle)
            again = set(opened.listing())
            fresh = [file for file in fresh if file in again]
        for group in _groups(fresh, temp_mib * _MIB, failed):
            copies = _fetch(opened, group, reading.folder, failed)
            yield from reading.pull(copies, memory, failed)
    if failed:
        yield Pulled(pl.DataFrame(), memory.cursor(), complete=True)
        raise one_error(failed)


@sftp.check
def check(
    *,
    host: str,
    port: int,
    host_key: str,
    user: str,
    folder: str,
    password: Secret | None,
    key: Secret | None,
    passphrase: Secret | None,
    glob: str,
    flag: str,
    connect_seconds: float,
    read_seconds: float,
    read: dict[str, Any],
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Text:
    """Log in and count the files."""
    server = _server(
        host=host,
        port=port,
        host_key=host_key,
        user=user,
        password=password,
        key=key,
        passphrase=passphrase,
        connect_seconds=connect_seconds,
        read_seconds=read_seconds,
    )
    _check_flag(flag)
    _Reading(Path(), read, now, sleep).check()
    with session(server, folder) as opened:
        listing = _Listing.sort(opened.listing(), glob, flag)
    count, waiting = len(listing.files), len(listing.files) - len(listing.ready)
    return Text(
        f"{folder} 有 {count} 个可读文件，其中 {waiting} 个还没有标志文件",
        f"{folder} has {count} files to read; {waiting} of them wait for their flag",
    )


@sftp.retry
def retry(cursor: Cursor) -> Cursor:
    """Forget which files were refused."""
    memory = Memory(cursor)
    memory.refused.clear()
    return memory.cursor()


@dataclass(frozen=True, slots=True)
class _Listing:
    """Files of the server's folder."""

    files: Sequence[RemoteFile]
    """What the glob names and can be read."""
    ready: Sequence[RemoteFile]
    """Those whose upload is over."""
    passed: Mapping[str, str]
    """What is passed over, with the reason."""

    @classmethod
    def sort(cls, found: Sequence[RemoteFile], glob: str, flag: str) -> _Listing:
        """Sort the entries; case does not count. Raises Misconfigured for too many files."""
        pattern = re.compile(fnmatch.translate(glob), re.IGNORECASE)
        times = {entry.name: entry.time for entry in found}
        flags = {flag_of(flag, entry.name) for entry in found} if flag else set()
        files: list[RemoteFile] = []
        passed: dict[str, str] = {}
        for entry in found:
            if entry.name in flags or not pattern.match(entry.name):
                continue
            suffix = PurePosixPath(entry.name).suffix.lower()
            if not entry.is_file:
                passed[entry.name] = "不是普通文件（no regular file）"
            elif suffix not in SUFFIXES:
                passed[entry.name] = f"不读取 {suffix} 类型的文件（not a type that is read）"
            else:
                files.append(entry)
        if len(files) > MAX_FILES:
            raise Misconfigured(
                Text(
                    f"文件夹里有 {len(files)} 个文件，上限 {MAX_FILES}",
                    f"the folder has {len(files)} files, the limit is {MAX_FILES}",
                ),
                hint=Text("请把已处理的文件移走", "move files away that were processed"),
            )
        # A flag that is older than its file belongs to the upload before.
        ready = [
            file
            for file in files
            if not flag or times.get(flag_of(flag, file.name), -1) >= file.time
        ]
        return cls(files, ready, passed)


def flag_of(flag: str, name: str) -> str:
    """Return the name of the flag file of a file."""
    return flag.replace("{name}", name).replace("{stem}", PurePosixPath(name).stem)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads copies in a folder of our own."""

    folder: Path
    settings: Mapping[str, Any]
    now: Callable[[], datetime]
    sleep: Callable[[float], None]

    def check(self) -> None:
        """Raise Misconfigured for settings that files does not have."""
        ours = [name for name in _OURS if name in self.settings]
        if ours:
            raise Misconfigured(
                Text(f"read 里不能写 {', '.join(ours)}", f"read cannot set {', '.join(ours)}"),
                hint=Text("它们是 sftp 自己的配置项", "they are settings of sftp itself"),
            )
        files.open({**self.settings, "folder": self.folder}, _no_secret)

    def pull(
        self, copies: Mapping[str, Copy], memory: Memory, failed: list[ExchangeError]
    ) -> Iterator[Pulled]:
        """Yield what the copies hold, then remove them."""
        if not copies:
            return
        self.check()
        source = files.open(
            {**self.settings, "folder": self.folder, "settle": 0},
            _no_secret,
            now=self.now,
            sleep=self.sleep,
        )
        stream = source.pull(memory.inner(copies))
        refusal: ExchangeError | None = None
        try:
            while True:
                pulled = next(stream) if refusal is None else stream.throw(refusal)
                refusal = None
                if pulled.complete:
                    memory.take(pulled.cursor or {}, copies)
                    continue
                cursor = memory.take(pulled.cursor, copies) if pulled.cursor else None
                try:
                    yield replace(pulled, cursor=cursor)
                except ExchangeError as error:
                    refusal = error
        except StopIteration:
            pass
        except ExchangeError as error:
            failed.append(error)
        finally:
            stream.close()
            for name in copies:
                (self.folder / name).unlink(missing_ok=True)


def _fetch(
    opened: SftpSession, group: Sequence[RemoteFile], folder: Path, failed: list[ExchangeError]
) -> dict[str, Copy]:
    """Copy files; one that changes meanwhile is left for the next pull."""
    copies: dict[str, Copy] = {}
    for file in group:
        target = folder / file.name
        try:
            opened.fetch(file, target)
        except ExchangeError as error:
            failed.append(error)
            target.unlink(missing_ok=True)
        except (PermissionError, FileNotFoundError) as error:
            failed.append(
                Rejected(
                    Text(f"不能读取 {file.name}", f"{file.name} cannot be read"),
                    hint=Text(
                        "请给该用户读取权限", "give the user the right to read it, or remove it"
                    ),
                )
            )
            failed[-1].__cause__ = error
            target.unlink(missing_ok=True)
        else:
            copies[file.name] = Copy(file.size, file.time, stat_of(target)[1])
    return copies


def _groups(
    fresh: Sequence[RemoteFile], limit: int, failed: list[ExchangeError]
) -> Iterator[list[RemoteFile]]:
    """Yield files in groups that stay within the limit; a file beyond it is refused."""
    group: list[RemoteFile] = []
    size = 0
    for file in fresh:
        if file.size > limit:
            failed.append(_too_large(file, limit))
            continue
        if group and (size + file.size > limit or len(group) == _GROUP):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _passed_over(listing: _Listing, memory: Memory) -> Iterator[Pulled]:
    """Tell once which entries are not read, and why."""
    new = memory.note(sorted(listing.passed))
    if new:
        notes = tuple(Note(0, "passed over", f"{name}：{listing.passed[name]}") for name in new)
        yield Pulled(pl.DataFrame(), memory.cursor(), "", notes)


def _server(
    *,
    host: str,
    port: int,
    host_key: str,
    user: str,
    password: Secret | None,
    key: Secret | None,
    passphrase: Secret | None,
    connect_seconds: float,
    read_seconds: float,
) -> SftpServer:
    if (password is None) == (key is None):
        raise Misconfigured(
            Text("password 和 key 要写一个", "password or key is needed, and not both"),
            hint=Text("请修改该数据源的配置", "edit the settings of this source"),
        )
    return SftpServer(
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


def _check_flag(flag: str) -> None:
    if "/" in flag:
        raise Misconfigured(
            Text("flag 是文件名，不是路径", "flag is a name, not a path"),
            hint=Text("标志文件与数据文件在同一文件夹", "flags lie in the folder of the files"),
        )


def _too_large(file: RemoteFile, limit: int) -> Misconfigured:
    size, most = file.size // _MIB, limit // _MIB
    return Misconfigured(
        Text(
            f"{file.name} 有 {size} MiB，超过 temp_mib {most}",
            f"{file.name} has {size} MiB, more than temp_mib {most}",
        ),
        hint=Text("请调大 temp_mib，或让对方拆分文件", "raise temp_mib, or have the file split"),
    )


def _no_secret(_reference: str) -> str:
    """Return nothing: files has no secrets."""
    return ""
