"""One pull of a topic: partition by partition up to where it ended when the pull began."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Literal

import polars as pl

from exchange.connect import Cursor, Note, Pulled, Rejected, Text
from exchange.connect.topic_reader import TopicBounds, TopicReader, dropped
from exchange.connectors.kafka.records import RecordReader, TopicChange

_FRAME_BYTES = 16 * 1024 * 1024
_MAX_IDENTITIES = 1_000_000
"""Records of a pull that are remembered; with more another pull begins."""
Versions = Literal["all", "last"]


@dataclass
class _Frame:
    """Records that wait for a frame."""

    first: int = 0
    rows: list[TopicChange | None] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    places: dict[bytes, int] = field(default_factory=dict)
    """Digest of a record → its place in ``rows``."""
    size: int = 0
    passed: int = 0
    replaced: int = 0

    def fits(self, change: TopicChange, *, open_shape: bool) -> bool:
        """Whether a record has this frame's columns."""
        free = open_shape or change.defect is not None or change.operation == "D" or not self.names
        return free or change.values.keys() == self.names.keys()

    def add(self, change: TopicChange, digest: bytes | None, *, last_only: bool) -> None:
        """Take a record in."""
        if digest is not None:
            if last_only and digest in self.places:
                self.rows[self.places[digest]] = None
                self.replaced += 1
            self.places[digest] = len(self.rows)
        self.names |= dict.fromkeys(change.values)
        self.rows.append(change)
        self.size += sum(len(value) for value in change.values.values() if value is not None)
        self.size += len(change.defect or "")

    def notes(self) -> tuple[Note, ...]:
        """Tell what is no record here."""
        texts = {
            "no record": self.passed
            and f"tombstones behind deletions, and messages that are no change: {self.passed}",
            "versions": self.replaced
            and f"versions that a later one of the same frame replaced: {self.replaced}",
        }
        return tuple(Note(0, kind, text) for kind, text in texts.items() if text)

    def make(self) -> pl.DataFrame:
        """Make the frame: every column is text."""
        rows = [row for row in self.rows if row is not None]
        if not rows:
            return pl.DataFrame()
        series = [
            pl.Series(name, [row.values.get(name) for row in rows], dtype=pl.String)
            for name in self.names
        ]
        operations = pl.Series("cd_operation", [row.operation for row in rows], dtype=pl.String)
        defects = pl.Series("_defect", [row.defect for row in rows], dtype=pl.String)
        return pl.DataFrame([*series, operations, defects])


@dataclass
class TopicPull:
    """A pull of one topic from where ``cursor`` stands."""

    reader: TopicReader
    records: RecordReader
    topic: str
    versions: Versions
    batch_rows: int
    cursor: Cursor | None
    now: Callable[[], datetime]
    _next: dict[int, int] = field(default_factory=dict)
    _identity: str = ""
    _frame: _Frame = field(default_factory=_Frame)
    _brought: set[bytes] = field(default_factory=set)
    """Digests of the records that this pull has brought."""

    def frames(self) -> Iterator[Pulled]:
        """Yield what is new; raises our errors."""
        bounds = self.reader.bounds(self.topic)
        self._identity = bounds.identity
        notes = self._start(bounds)
        if notes:
            yield Pulled(pl.DataFrame(), self._stands(), self.topic, notes, changes=True)
        for partition in sorted(bounds.end):
            yield from self._partition(partition, bounds.end[partition])

    def _start(self, bounds: TopicBounds) -> tuple[Note, ...]:
        """Find the first offset of each partition; raises Rejected for a gap."""
        known = position_of(self.cursor, self.topic)
        if self.cursor:
            check_identity(self.cursor, self.topic, bounds)
        notes = []
        for partition, first in bounds.first.items():
            start = known.get(partition, 0 if known else first)
            if start < first:
                raise dropped(self.topic, partition, start)
            if start > bounds.end[partition]:
                raise made_anew(self.topic)
            if not known and first:
                text = f"{self.topic}/{partition} begins at {first}: what was before is gone"
                notes.append(Note(0, "dropped", text))
            self._next[partition] = start
        gone = known.keys() - bounds.first.keys()
        if gone:
            raise made_anew(self.topic)
        return tuple(notes)

    def _partition(self, partition: int, end: int) -> Iterator[Pulled]:
        start = self._next[partition]
        if start >= end:
            return
        self._frame = _Frame(first=start)
        for record in self.reader.read(self.topic, partition, start, end, self.now):
            change = self.records.read(record)
            frame = self._frame
            if change is None:
                frame.passed += 1
            else:
                digest = _digest(change.identity)
                if frame.rows and self._is_over(change, digest):
                    self._next[partition] = record.offset
                    yield self._yield(partition)
                self._frame.add(change, digest, last_only=self.versions == "last")
        self._next[partition] = end
        if self._frame.rows or self._frame.passed:
            yield self._yield(partition)
        elif self._next != position_of(self.cursor, self.topic):
            yield Pulled(pl.DataFrame(), self._stands(), changes=True)

    def _is_over(self, change: TopicChange, digest: bytes | None) -> bool:
        """Whether a frame ends before this record."""
        frame = self._frame
        again = self.versions == "all" and digest is not None and digest in frame.places
        return (
            again
            or len(frame.rows) >= self.batch_rows
            or frame.size >= _FRAME_BYTES
            or not frame.fits(change, open_shape=self.records.optional)
        )

    def _yield(self, partition: int) -> Pulled:
        frame, self._frame = self._frame, _Frame(first=self._next[partition])
        digests = frame.places.keys()
        # A record of this pull in another version: the check would take it for a repetition.
        again = not self._brought.isdisjoint(digests) or len(self._brought) > _MAX_IDENTITIES
        if again:
            self._brought.clear()
        self._brought |= digests
        place = f"{self.topic}/{partition} offset {frame.first}-{self._next[partition] - 1}"
        return Pulled(
            frame.make(),
            self._stands(),
            place,
            frame.notes(),
            changes=True,
            next_pull=again,
        )

    def _stands(self) -> Cursor:
        return {
            "topic": self.topic,
            "id": self._identity,
            "next": {str(partition): offset for partition, offset in sorted(self._next.items())},
        }


def _digest(identity: bytes | None) -> bytes | None:
    return None if identity is None else blake2b(identity, digest_size=16).digest()


def position_of(cursor: Cursor | None, topic: str) -> dict[int, int]:
    """Return the next offset of each partition; raises Rejected for another topic's cursor."""
    if not cursor:
        return {}
    if cursor["topic"] != topic:
        raise Rejected(
            Text(
                f"游标属于主题 {cursor['topic']}，不是 {topic}",
                f"the cursor is one of the topic {cursor['topic']}, not of {topic}",
            ),
            hint=Text(
                "新主题请用新的数据源名称，或 exchange source rewind --to-beginning",
                "give the new topic a source of its own, "
                "or run `exchange source rewind --to-beginning`",
            ),
        )
    given: Mapping[str, int] = cursor["next"]
    return {int(partition): offset for partition, offset in given.items()}


def check_identity(cursor: Cursor, topic: str, bounds: TopicBounds) -> None:
    """Raise Rejected where the topic is not the one that the cursor was read from."""
    if cursor["id"] and bounds.identity and cursor["id"] != bounds.identity:
        raise made_anew(topic)


def made_anew(topic: str) -> Rejected:
    """Return the error for a topic that is not the one it was."""
    return Rejected(
        Text(f"主题 {topic} 已被删除并重建", f"the topic {topic} was deleted and made anew"),
        hint=Text(
            "请与对方确认内容，然后用 exchange source rewind --to-beginning 从头读取",
            "ask what it holds now, then read it from the start with "
            "`exchange source rewind --to-beginning`",
        ),
    )
