"""Refused records read back from their messages in a quarantine topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from exchange.log import Entry
from exchange.log.frames import decode_frame
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import RefusedEntry
from exchange.pipeline.versions import refused_versions
from exchange.seal.batch.statement import instant
from exchange.store.database import Store
from exchange.store.node.quarantine import QuarantineRow
from exchange.validate.refused_records import RefusedRecords, unreadable
from exchange.validate.source_frame import VERSION


def refused_of(entry: Entry) -> RefusedRecords:
    """Take the refused records out of a quarantine message; all have a column of versions.

    Null where a former build refused them without a place.
    """
    refused = RefusedEntry.of(entry)
    frame = decode_frame(refused.data) if refused.readable else unreadable(refused.data)
    if VERSION not in frame.columns:
        frame = frame.with_columns(_versions(refused, frame.height))
    return RefusedRecords(
        entry.partition,
        entry.offset,
        frame,
        refused.origin.source,
        refused.origin.locator,
        instant(refused.origin.at),
        foreign=not refused.readable,
    )


def _versions(refused: RefusedEntry, rows: int) -> pl.Series:
    """Return versions for the records of a former build: their raw message is known, at most."""
    offset = refused.raw.partition("/")[2]
    if refused.readable and offset.isdecimal():
        return refused_versions(int(offset), range(rows))
    return pl.Series(VERSION, [None], dtype=pl.Int64).new_from_index(0, rows)


def waiting(
    context: PipelineContext, store: Store, rows: Iterable[QuarantineRow]
) -> Iterator[RefusedRecords]:
    """Read what waits of quarantine messages, one message at a time."""
    for row in rows:
        place = (row.topic, row.partition, row.offset)
        refused = refused_of(context.log.read(*place, max_entries=1)[0])
        decided = store.quarantine.decisions(*place)
        yield refused.only([one for one in range(refused.frame.height) if one not in decided])
