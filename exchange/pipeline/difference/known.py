"""The rows of a source as they were delivered last: digests and keys, in files, in order.

A state is a folder that is written once and never changed. Its numbers are mapped into memory,
so a source of any size takes little of it; texts are read only where something was deleted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from exchange.durable import sync_folder
from exchange.pipeline.difference.digests import Halves, KeyedRows, concat

RUN: Final = 1 << 19
"""Rows that are sorted in memory at once."""
PIECE: Final = 1 << 18
"""Rows whose keys are in one file."""
_HALVES: Final = ("high", "low", "content_high", "content_low")

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ChangePart:
    """A file of changes: its name, its place within the source, its rows."""

    file: str
    locator: str
    rows: int


@dataclass(slots=True)
class StateContents:
    """What a state is, beside its rows."""

    key: list[str] = field(default_factory=list)
    """Fields of the key."""
    rows: int = 0
    longest: int = 1
    """Most rows whose keys' digests share the first half: 1, as good as always."""
    pieces: list[int] = field(default_factory=list)
    """Rows whose keys are in each file."""
    parts: list[ChangePart] = field(default_factory=list)
    """The changes that lead to this state, in the order of their delivery."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """What the source has that is no record."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read them; raises OSError or ValueError."""
        found = json.loads((folder / "contents.json").read_bytes())
        found["parts"] = [ChangePart(**part) for part in found["parts"]]
        return cls(**found)

    def write(self, folder: Path) -> None:
        """Write them, durable."""
        write(folder / "contents.json", json.dumps(asdict(self), ensure_ascii=False).encode())


class KnownState:
    """A state that is there: finds keys, and tells the keys of places."""

    def __init__(self, folder: Path) -> None:
        """Open it; raises OSError or ValueError."""
        self.folder = folder
        self.contents = StateContents.read(folder)
        self._high, self._low, self._content_high, self._content_low = (
            _mapped(folder / f"{name}.u64", self.contents.rows) for name in _HALVES
        )

    def __len__(self) -> int:
        """Count the rows."""
        return self.contents.rows

    def find(self, rows: KeyedRows) -> Places:
        """Return the place of each row's key; -1 where it is not known."""
        found = np.full(len(rows), -1, dtype=np.intp)
        if not len(self):
            return found
        start = np.searchsorted(self._high, rows.high)
        for step in range(self.contents.longest):
            place = start + step
            safe = np.minimum(place, len(self) - 1)
            same = (place < len(self)) & (self._high[safe] == rows.high)
            same &= self._low[safe] == rows.low
            found[same] = safe[same]
        return found

    def same(self, places: Places, rows: KeyedRows) -> npt.NDArray[np.bool_]:
        """Tell which rows have the content that is known at their places (-1: none has)."""
        if not len(self):
            return np.zeros(len(rows), dtype=np.bool_)
        same: npt.NDArray[np.bool_] = places >= 0
        same &= self._content_high[places] == rows.content_high
        same &= self._content_low[places] == rows.content_low
        return same

    def at(self, places: Places) -> Iterator[KeyedRows]:
        """Yield the rows at these places, ascending; a file in memory at a time."""
        start = 0
        for number, size in enumerate(self.contents.pieces):
            inside = places[(places >= start) & (places < start + size)]
            if inside.size:
                texts = pl.read_ipc(self.folder / _piece(number))
                yield KeyedRows(
                    self._high[inside],
                    self._low[inside],
                    self._content_high[inside],
                    self._content_low[inside],
                    texts[inside - start],
                )
            start += size


def no_rows(keys: int) -> KeyedRows:
    """Return no rows."""
    none = np.empty(0, dtype=np.uint64)
    texts = pl.DataFrame(schema=dict.fromkeys([f"k{n}" for n in range(keys)], pl.String))
    return KeyedRows(none, none, none, none, texts)


@dataclass(slots=True)
class Twins:
    """Keys that several rows of one state have: their contents count together."""

    rows: list[KeyedRows] = field(default_factory=list)
    counts: list[Places] = field(default_factory=list)
    """How many rows each key has."""

    def all(self) -> tuple[KeyedRows, Places] | None:
        """Return a row for each such key, and how many it has; None when there is none."""
        return (concat(self.rows), np.concatenate(self.counts)) if self.rows else None


class StateWriter:
    """Writes a state: takes rows in any order, and sorts them in runs."""

    def __init__(self, folder: Path, key: Sequence[str], run: int = RUN) -> None:
        """Write into a folder that is there; ``run`` rows are sorted in memory at once."""
        self.folder = folder
        self._run = run
        self.contents = StateContents(key=list(key))
        self.twins = Twins()
        self._waiting: list[KeyedRows] = [no_rows(len(key))]
        self._count = 0
        self._runs: list[Path] = []

    def add(self, rows: KeyedRows) -> None:
        """Take rows."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= self._run:
            self._end_run()

    def _end_run(self) -> None:
        run = concat(self._waiting).sort()
        self._waiting, self._count = [run.take(np.empty(0, dtype=np.intp))], 0
        folder = self.folder / f"run{len(self._runs)}"
        folder.mkdir()
        _write_rows(folder, run)
        run.texts.write_ipc(folder / _piece(0))
        self._runs.append(folder)

    def finish(self) -> None:
        """Write everything that was taken, in order, each key once."""
        pieces = self._merged()
        files = [(self.folder / f"{name}.u64").open("wb") for name in _HALVES]
        contents = self.contents
        try:
            for number, piece in enumerate(pieces):
                for stream, half in zip(files, _halves_of(piece), strict=True):
                    stream.write(half.astype("<u8").tobytes())
                write_frame(self.folder / _piece(number), piece.texts)
                contents.pieces.append(len(piece))
                contents.rows += len(piece)
                contents.longest = max(contents.longest, _longest(piece.high))
            for stream in files:
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            for stream in files:
                stream.close()
        for run in self._runs:
            shutil.rmtree(run)

    def _merged(self) -> Iterator[KeyedRows]:
        """Yield all rows in the order of their keys, in pieces; no key is in two of them."""
        if not self._runs:
            yield self._once(concat(self._waiting).sort())
            return
        if self._count:
            self._end_run()
        runs = [_run(folder) for folder in self._runs]
        total = sum(len(run) for run in runs)
        borders = _borders(runs, -(-total // min(PIECE, self._run)))
        for low, high in zip(borders, [*borders[1:], None], strict=True):
            cuts = []
            for run in runs:
                first = np.searchsorted(run.high, low)
                end = len(run) if high is None else np.searchsorted(run.high, high)
                cuts.append(run.take(np.arange(first, end)))
            yield self._once(concat(cuts).sort())

    def _once(self, rows: KeyedRows) -> KeyedRows:
        """Keep each key once: the contents of its rows are added up."""
        if not len(rows):
            return rows
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (rows.high[1:] != rows.high[:-1]) | (rows.low[1:] != rows.low[:-1])
        if new.all():
            return rows
        starts = np.flatnonzero(new)
        first = rows.take(starts)
        merged = KeyedRows(
            first.high,
            first.low,
            np.add.reduceat(rows.content_high, starts),
            np.add.reduceat(rows.content_low, starts),
            first.texts,
        )
        counts = np.diff(np.append(starts, len(rows)))
        several = np.flatnonzero(counts > 1)
        self.twins.rows.append(merged.take(several))
        self.twins.counts.append(counts[several])
        return merged


def _borders(runs: Sequence[KeyedRows], count: int) -> list[np.uint64]:
    """Return the least first half of each of ``count`` stretches of like size."""
    step = (1 << 64) // max(1, count)
    return [np.uint64(step * number) for number in range(max(1, count))] if runs else []


def _run(folder: Path) -> KeyedRows:
    size = (folder / "high.u64").stat().st_size // 8
    high, low, content_high, content_low = (
        _mapped(folder / f"{name}.u64", size) for name in _HALVES
    )
    return KeyedRows(high, low, content_high, content_low, pl.read_ipc(folder / _piece(0)))


def _write_rows(folder: Path, rows: KeyedRows) -> None:
    for name, half in zip(_HALVES, _halves_of(rows), strict=True):
        (folder / f"{name}.u64").write_bytes(half.astype("<u8").tobytes())


def _halves_of(rows: KeyedRows) -> tuple[Halves, Halves, Halves, Halves]:
    return rows.high, rows.low, rows.content_high, rows.content_low


def _longest(high: Halves) -> int:
    """Return the length of the longest stretch of equal numbers, in order."""
    if not high.size:
        return 1
    starts = np.flatnonzero(np.append([True], high[1:] != high[:-1]))
    return int(np.diff(np.append(starts, high.size)).max())


def _mapped(path: Path, rows: int) -> Halves:
    if path.stat().st_size != rows * 8:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, {rows * 8} are expected")
    if not rows:
        return np.empty(0, dtype=np.uint64)
    return np.memmap(path, dtype="<u8", mode="r")


def _piece(number: int) -> str:
    return f"keys{number}.arrow"


def write(path: Path, data: bytes) -> None:
    """Write a file, durable; its name is with its folder."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame, durable; its name is with its folder."""
    with path.open("wb") as stream:
        frame.write_ipc(stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())


def publish(part: Path, folder: Path) -> None:
    """Give a folder its name once everything in it is durable."""
    sync_folder(part)
    part.rename(folder)
    sync_folder(folder.parent)
