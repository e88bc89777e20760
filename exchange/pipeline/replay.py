"""The stage back: quarantine ──► raw, what a person sends through once more (D8).

Raw messages and the note of which records went are one transaction of the log, so that nothing
is replayed twice whatever dies in between; the store follows, and catches up with the next
replay when it could not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from exchange.catalog.model import Resource
from exchange.errors import Rejected
from exchange.log import Entry, Message, quarantine_topic, raw_topic
from exchange.log.frames import decode_frame
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.messages import (
    Origin,
    RefusedEntry,
    replayed_key,
    replayed_message,
    replayed_rows,
)
from exchange.pipeline.pull import RawCounts, raw_messages
from exchange.seal.batch.statement import instant
from exchange.store.database import Store
from exchange.store.node.quarantine import QuarantineRow
from exchange.text import Text
from exchange.validate.quarantine import Corrections, Refused, unreadable
from exchange.validate.quarantine import replay as back_to_raw
from exchange.validate.source_frame import REASONS

MAX_MESSAGES = 100_000
"""Quarantine messages looked at in one replay."""
_MESSAGES = 64
"""Quarantine messages in one transaction."""
_REPEATS = ("key", "unique")
"""Rules of uniqueness: they judge a record against its pull, which a replay cannot see."""

Place = tuple[int, int]
"""Partition and offset of a quarantine message."""


@dataclass
class Replayed:
    """What went back; all counts are records."""

    pull: str
    rows: int = 0
    messages: int = 0
    """Raw messages written."""
    held: int = 0
    """Repeats that stay: without the twin in their pull they would be sealed a second time."""
    unknown: int = 0
    """Records of the corrected file that are not waiting, or never were."""


def replay(
    context: PipelineContext,
    store: Store,
    resource: Resource,
    *,
    by: str,
    corrections: Corrections | None = None,
) -> Replayed:
    """Send the waiting records of a resource through again, or those named in ``corrections``.

    Raises Rejected for corrections that belong to another resource. Records that somebody
    replayed or dismissed before are left alone.
    """
    context.ensure(resource.name)
    moment = context.clock().strftime("%Y%m%dT%H%M%S")
    done = Replayed(f"replay-{moment}-{context.entropy(4).hex()}")
    partitions = range(context.partitions(resource.name))
    ends = [context.log.bounds(raw_topic(resource.name), partition)[1] for partition in partitions]
    counts = RawCounts(ends, [0] * len(ends))
    work = _Work(context, store, resource, by, counts, done)
    if corrections is None:
        rows = store.quarantine.find(resource=resource.name, waiting=True, limit=MAX_MESSAGES)
        wanted: dict[Place, dict[int, str] | None] = {(r.partition, r.offset): None for r in rows}
    else:
        _check_columns(resource, corrections)
        wanted = dict(work.named(corrections))
    for group in _groups(work.read(wanted)):
        work.take(group, wanted, corrections)
    return done


def _check_columns(resource: Resource, corrections: Corrections) -> None:
    """Refuse a file with columns that the resource does not have: it is another resource's."""
    known = {field.name for field in resource.fields}
    foreign = sorted({name for cells in corrections.values() for name in cells} - known)
    if foreign:
        listed = ", ".join(foreign)[:200]
        raise Rejected(
            Text(
                f"文件中有资源 {resource.name} 没有的列：{listed}",
                f"the file has columns that {resource.name} does not have: {listed}",
            ),
            hint=Text(
                "请确认是该资源导出的表格，并删除自行添加的列",
                "check that it is this resource's export, and delete added columns",
            ),
        )


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Gather entries for one transaction each."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and (len(group) == _MESSAGES or size + len(entry.value) > CHUNK_BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += len(entry.value)
    if group:
        yield group


@dataclass
class _Work:
    """One replay under way."""

    context: PipelineContext
    store: Store
    resource: Resource
    by: str
    counts: RawCounts
    done: Replayed

    def named(self, corrections: Corrections) -> Iterator[tuple[Place, dict[int, str]]]:
        """Sort the addresses of a corrected file by message: position → address."""
        places: dict[Place, dict[int, str]] = {}
        for address in corrections:
            partition, offset, row = _address(address)
            places.setdefault((partition, offset), {})[row] = address
        for place, rows in sorted(places.items()):
            found = self.store.quarantine.get(quarantine_topic(self.resource.name), *place)
            if found is None:
                self.done.unknown += len(rows)
            else:
                yield place, rows

    def read(self, places: Iterable[Place]) -> Iterator[Entry]:
        """Read the quarantine messages."""
        topic = quarantine_topic(self.resource.name)
        for partition, offset in places:
            yield self.context.log.read(topic, partition, offset, max_entries=1)[0]

    def take(
        self,
        entries: Sequence[Entry],
        wanted: Mapping[Place, dict[int, str] | None],
        corrections: Corrections | None,
    ) -> None:
        """Send records of these messages back in one transaction; then tell the store."""
        went: dict[Place, list[int]] = {}
        context, name = self.context, self.resource.name
        context.failpoint("replay:before")
        with context.log.transaction(f"replay/{name}") as tx:
            for entry in entries:
                place = (entry.partition, entry.offset)
                before = replayed_rows(context.latest(replayed_key(name, *place)))
                refused = refused_of(entry)
                rows = self._choose(refused, place, wanted[place], before)
                went[place] = sorted(before | set(rows))
                if rows:
                    frame = self._frame(refused, rows, corrections)
                    for message in self._messages(frame, RefusedEntry.of(entry).origin):
                        tx.append(message)
                    key = replayed_key(name, *place)
                    tx.append(replayed_message(key, self.done.pull, went[place]))
        context.failpoint("replay:after")
        for (partition, offset), rows in went.items():
            # Those of before too: the store may have missed them.
            self.store.quarantine.decide(
                quarantine_topic(name), partition, offset, rows, state="replayed", by=self.by
            )

    def _choose(
        self, refused: Refused, place: Place, named: dict[int, str] | None, before: frozenset[int]
    ) -> list[int]:
        """Choose the records to send back, in their order."""
        topic = quarantine_topic(self.resource.name)
        gone = before | self.store.quarantine.decisions(topic, *place).keys()
        if refused.foreign:
            self.done.held += refused.frame.height
            return []
        there = set(range(refused.frame.height))
        if named is not None:
            self.done.unknown += len(named.keys() - (there - gone))
            return sorted(named.keys() & there - gone)
        repeats = self._repeats(refused.frame)
        self.done.held += len(repeats - gone)
        return sorted(there - gone - repeats)

    def _repeats(self, frame: pl.DataFrame) -> set[int]:
        """Find the records refused as repeats by a key that the catalog still has."""
        groups = {",".join(group) for group in (self.resource.key, *self.resource.unique)}
        return {
            row
            for row, reasons in enumerate(frame[REASONS].to_list())
            if any(one["rule"] in _REPEATS and one["field"] in groups for one in reasons)
        }

    def _frame(
        self, refused: Refused, rows: list[int], corrections: Corrections | None
    ) -> pl.DataFrame:
        some = refused.only(rows)
        if corrections is None:
            return back_to_raw(some, self.resource)
        chosen = {address: corrections[address] for address in some.addresses()}
        return back_to_raw(some, self.resource, chosen)

    def _messages(self, frame: pl.DataFrame, origin: Origin) -> Iterator[Message]:
        """Make raw messages like those of a pull."""
        origin = replace(origin, pull=self.done.pull, at=self.context.clock())
        for message in raw_messages(self.context, self.resource, frame, origin, self.counts):
            self.done.messages += 1
            yield message
        self.done.rows += frame.height


def refused_of(entry: Entry) -> Refused:
    """Take the refused records out of a quarantine message."""
    refused = RefusedEntry.of(entry)
    return Refused(
        entry.partition,
        entry.offset,
        decode_frame(refused.data) if refused.readable else unreadable(refused.data),
        refused.origin.source,
        refused.origin.locator,
        instant(refused.origin.at),
        foreign=not refused.readable,
    )


def waiting(
    context: PipelineContext, store: Store, rows: Iterable[QuarantineRow]
) -> Iterator[Refused]:
    """Read what nobody has decided about of quarantine messages, one message at a time."""
    for row in rows:
        place = (row.topic, row.partition, row.offset)
        refused = refused_of(context.log.read(*place, max_entries=1)[0])
        touched = store.quarantine.decisions(*place)
        yield refused.only([one for one in range(refused.frame.height) if one not in touched])


def _address(text: str) -> tuple[int, int, int]:
    """Read ``partition-offset-position``; raises Rejected."""
    parts = text.split("-")
    try:
        partition, offset, row = map(int, parts)
    except ValueError as error:
        raise Rejected(
            Text(f"不是隔离编号：{text[:60]}", f"this is no quarantine address: {text[:60]}"),
            hint=Text("请保留导出表格中的隔离编号列", "keep the address column as it was exported"),
        ) from error
    return partition, offset, row
