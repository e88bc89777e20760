"""The stage connect → raw: rows of a source become messages for the partitions of a resource."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from zlib import crc32

import polars as pl

from exchange.catalog.model import Resource
from exchange.connect import Cursor, Note, Pulled, Source
from exchange.errors import ExchangeError, Misconfigured
from exchange.log import Entry, Message, quarantine_topic, raw_topic
from exchange.log.frames import encode_frame, encode_slices, is_too_large
from exchange.pipeline.context import PipelineContext, state_message
from exchange.seal.batch.statement import instant
from exchange.text import Text
from exchange.validate.oversized import cut
from exchange.validate.work import RESERVED, absent_columns, only_deletes, source_columns

_LONG_RECORD = 128 * 1024
"""Bytes of a record, or of one text in it, from which on it may not fit a message."""
_NOTES = 500
"""Notes in one message."""
_RAW_HEADERS = frozenset({"source", "pull", "since", "locator", "at", "rows", "index"})


def pull_key(source: str) -> str:
    """Name the state of a source's pull on the compacted topic."""
    return f"pull/{source}"


def rewound(state: Mapping[str, Any], cursor: Cursor, now: datetime) -> dict[str, Any]:
    """Return a pull's state with another cursor: the next pull is a new one, from there."""
    new = {"pull": "", "began": instant(now), "rows": 0, "messages": [], "since": []}
    return {**new, **state, "cursor": cursor, "done": True}


@dataclass(frozen=True)
class PullStage:
    """Pulls one source into the raw topic of its resource.

    The pull (拉取) keeps its identity until it is done: a killed one goes on at its cursor, or,
    for a connector without cursors, after the rows that are already there.
    """

    context: PipelineContext
    name: str
    resource: str
    source: Source
    stops_at_drift: bool = False
    """Whether a column that the catalog names and the source lacks stops the source."""

    def run(
        self, seen: Callable[[Mapping[str, Any]], None] = lambda _state: None
    ) -> Generator[int, None, None]:
        """Pull what is new; yield the number of rows each time some are durable.

        ``seen`` is called with the state of the pull before, and with that of this one when it
        is done: read later from the log, either may be that of another worker's next pull.
        """
        context, key = self.context, pull_key(self.name)
        context.ensure(self.resource)
        context.log.claim(key)  # before reading the state: from now on others are fenced
        resumable = self.source.connector.resumable
        state = context.state(key)
        seen(state)
        # Without a cursor to go on from, everything comes again: that is another pull. So are
        # changes that go on: one may be a newer version of a record that the pull has brought.
        again = resumable and (not state.get("cursor") or state.get("changes", False))
        if state and not state["done"] and state.get("changes"):
            seen(state | {"done": True})
        if not state or state["done"] or again:
            state = self._begin(state)
        state = self._widen({"changes": False, "absent": [], "noted": []} | state)
        with closing(self.source.pull(state["cursor"] if resumable else None)) as stream:
            waiting = yield from self._take(key, stream, state)
        state["done"] = True
        rows = self._commit(key, waiting, state)
        seen(state)
        yield rows

    def _take(
        self, key: str, stream: Iterator[Pulled], state: dict[str, Any]
    ) -> Generator[int, None, list[Message]]:
        """Commit what the source brings, frame by frame; return what is left for the pull's end."""
        resumable = self.source.connector.resumable
        skip = 0 if resumable else state["rows"]
        waiting: list[Message] = []
        ready = False
        while True:
            try:
                pulled = next(stream, None)
            except ExchangeError:
                if ready:
                    yield self._commit(key, waiting, state)
                raise
            if pulled is None:
                break
            if ready:
                yield self._commit(key, waiting, state)
                waiting = []
            frame = pulled.frame[skip:] if skip else pulled.frame
            skip = max(0, skip - pulled.frame.height)
            pulled = self._compared(replace(pulled, frame=frame), state)
            waiting += self._messages(pulled, state)
            state["changes"] = state["changes"] or pulled.changes
            state["rows"] += frame.height
            # Rows without a cursor behind them wait for one. All wait for the next frame: what
            # comes with the last one is committed together with the pull's end, so that a
            # cursor which starts from the beginning never stands in an open pull.
            ready = pulled.cursor is not None or not resumable
            state["cursor"] = pulled.cursor if ready else state["cursor"]
        return waiting

    def _begin(self, before: Mapping[str, Any]) -> dict[str, Any]:
        now = self.context.clock()
        return {
            "pull": f"{now:%Y%m%dT%H%M%S}-{self.context.entropy(4).hex()}",
            "began": instant(now),
            "cursor": before.get("cursor"),
            "rows": 0,
            "messages": [],
            "since": [],
            "done": False,
            "changes": False,
            "absent": [],
            "noted": before.get("absent", []),
        }

    def _compared(self, pulled: Pulled, state: dict[str, Any]) -> Pulled:
        """Tell of columns that the catalog names and the source does not have (any more).

        Each is noted once. Raises Misconfigured where the source is to stop at that.
        """
        if not pulled.frame.width or only_deletes(pulled.frame):
            return pulled
        absent = absent_columns(self.context.resource(self.resource), pulled.frame.columns)
        if absent and self.stops_at_drift:
            raise _drifted(self.name, absent)
        known = {*state["absent"], *state["noted"]}
        state["absent"] = sorted({*state["absent"], *absent})
        notes = tuple(
            Note(0, "column", f"there is no column {column}: the field {field} is empty")
            for column, field in absent.items()
            if column not in known
        )
        return replace(pulled, notes=(*pulled.notes, *notes))

    def _widen(self, state: dict[str, Any]) -> dict[str, Any]:
        """Give the state a place for each partition: messages of this pull, and where it began."""
        raw, partitions = raw_topic(self.resource), self.context.partitions(self.resource)
        new = range(len(state["since"]), partitions)
        ends = [self.context.log.bounds(raw, partition)[1] for partition in new]
        return state | {
            "since": state["since"] + ends,
            "messages": state["messages"] + [0] * len(new),
        }

    def _commit(self, key: str, messages: Sequence[Message], state: dict[str, Any]) -> int:
        context = self.context
        context.failpoint("pull:before")
        with context.log.transaction(key) as tx:
            for message in messages:
                tx.append(message)
            tx.append(state_message(key, state))
        context.failpoint("pull:after")
        topic = raw_topic(self.resource)
        return sum(int(m.headers["rows"]) for m in messages if m.topic == topic)

    def _messages(self, pulled: Pulled, state: dict[str, Any]) -> Iterator[Message]:
        headers = {
            "source": self.name,
            "pull": state["pull"],
            "locator": pulled.locator,
            "at": instant(self.context.clock()),
        }
        resource = self.context.resource(self.resource)
        yield from raw_messages(self.context, resource, pulled.frame, headers, state)
        for start in range(0, len(pulled.notes), _NOTES):
            notes = pulled.notes[start : start + _NOTES]
            yield Message(
                quarantine_topic(self.resource),
                json.dumps([asdict(note) for note in notes], ensure_ascii=False).encode(),
                headers={**headers, "kind": "notes"},
            )


def raw_messages(
    context: PipelineContext,
    resource: Resource,
    frame: pl.DataFrame,
    headers: Mapping[str, str],
    state: Mapping[str, list[int]],
) -> Iterator[Message]:
    """Cut what a pull brought into raw messages, each for its partition.

    ``state`` counts by partition: ``messages`` of the pull so far, which goes up here, and the
    offset ``since`` which they stand.
    """
    for partition, some in spread(slim(frame, resource), resource, len(state["since"])):
        for start, rows, value in encode_slices(some):
            part = some[start : start + rows]
            data = fitting(part, value)
            if data is value:
                context.recent.keep(data, part)
            yield Message(
                raw_topic(resource.name),
                data,
                headers={
                    **headers,
                    "rows": str(rows),
                    "since": str(state["since"][partition]),
                    "index": str(state["messages"][partition]),
                },
                partition=partition,
            )
            state["messages"][partition] += 1


def pull_of(entry: Entry) -> str | None:
    """Return the pull of a raw message; None for a message that no node of ours wrote."""
    return entry.headers["pull"] if entry.headers.keys() >= _RAW_HEADERS else None


def spread(
    frame: pl.DataFrame, resource: Resource, partitions: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Share the rows of a source out over the partitions of a resource, in their order.

    The same key always comes to the same partition: so its changes keep their order, and a key
    that comes twice in a pull is seen. Rows whose key is unclear go to the first partition. The
    share is the CRC-32 of the key's text, which no version of any library changes.
    """
    found = source_columns(resource, frame.columns)
    if partitions == 1 or not found.keys() >= set(resource.key):
        yield 0, frame
        return
    key = [found[name] for name in resource.key]
    texts = frame.select(
        pl.concat_str(
            [pl.col(name).cast(pl.String).str.strip_chars() for name in key],
            separator="\x1f",
            ignore_nulls=True,
        )
    ).to_series()
    share = pl.Series(
        [crc32(text.encode()) % partitions for text in texts.to_list()], dtype=pl.Int32
    )
    for partition in share.unique().sort().to_list():
        yield partition, frame.filter(share == partition)


def slim(frame: pl.DataFrame, resource: Resource) -> pl.DataFrame:
    """Empty the columns that nobody named, where they would make records too large to travel."""
    if frame.estimated_size() <= _LONG_RECORD * max(1, frame.height):
        longest = max((_longest(column) for column in frame), default=0)
        if longest <= _LONG_RECORD:
            return frame
    named = {*source_columns(resource, frame.columns).values(), *RESERVED}
    return frame.with_columns(
        pl.lit(None, dtype=frame.schema[column]).alias(column)
        for column in frame.columns
        if column not in named
    )


def _longest(column: pl.Series) -> int:
    """Return the bytes of the longest text of a column."""
    if column.dtype != pl.String:
        return 0
    longest = column.str.len_bytes().max()
    return longest if isinstance(longest, int) else 0


def _drifted(source: str, absent: Mapping[str, str]) -> Misconfigured:
    columns = ", ".join(absent)
    return Misconfigured(
        Text(
            f"数据源 {source} 缺少目录登记的列：{columns}",
            f"the source {source} lacks columns that the catalog names: {columns}",
        ),
        hint=Text(
            "请修改来源或目录的 columns；若该列确已取消，在该数据源写 drift: warn",
            "mend the source or `columns` of the catalog; where the column is gone for good, "
            "set `drift: warn` for this source",
        ),
    )


def fitting(part: pl.DataFrame, data: bytes) -> bytes:
    """Return the value of a message; a single record that is too large for one is cut."""
    if part.height == 1 and is_too_large(part, data):
        return encode_frame(cut(part, int(part.estimated_size())))
    return data
