"""Replayed records that a newer record of their key has overtaken on the way.

A replay looks at what is sealed. What was pulled, but not sealed yet, stands in the raw topic
between the place up to which it looked (``since``) and its own message: the stage that seals
looks there, so that an old value is never sealed behind a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.catalog.model import Resource
from exchange.log import Entry
from exchange.pipeline.context import CHUNK_ENTRIES, PipelineContext
from exchange.pipeline.messages import RawBatch
from exchange.pipeline.projection import OVERTAKEN
from exchange.pipeline.raw_frame import raw_frame
from exchange.pipeline.versions import newest_of, raw_versions
from exchange.text import Text
from exchange.validate.keys import source_keys, typed_keys
from exchange.validate.oversized import add_reason, refuse
from exchange.validate.source_frame import VERSION
from exchange.validate.validator import CheckResult

Flags = NDArray[np.bool_]
_WHY = Text(
    "重新送检期间，来源已有同一主键的更新记录",
    "a newer record of its key came while this one was sent through again",
)


@dataclass
class Overtaken:
    """Finds them; ``check`` judges what stands between without the rest of its pull."""

    context: PipelineContext
    resource: Resource
    check: Callable[[pl.DataFrame], CheckResult]
    _replay: tuple[str, int] = ("", 0)
    _upto: int = 0
    _newest: pl.DataFrame = field(default_factory=lambda: newest_of(()))
    """Key and newest version of what is between ``since`` and ``_upto``."""

    def of(self, entry: Entry, batch: RawBatch, frame: pl.DataFrame) -> Flags:
        """Tell which records of a replayed message are older than one that came meanwhile."""
        if VERSION not in frame.columns:
            return np.zeros(frame.height, dtype=np.bool_)
        replay = (batch.origin.pull, entry.partition)
        if replay != self._replay or self._upto > entry.offset:
            self._replay, self._upto, self._newest = replay, batch.since, newest_of(())
        self._look(entry, batch.origin.pull)
        mine = pl.DataFrame({"key": source_keys(self.resource, frame), "mine": frame[VERSION]})
        both = mine.join(self._newest, on="key", how="left", maintain_order="left")
        newer = both.select((pl.col("version") > pl.col("mine")).fill_null(value=False))
        return newer.to_series().to_numpy()

    def _look(self, entry: Entry, pull: str) -> None:
        """Read on up to a message."""
        log, parts = self.context.log, [self._newest]
        self._upto = max(self._upto, log.bounds(entry.topic, entry.partition)[0])
        while self._upto < entry.offset:
            page = log.read(entry.topic, entry.partition, self._upto, max_entries=CHUNK_ENTRIES)
            for other in page:
                batch = RawBatch.of(other)
                if other.offset >= entry.offset or batch is None or batch.origin.pull == pull:
                    continue
                if (frame := raw_frame(batch)) is not None:
                    parts.append(self._versions(frame, other.offset))
            self._upto = page[-1].offset + 1 if page else entry.offset
        self._newest = newest_of(parts)

    def _versions(self, frame: pl.DataFrame, offset: int) -> pl.DataFrame:
        checked = self.check(frame)
        keys = typed_keys(self.resource, checked.accepted)
        versions = raw_versions(frame, offset, checked.accepted_rows)
        return pl.DataFrame({"key": keys, "version": versions})


def hold(checked: CheckResult, frame: pl.DataFrame, overtaken: Flags) -> CheckResult:
    """Refuse the overtaken records of a chunk; those that are refused anyway get the reason."""
    if not overtaken.any():
        return checked
    checked = add_reason(checked, overtaken[checked.rejected_rows], OVERTAKEN, _WHY)
    return refuse(checked, frame, overtaken[checked.accepted_rows], OVERTAKEN, _WHY)
