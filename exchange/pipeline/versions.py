"""Which of two records with one key is the newer: by where they first came into the raw topic.

A version (版本) is a number that rises within a partition: offset of the raw message (35 bits),
how many of its records were accepted before (14), position in it (14). A refused record keeps
its version in the column ``_exchange_version``, also through a replay: what is sent once more is
not newer for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.catalog.model import Resource
from exchange.errors import Integrity
from exchange.log import Entry, raw_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import RawBatch, SealedEntry
from exchange.pipeline.raw_frame import raw_frame
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.columns import decode
from exchange.validate.keys import source_keys, typed_keys
from exchange.validate.source_frame import VERSION

_BITS: Final = 14
_LAST: Final = (1 << _BITS) - 1


def refused_versions(offset: int, places: Sequence[int] | NDArray[np.intp]) -> pl.Series:
    """Return the versions of the refused records at ``places`` of a raw message."""
    positions = np.asarray(places, dtype=np.int64)
    accepted_before = positions - np.arange(positions.size)
    return pl.Series(VERSION, _version(offset, accepted_before, positions))


def offset_of(version: int) -> int:
    """Return the offset of the raw message that a version names."""
    return version >> 2 * _BITS


def version_elsewhere(
    context: PipelineContext, topic: str, version: int, partition: int, target: int
) -> int:
    """Return the version of a record in another partition of a raw topic, by time.

    Whatever came there in the same millisecond, or since when nobody knows any more, is newer.
    """
    log, offset = context.log, offset_of(version)
    known = log.bounds(topic, partition)[0] <= offset < log.bounds(topic, partition)[1]
    arrived = log.read(topic, partition, offset, max_entries=1)[0].time if known else 0
    low, high = log.bounds(topic, target)
    while low < high:
        middle = (low + high) // 2
        page = log.read(topic, target, middle, max_entries=1)
        if page and page[0].time < arrived:
            low = page[0].offset + 1
        else:
            high = middle
    return low << 2 * _BITS if known else 0


def sealed_versions(offset: int, before: int, rows: int) -> pl.Series:
    """Return the versions of a batch's records; each is newer than what stood before it."""
    return pl.Series(VERSION, _version(offset, before + np.arange(rows), _LAST))


def _version(
    offset: int, before: NDArray[np.int64], place: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    middle = np.minimum(before, _LAST) << _BITS
    return (np.int64(offset) << 2 * _BITS) | middle | np.minimum(place, _LAST)


def batch_versions(
    context: PipelineContext, resource: Resource, entry: Entry, sealed: SealedEntry
) -> pl.DataFrame:
    """Return the key and the version of each key in a sealed batch, as ``key`` and ``version``.

    Empty for a batch that tells no place (of a former build), or of which no key can be read.
    """
    if sealed.raw is None:
        return _none()
    try:
        batch = open_batch(sealed.data)
        typed = decode(batch.records, batch.offsets, batch.schema)
    except (Integrity, ValueError):
        return _none()  # the stage that delivers says what is wrong with it
    keys = typed_keys(resource, typed)
    versions = sealed_versions(*sealed.raw, typed.height)
    known = pl.DataFrame({"key": keys, "version": versions}).drop_nulls()
    newest = known.group_by("key").agg(pl.col("version").max())
    raw = _raw(context, entry, resource, sealed.raw[0])
    if raw is None or VERSION not in raw.columns:
        return newest
    # Replayed: each as old as it was. Of a key that is there twice, which one passed is unclear.
    first = pl.DataFrame({"key": source_keys(resource, raw), "version": raw[VERSION]})
    oldest = first.drop_nulls().group_by("key").agg(pl.col("version").min())
    return newest.select("key").join(oldest, on="key")


def _raw(
    context: PipelineContext, entry: Entry, resource: Resource, offset: int
) -> pl.DataFrame | None:
    """Read the raw message of a replayed batch; None when it is no replay's."""
    sealed = SealedEntry.of(entry)
    if sealed is None or not sealed.replayed:
        return None
    topic = raw_topic(resource.name)
    first, end = context.log.bounds(topic, entry.partition)
    if not first <= offset < end:
        return pl.DataFrame({VERSION: pl.Series([], dtype=pl.Int64)})
    (message,) = context.log.read(topic, entry.partition, offset, max_entries=1)
    batch = RawBatch.of(message)
    return None if batch is None else raw_frame(batch)


def raw_versions(frame: pl.DataFrame, offset: int, accepted: NDArray[np.intp]) -> pl.Series:
    """Return the versions of the accepted records of a raw message."""
    if VERSION in frame.columns:
        return frame[VERSION][accepted].cast(pl.Int64, strict=False)
    return sealed_versions(offset, 0, accepted.size)


def newest_of(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join frames of keys and versions: the newest version of each key."""
    every = pl.concat([_none(), *parts]).drop_nulls()
    return every.group_by("key").agg(pl.col("version").max())


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema={"key": pl.UInt64, "version": pl.Int64})
