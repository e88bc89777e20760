"""What lies in a folder: the files to read, those passed over with the reason, and opening them."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from exchange.connect import Denied, Misconfigured, Text, Transient

SUFFIXES = {".csv", ".txt", ".tsv", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".et", ".dbf"}
MAX_FILES = 4_096
"""Files remembered in the cursor; files that are gone are forgotten first, oldest first."""
MAX_BYTES = 560 * 1024
"""What they take in the cursor at most; refused files and names passed over have the rest."""
_MAX_SEEN = 65_536
"""Entries of a folder that are looked at."""

Stat = tuple[int, int]
"""Size, and the later of the times of content and of change, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder, by name."""

    files: Mapping[str, Path]
    """Files to read."""
    passed: Mapping[str, Text]
    """What is passed over, with the reason."""
    refused: Mapping[str, Misconfigured]
    """Links that lead outside."""


def root_of(folder: Path) -> Path:
    """Resolve the folder; raises Misconfigured when there is none."""
    try:
        root = folder.resolve(strict=True)
    except OSError as error:
        raise _no_folder(folder) from error
    if not root.is_dir():
        raise _no_folder(folder)
    return root


def listing(
    root: Path, glob: str, suffixes: Container[str] | None = frozenset(SUFFIXES)
) -> Listing:
    """List what the glob names; case does not count, hidden files and lock files are left out.

    ``suffixes``: of files that can be read; None: any.

    Raises Misconfigured for a glob that leads outside the folder, or for too many files.
    """
    if ".." in PurePath(glob).parts or PurePath(glob).is_absolute():
        raise _outside(glob)
    files: dict[str, Path] = {}
    passed: dict[str, Text] = {}
    refused: dict[str, Misconfigured] = {}
    for path in sorted(_matching(root, PurePath(glob).parts)):
        if path.name.startswith((".", "~$")):
            continue
        # A name in the bytes of another system must not break the cursor.
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        if not path.is_file():
            passed[name] = _FOLDER if path.is_dir() else _NO_FILE
        elif suffixes is not None and path.suffix.lower() not in suffixes:
            passed[name] = _reason(path)
        elif not path.resolve().is_relative_to(root):
            refused[name] = _outside(name)
        else:
            files[name] = path
    if len(files) > MAX_FILES or sum(map(cursor_bytes, files)) > MAX_BYTES:
        raise Misconfigured(
            Text(
                f"文件夹里有 {len(files)} 个文件，上限 {MAX_FILES}（文件名很长时更少）",
                f"the folder has {len(files)} files, the limit is {MAX_FILES}, fewer of long names",
            ),
            hint=Text("请把已处理的文件移走", "move files away that were processed"),
        )
    return Listing(files, passed, refused)


def cursor_bytes(name: str) -> int:
    """Return how many bytes a file has in the cursor: its name, size, time and digest."""
    return len(name.encode()) + 110


def open_file(path: Path, root: Path, name: str) -> BinaryIO:
    """Open a regular file within the folder; waits for nothing.

    Raises Denied, Transient (it is gone or away) or Misconfigured (it became something else).
    """
    try:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(root):
            raise _outside(name)
        # Without O_NONBLOCK a pipe that took the file's place would be waited for.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        stream = os.fdopen(os.open(resolved, flags), "rb")
    except PermissionError as error:
        raise Denied(
            Text(f"没有权限读取 {name}", f"{name} may not be read"),
            hint=Text("请给运行用户读取权限", "give the user of the node the right to read it"),
        ) from error
    except OSError as error:
        raise Transient(
            Text(
                f"打不开 {name}：原文：{error.strerror}",
                f"{name} cannot be opened: {error.strerror}",
            ),
            hint=Text("下次拉取会再试", "the next pull tries again"),
        ) from error
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise Misconfigured(
            Text(f"{name} 不是普通文件", f"{name} is no regular file"),
            hint=Text("请移走它", "move it away"),
        )
    return stream


class Bounded:
    """A file up to the size that it had: one that grows for ever still comes to an end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end only."""
        return self._stream.read(max(0, min(size, self._size - self._stream.tell())))

    def seek(self, offset: int) -> int:
        """Go to a byte from the start."""
        return self._stream.seek(offset)


def stat_of(path: Path) -> Stat:
    """Return size and time of a file."""
    return times(path.stat())


def times(found: os.stat_result) -> Stat:
    """Return size, and the later of the times of content and of change."""
    # Copying tools set the first time back; nobody sets the second.
    return found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)


_NO_FILE = Text("不是普通文件（管道、设备或目录）", "no regular file (a pipe, device or folder)")
_FOLDER = Text(
    "是文件夹；要读取其中的文件，请设置 glob: '**/*'",
    "a folder; `glob: '**/*'` reads the files in it",
)
_ARCHIVES = {".zip", ".rar", ".7z", ".gz", ".tar", ".tgz", ".bz2", ".xz"}


def _reason(path: Path) -> Text:
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return Text("压缩包不读取，请解压后放入", "archives are not read: unzip it")
    kind = suffix or path.name
    return Text(f"不读取 {kind} 类型的文件", f"files of the type {kind} are not read")


def _matching(folder: Path, parts: tuple[str, ...], *, within: bool = False) -> Iterator[Path]:
    """Yield what a glob names below a folder; ``**`` goes into folders, not through links.

    ``within``: folders are gone into anyway, and are not yielded.
    """
    if not parts:
        return
    part, rest = parts[0], parts[1:]
    deep = part == "**"
    if deep and rest:
        yield from _matching(folder, rest, within=True)
    pattern = re.compile(fnmatch.translate(part), re.IGNORECASE)
    for entry in _entries(folder):
        if deep:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _matching(Path(entry.path), parts)
        elif pattern.match(entry.name):
            if rest and entry.is_dir():
                yield from _matching(Path(entry.path), rest)
            elif not rest and not (within and entry.is_dir()):
                yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        entries = []
        for entry in found:
            entries.append(entry)
            if len(entries) > _MAX_SEEN:
                raise Misconfigured(
                    Text(
                        f"文件夹 {folder.name} 有超过 {_MAX_SEEN} 个条目",
                        f"the folder {folder.name} has more than {_MAX_SEEN} entries",
                    ),
                    hint=Text("请把已处理的文件移走", "move files away that were processed"),
                )
    return entries


def _no_folder(folder: Path) -> Misconfigured:
    return Misconfigured(
        Text(f"没有文件夹 {folder}", f"there is no folder {folder}"),
        hint=Text("路径从配置文件所在目录算起", "paths start at the settings file's folder"),
    )


def _outside(name: str) -> Misconfigured:
    return Misconfigured(
        Text(f"{name} 指向文件夹之外", f"{name} points outside the folder"),
        hint=Text("只读取该文件夹内的文件，请移走该链接", "only files within are read: remove it"),
    )
