"""Copies of a server's files, in a folder of our own: made, read, and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from exchange.connect import ExchangeError, Misconfigured, Pulled, Rejected, Text
from exchange.connectors.files.folder import stat_of
from exchange.connectors.files.source import files
from exchange.connectors.files.uploads import (
    MAX_INDEX_BYTES,
    MAX_INDEXES,
    UploadEntry,
    no_index,
    parse_index,
    too_many,
)
from exchange.connectors.sftp.memory import Copy, Memory
from exchange.connectors.sftp.session import RemoteFile, SftpSession

MIB = 1024 * 1024
_OURS = ("folder", "glob", "settle", "flag", "index")
"""Settings of files that sftp sets itself."""
_GROUP = 64
"""Files copied at once."""


@dataclass(frozen=True, slots=True)
class CopyReader:
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

    def describe(self) -> list[dict[str, Any]]:
        """Describe the copies; what chooses a sheet is a setting of ``read`` here."""
        self.check()
        source = files.open({**self.settings, "folder": self.folder}, _no_secret, now=self.now)
        entries = source.discover()
        for entry in entries:
            chosen = dict(entry.get("with", {}))
            names = {"glob": chosen.pop("glob")} if "glob" in chosen else {}
            more = {"read": {**self.settings, **chosen}} if chosen else {}
            entry["with"] = {**names, **more}
        return entries

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


def read_indexes(
    opened: SftpSession, found: Sequence[RemoteFile], folder: Path
) -> dict[str, UploadEntry]:
    """Return the entries of all index files, in the order of their names; later ones count.

    Raises Misconfigured for one that is no index.
    """
    if len(found) > MAX_INDEXES:
        raise too_many(len(found))
    entries: dict[str, UploadEntry] = {}
    for file in found:
        if file.size > MAX_INDEX_BYTES:
            raise no_index(file.name, f"{file.size} bytes")
        target = folder / file.name
        opened.fetch(file, target)
        entries |= parse_index(target.read_bytes(), file.name)
        target.unlink()
    return entries


def fetch(
    opened: SftpSession,
    group: Sequence[RemoteFile],
    folder: Path,
    failed: list[ExchangeError],
    entries: Mapping[str, UploadEntry],
) -> dict[str, Copy]:
    """Copy files; one that changes, or is not what its index says, is left for the next pull."""
    copies: dict[str, Copy] = {}
    for file in group:
        target = folder / file.name
        try:
            opened.fetch(file, target)
            if file.name in entries:
                entries[file.name].check(file.name, target)
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


def groups(
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


def _too_large(file: RemoteFile, limit: int) -> Misconfigured:
    size, most = file.size // MIB, limit // MIB
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
