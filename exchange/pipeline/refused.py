"""Refused records read back from their messages in a quarantine topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from exchange.errors import Integrity
from exchange.log import Entry
from exchange.log.frames import decode_frame
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import RawBatch, RefusedEntry
from exchange.pipeline.raw_frame import raw_frame
from exchange.pipeline.versions import refused_versions
from exchange.seal.batch.statement import instant
from exchange.store.database import Store
from exchange.store.node.quarantine import QuarantineRow
from exchange.text import Text
from exchange.validate.refused_records import RefusedRecords, unreadable
from exchange.validate.source_frame import REASONS, VERSION

_FOREIGN = Text(
    "该消息不是本系统写入，原样保留", "no node of ours wrote this message; it is kept as it is"
)


def refused_of(entry: Entry) -> RefusedRecords:
    """Take the refused records out of a quarantine message; all have a column of versions.

    Null where a former build refused them without a place.
    """
    refused = RefusedEntry.of(entry)
    frame = _frame(refused)
    foreign = frame is None
    if frame is None:
        frame = unreadable(refused.data, _describe(refused))
    if VERSION not in frame.columns:
        frame = frame.with_columns(_versions(refused, frame.height, readable=not foreign))
    return RefusedRecords(
        entry.partition,
        entry.offset,
        frame,
        refused.origin.source,
        refused.origin.locator,
        instant(refused.origin.at),
        foreign=foreign,
        original=_original(refused) if foreign else None,
    )


def _original(refused: RefusedEntry) -> pl.DataFrame | None:
    """Read the records of a raw message that could not be read when it was refused.

    They have their versions. None where they still cannot be read, or were never ours.
    """
    original = refused.original
    if original is None or original.rows is None or original.size != len(refused.data):
        return None
    batch = RawBatch(refused.origin, original.rows, 0, 0, refused.data)
    frame = raw_frame(batch)
    if frame is None or VERSION in frame.columns:
        return frame
    return frame.with_columns(refused_versions(original.offset, range(frame.height)))


def _frame(refused: RefusedEntry) -> pl.DataFrame | None:
    """Read the refused records; None for what cannot be read as records."""
    if not refused.readable:
        return None
    try:
        frame = decode_frame(refused.data)
    except Integrity:
        return None
    return frame if isinstance(frame.schema.get(REASONS), pl.List) else None


def _describe(refused: RefusedEntry) -> Text:
    return refused.original.describe() if refused.original is not None else _FOREIGN


def _versions(refused: RefusedEntry, rows: int, *, readable: bool) -> pl.Series:
    """Return versions for the records of a former build: their raw message is known, at most."""
    offset = refused.raw.partition("/")[2]
    if readable and offset.isdecimal():
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
        yield refused.only(
            [position for position in range(refused.frame.height) if position not in decided]
        )
