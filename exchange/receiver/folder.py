"""Files that are there after a power cut, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PART = ".part"


def write_durably(path: Path, data: bytes, *, token: str) -> None:
    """Write a whole new file or none; an existing one is replaced. Raises OSError.

    Temporary name, fsync, rename, fsync of the folder: after the return the name and the
    bytes survive a crash. ``token`` makes the temporary name unique.
    """
    _make_folder(path.parent)
    part = path.with_name(f".{path.name}.{token}{_PART}")
    try:
        with part.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what a crash left half-written; to be called before anybody writes."""
    for part in folder.rglob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, not only the bytes behind them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
