"""Files that are there whole after a power cut, or not at all.

The bytes go to a temporary file in the same folder, which is flushed, renamed and made durable
with its folder. :func:`read_file` reads what a person named, which may be no file at all.
Everything raises OSError as the system does; the caller says what that means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

PART: Final = ".part"
"""How the name of every temporary file ends."""


def write_file(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    part: Path | None = None,
    make_folders: bool = True,
) -> None:
    """Write a whole new file or none; an existing one is replaced.

    Missing folders are made, but for a path that a person typed: there they are a mistake.
    """
    if make_folders:
        make_folder(path.parent)
    with replacing(path, mode=mode, part=part) as stream:
        stream.write(data)
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600, part: Path | None = None) -> Iterator[BinaryIO]:
    """Lend a stream; what is written becomes ``path`` at the end, unless the block raises.

    ``part`` is the temporary file, by default one of this thread. The bytes are durable
    afterwards, the name is with :func:`sync_folder`. What is no file (``/dev/stdout``, a pipe)
    is written in place.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as stream:
            yield stream
        return
    path = Path(os.path.realpath(path))
    part = part or path.with_name(f".{os.getpid()}.{threading.get_ident()}{PART}")
    try:
        with os.fdopen(_create(part, mode), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _create(part: Path, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(part, flags, mode)
    except FileExistsError:  # of a process that was killed
        part.unlink()
        return os.open(part, flags, mode)


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes; raises OSError for a larger one.

    A pipe, a device or a socket is refused at once: reading one might never end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        # One that grows while it is read, or tells no size (/proc), is measured by reading.
        data = stream.read(limit + 1) if status.st_size <= limit else b""
    if max(len(data), status.st_size) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
    return data


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; their names are durable on return."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, not only the bytes behind them."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path) -> None:
    """Remove what a crash left half-written; to be called before anybody writes."""
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)
