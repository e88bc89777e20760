"""Refused records settle (了结) when a newer record of their key is sealed.

The waiting records of a partition are held as keys and versions, 28 bytes each, and are compared
with the keys of each batch that is sealed, in columns. While nothing waits, nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from exchange.catalog.model import Resource
from exchange.log import Entry, quarantine_topic, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import NotesEntry, SealedEntry
from exchange.pipeline.projection import SETTLED_BY, project
from exchange.pipeline.refused import refused_of, waiting
from exchange.pipeline.versions import batch_versions
from exchange.store.database import Store
from exchange.validate.keys import source_keys
from exchange.validate.refused_records import RefusedRecords
from exchange.validate.source_frame import VERSION

MAX_MESSAGES = 100_000
"""Quarantine messages with waiting records that are compared: the oldest."""
MAX_RECORDS = 4_000_000
"""Waiting records of a partition that are compared: about 110 MB. The oldest are left out."""
_PAGE = 64
_SCHEMA = {"key": pl.UInt64, "version": pl.Int64, "offset": pl.Int64, "row": pl.Int64}


@dataclass
class Settlement:
    """Settles the refused records of a resource."""

    context: PipelineContext
    resource: Resource
    store: Store
    _waiting: dict[int, pl.DataFrame] = field(default_factory=dict)
    """By partition: key, version and place of each waiting record."""
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
            for (offset,), rows in older.group_by("offset"):
                self._decide(partition, int(offset), rows["row"].to_list(), sealed.batch_no)
            waiting = waiting.join(older, on=["offset", "row"], how="anti")
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
        """Return what waits in a partition, with all that is in its quarantine topic now.

        A record that was refused before a batch stands there before the batch does.
        """
        log, topic = self.context.log, quarantine_topic(self.resource.name)
        parts = []
        if partition not in self._upto:
            self._upto[partition] = log.position("store", topic, partition)
            parts += [self._keys(refused) for refused in self._stored(partition)]
        end = log.bounds(topic, partition)[1]
        offset = self._upto[partition]
        while page := log.read(topic, partition, offset, max_entries=_PAGE) if offset < end else []:
            project(self.store, self.resource.name, page)
            parts += [self._keys(refused_of(e)) for e in page if NotesEntry.of(e) is None]
            offset = page[-1].offset + 1
        self._upto[partition] = offset
        known = self._waiting.get(partition, pl.DataFrame(schema=_SCHEMA))
        return pl.concat([known, *parts]).tail(MAX_RECORDS) if parts else known

    def _stored(self, partition: int) -> Iterator[RefusedRecords]:
        rows = self.store.quarantine.find(
            resource=self.resource.name, waiting=True, limit=MAX_MESSAGES
        )
        shown = (row for row in rows if row.partition == partition)
        yield from waiting(self.context, self.store, shown)

    def _keys(self, refused: RefusedRecords) -> pl.DataFrame:
        frame = refused.frame
        return pl.DataFrame(
            {
                "key": source_keys(self.resource, frame),
                "version": frame[VERSION].cast(pl.Int64),
                "offset": pl.Series([refused.offset]).new_from_index(0, frame.height),
                "row": pl.Series(refused.positions(), dtype=pl.Int64),
            },
            schema=_SCHEMA,
        ).drop_nulls()
