"""Refused records settle (了结) when a newer record of their key is sealed.

The waiting records are held as keys and versions, 32 bytes each, by the partition that their key
belongs to now, and are compared with the keys of each batch that is sealed, in columns. A record
that was refused before a resource got more partitions may wait in another one's topic. While
nothing waits, nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from exchange.catalog.model import Resource
from exchange.log import Entry, quarantine_topic, raw_topic, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import NotesEntry, SealedEntry
from exchange.pipeline.projection import SETTLED_BY, project
from exchange.pipeline.pull import shares
from exchange.pipeline.refused import refused_of, waiting
from exchange.pipeline.versions import batch_versions, offset_of, version_elsewhere
from exchange.store.database import Store
from exchange.validate.keys import source_keys
from exchange.validate.refused_records import RefusedRecords
from exchange.validate.source_frame import VERSION

MAX_MESSAGES = 100_000
"""Quarantine messages with waiting records that are compared: the oldest."""
MAX_RECORDS = 4_000_000
"""Waiting records of a partition that are compared: about 130 MB. The oldest are left out."""
_PAGE = 64
_ADDRESS = ("partition", "offset", "row")
_SCHEMA = {"key": pl.UInt64, "version": pl.Int64} | dict(
    zip(_ADDRESS, (pl.Int32, pl.Int64, pl.Int64), strict=True)
)


@dataclass
class Settlement:
    """Settles the refused records of a resource."""

    context: PipelineContext
    resource: Resource
    store: Store
    _waiting: dict[int, pl.DataFrame] = field(default_factory=dict)
    """By partition of the key: key, version and address of each waiting record."""
    _upto: dict[int, int] = field(default_factory=dict)
    """By partition: next offset of the quarantine topic that is not known yet."""

    def catch_up(self, partition: int) -> None:
        """Show and settle what is sealed but not shown yet; its stage does the same again."""
        log, topic = self.context.log, sealed_topic(self.resource.name)
        offset = log.position("store", topic, partition)
        while page := log.read(topic, partition, offset, max_entries=_PAGE):
            project(self.store, self.resource.name, page)
            self.settle(page)
            offset = page[-1].offset + 1

    def settle(self, entries: Sequence[Entry]) -> None:
        """Settle what waits and is older than these entries of a partition's sealed topic."""
        if not entries:
            return
        partition = entries[0].partition
        waiting = self._known(partition)
        for entry in entries:
            sealed = SealedEntry.of(entry)
            if sealed is None or waiting.is_empty():
                continue
            newer = batch_versions(self.context, self.resource, entry, sealed)
            older = waiting.join(newer, on="key", suffix="_sealed")
            older = older.filter(pl.col("version") <= pl.col("version_sealed"))
            for (number, offset), rows in older.group_by("partition", "offset"):
                self._decide(int(number), int(offset), rows["row"].to_list(), sealed.batch_no)
            waiting = waiting.join(older, on=_ADDRESS, how="anti")
            self._waiting[partition] = waiting

    def _decide(self, partition: int, offset: int, rows: Sequence[int], batch_no: str) -> None:
        self.store.quarantine.decide(
            quarantine_topic(self.resource.name),
            partition,
            offset,
            rows,
            state="settled",
            by=SETTLED_BY,
            note=batch_no,
        )

    def _known(self, partition: int) -> pl.DataFrame:
        """Return what waits of a partition's keys, with all that is in its quarantine topic now.

        A record that was refused before a batch stands there before the batch does.
        """
        log, topic = self.context.log, quarantine_topic(self.resource.name)
        if partition not in self._upto:
            self._load()
        end = log.bounds(topic, partition)[1]
        offset = self._upto[partition]
        while page := log.read(topic, partition, offset, max_entries=_PAGE) if offset < end else []:
            project(self.store, self.resource.name, page)
            self._add(refused_of(e) for e in page if NotesEntry.of(e) is None)
            offset = page[-1].offset + 1
        self._upto[partition] = offset
        return self._waiting.get(partition, pl.DataFrame(schema=_SCHEMA))

    def _load(self) -> None:
        """Learn what the store shows as waiting, of all partitions."""
        topic, name = quarantine_topic(self.resource.name), self.resource.name
        for number in range(self.context.partitions(name)):
            self._upto[number] = self.context.log.position("store", topic, number)
        self._waiting.clear()
        rows = self.store.quarantine.find(resource=name, waiting=True, limit=MAX_MESSAGES)
        shown = (row for row in rows if row.offset < self._upto.get(row.partition, 0))
        self._add(waiting(self.context, self.store, shown))

    def _add(self, refused: Iterable[RefusedRecords]) -> None:
        """Take waiting records in, each where its key belongs."""
        parts: dict[int, list[pl.DataFrame]] = {}
        for message in refused:
            for target, known in self._spread(message):
                parts.setdefault(target, []).append(known)
        for target, frames in parts.items():
            before = self._waiting.get(target, pl.DataFrame(schema=_SCHEMA))
            self._waiting[target] = pl.concat([before, *frames]).tail(MAX_RECORDS)

    def _spread(self, refused: RefusedRecords) -> Iterator[tuple[int, pl.DataFrame]]:
        """Share the records of a message out over the partitions that their keys belong to."""
        known = self._keys(refused)
        targets = shares(refused.frame, self.resource, len(self._upto))
        for target in targets.unique().to_list():
            moved = known.filter(targets == target).drop_nulls()
            if target != refused.partition:
                moved = self._moved(moved, target)
            yield target, moved

    def _moved(self, known: pl.DataFrame, target: int) -> pl.DataFrame:
        """Give records the version that they would have in another partition."""
        topic = raw_topic(self.resource.name)
        there: dict[int, int] = {}
        versions = []
        for version, number in known.select("version", "partition").iter_rows():
            offset = offset_of(version)
            if offset not in there:
                there[offset] = version_elsewhere(self.context, topic, version, number, target)
            versions.append(there[offset])
        return known.with_columns(pl.Series("version", versions, dtype=pl.Int64))

    def _keys(self, refused: RefusedRecords) -> pl.DataFrame:
        frame = refused.frame
        return pl.DataFrame(
            {
                "key": source_keys(self.resource, frame),
                "version": frame[VERSION].cast(pl.Int64),
                "partition": pl.Series([refused.partition]).new_from_index(0, frame.height),
                "offset": pl.Series([refused.offset]).new_from_index(0, frame.height),
                "row": pl.Series(refused.positions(), dtype=pl.Int64),
            },
            schema=_SCHEMA,
        )
