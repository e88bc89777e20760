"""The folder of a log: files that are whole or not there, and durable when a write returns.

In: paths below the folder, with ``/``. Everything raises OSError as the system does; whoever
calls decides what that means. Exactly one process writes (see :func:`lock`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Final

from exchange.durable import replacing, sync_folder

TEMPORARY: Final = ".part"
"""The one temporary file: there is one writer, and it writes one file after the other."""
LOCK: Final = "lock"
MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes; a full bundle of the longest entries has 16 MiB."""


class Disk:
    """One folder; remembers which of its folders are known to be durable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._durable: set[Path] = set()

    def read(self, path: str) -> bytes:
        """Read a whole file; raises FileNotFoundError where there is none."""
        try:
            with (self.folder / path).open("rb") as stream:
                data = stream.read(MAX_FILE + 1)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error
        if len(data) > MAX_FILE:
            raise OSError(f"{path}: more than {MAX_FILE} bytes")
        return data

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files, each whole or not at all; all are durable on return.

        A folder's name is made durable too, though the folder may stem from a writer that was
        killed before it could do so. After an error nothing is taken to be durable any more.
        """
        try:
            touched = {self._write(path, data) for path, data in files.items()}
            for folder in sorted(touched):
                sync_folder(folder)
        except BaseException:
            self._durable.clear()
            raise

    def _write(self, path: str, data: bytes) -> Path:
        target = self.folder / path
        self._make(target.parent)
        with replacing(target, part=self.folder / TEMPORARY) as stream:
            stream.write(data)
        return target.parent

    def _make(self, folder: Path) -> None:
        if folder in self._durable:
            return
        if folder != self.folder:
            self._make(folder.parent)
        folder.mkdir(parents=folder == self.folder, exist_ok=True)
        sync_folder(folder.parent)
        self._durable.add(folder)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, and folders that they leave empty; not durable, nobody relies on it."""
        targets = [self.folder / path for path in paths]
        for target in targets:
            target.unlink(missing_ok=True)
        for folder in {target.parent for target in targets} - {self.folder}:
            with contextlib.suppress(OSError):
                folder.rmdir()
                self._durable.discard(folder)

    def files(self, under: str = "") -> Iterator[str]:
        """Yield the paths of all files below a folder, in no order."""
        start = self.folder / under
        for folder, _, names in os.walk(start, onerror=_missing_is_empty):
            inside = PurePosixPath(Path(folder).relative_to(self.folder).as_posix())
            for name in names:
                yield str(inside / name)

    def lock(self) -> IO[bytes]:
        """Take the lock of the one writer; raises BlockingIOError when another has it.

        It is held until the returned file is closed, or its process ends.
        """
        self._make(self.folder)
        stream = (self.folder / LOCK).open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            stream.close()
            raise
        return stream


def _missing_is_empty(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
