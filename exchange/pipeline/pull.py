"""The stage connect → raw: rows of a source become messages for the partitions of a resource."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from zlib import crc32

import polars as pl

from exchange.catalog.model import Resource
from exchange.connect import Note, Pulled
from exchange.errors import ExchangeError, Integrity, Misconfigured
from exchange.log import Message, raw_topic
from exchange.log.frames import encode_frame, encode_slices, is_too_large
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.drift import appeared_note, appeared_refusal, vanished_refusal
from exchange.pipeline.messages import NotesEntry, Origin, PullState, RawBatch, pull_key
from exchange.pipeline.partition import continuation
from exchange.text import Text
from exchange.validate.oversized import shorten_values
from exchange.validate.source_frame import (
    RESERVED,
    ROW,
    VERSION,
    absent_columns,
    only_deletes,
    source_columns,
)
from exchange.validate.work import require_columns

_LONG_RECORD = 128 * 1024
"""Bytes of a record, or of one text in it, from which on it may not fit a message."""
_COLUMNS = 2_000
"""Columns of a source that are known."""
_NOTES = 500
"""Notes in one message."""


class PullGuard(Protocol):
    """Watches one pull; both methods raise Fenced when it was given up meanwhile."""

    def arrive(self) -> None:
        """Hear that the source has brought something."""

    def writing(self) -> AbstractContextManager[None]:
        """Surround a transaction of the pull: it waits until the pull may write."""


class Unguarded:
    """The guard of a pull that nobody watches."""

    def arrive(self) -> None:
        """Do nothing."""

    def writing(self) -> AbstractContextManager[None]:
        """Let it write."""
        return nullcontext()


_UNGUARDED = Unguarded()


class PullSource(Protocol):
    """What a pull takes frames from: a source, or what compares its states."""

    @property
    def resumable(self) -> bool:
        """Whether a pull goes on at a cursor."""

    def pull(
        self, cursor: Mapping[str, Any] | None = None, arrive: Callable[[], None] = lambda: None
    ) -> Generator[Pulled, None, None]:
        """Yield what is new since ``cursor``; ``arrive`` hears of all that the source brings."""


@dataclass(frozen=True)
class PullStage:
    """Pulls one source into the raw topic of its resource.

    The pull (拉取) keeps its identity until it is done: a killed one goes on at its cursor, or,
    for a connector without cursors, after the rows that are already there.
    """

    context: PipelineContext
    name: str
    resource: str
    source: PullSource
    stops_at_drift: bool = False
    """Whether a column that vanishes or appears stops the source."""
    draft: Callable[[pl.DataFrame], None] | None = None
    """Called with a frame that has columns which appeared: it drafts a change of the catalog."""

    def run(
        self,
        seen: Callable[[PullState | None], None] = lambda _state: None,
        guard: PullGuard = _UNGUARDED,
    ) -> Generator[int, None, None]:
        """Pull what is new; yield the number of rows each time some are durable.

        ``seen`` is called with the state of the pull before, and with that of this one when it
        is done: read later from the log, either may be that of another worker's next pull.
        ``guard`` hears of every frame, and lets the pull write.
        """
        context = self.context
        context.ensure(self.resource)
        context.log.claim(pull_key(self.name))  # before the state is read: others are fenced now
        state = context.pull_state(self.name)
        seen(state)
        resumable = self.source.resumable
        if state is not None and not state.done and state.changes:
            seen(replace(state, done=True))
        # Without a cursor to go on from, everything comes again: that is another pull. So are
        # changes that go on: one may be a newer version of a record that the pull has brought.
        lost = None if state is None else self._lost(state)
        if lost is not None and resumable:
            raise lost
        if (
            state is None
            or state.done
            or lost
            or (resumable and (not state.cursor or state.changes))
        ):
            state = self._begin(state)
        state = self._widen(state)
        cursor = state.cursor if resumable else None
        with closing(self.source.pull(cursor, guard.arrive)) as stream:
            rows, waiting, state, left_out = yield from self._take(stream, state, seen, guard)
        state = replace(state, done=True)
        self._commit(waiting, state, guard)
        seen(state)
        yield state.rows - rows
        if left_out is not None:
            raise left_out

    def _take(
        self,
        stream: Generator[Pulled, None, None],
        state: PullState,
        seen: Callable[[PullState | None], None],
        guard: PullGuard,
    ) -> Generator[int, None, tuple[int, list[Message], PullState, ExchangeError | None]]:
        """Commit what the source brings, frame by frame.

        Return the rows committed, and what is left for the pull's end: messages, state, and the
        error that names what the source had to leave out.
        """
        resumable, durable = self.source.resumable, state.rows
        skip = 0 if resumable else durable
        waiting: list[Message] = []
        refusal: Misconfigured | None = None
        ready = complete = False
        while True:
            try:
                pulled = _next(stream, refusal)
            except ExchangeError as error:
                if complete:
                    return durable, waiting, state, error
                if ready:
                    self._commit(waiting, state, guard)
                    yield state.rows - durable
                raise
            if pulled is None:
                return durable, waiting, state, None
            if ready:
                self._commit(waiting, state, guard)
                yield state.rows - durable
                waiting, durable = [], state.rows
                if pulled.next_pull and state.rows:
                    seen(replace(state, done=True))
                    state = self._widen(self._follow(state))
                    durable = 0
            complete = pulled.complete
            frame = pulled.frame[skip:] if skip else pulled.frame
            skip = max(0, skip - pulled.frame.height)
            refusal = self._refusal(frame, pulled.locator)
            if refusal is not None:
                ready = False
                continue
            messages, state = self._messages(replace(pulled, frame=frame), state)
            waiting += messages
            # Rows without a cursor behind them wait for one. All wait for the next frame: what
            # comes with the last one is committed together with the pull's end, so that a
            # cursor which starts from the beginning never stands in an open pull.
            ready = pulled.cursor is not None or not resumable
            state = replace(state, cursor=pulled.cursor) if ready else state

    def _begin(self, before: PullState | None) -> PullState:
        now = self.context.clock()
        if before is not None and not before.done and before.changes and before.cursor:
            return self._follow(before)
        pull = f"{now:%Y%m%dT%H%M%S}-{self.context.entropy(4).hex()}"
        return PullState(pull, now) if before is None else _carried(pull, now, before)

    def _follow(self, before: PullState) -> PullState:
        """Begin the pull that goes on where another one ended or was broken off."""
        now = self.context.clock()
        return _carried(continuation(before.pull), now, before)

    def _lost(self, state: PullState) -> Integrity | None:
        """Tell that the raw topic ends before what the last pull wrote to it.

        A source that brings everything each time makes up for it by itself.
        """
        raw = raw_topic(self.resource)
        for number, counts in enumerate(zip(state.since, state.messages, strict=True)):
            if (end := self.context.log.bounds(raw, number)[1]) < sum(counts):
                return _made_anew(raw, number, end, sum(counts))
        return None

    def _widen(self, state: PullState) -> PullState:
        """Give the state a place for each partition: messages of this pull, and where it began."""
        raw = raw_topic(self.resource)
        new = range(len(state.since), self.context.partitions(self.resource))
        ends = [self.context.log.bounds(raw, number)[1] for number in new]
        return replace(
            state, since=(*state.since, *ends), messages=(*state.messages, *(0 for _ in new))
        )

    def _commit(self, messages: Sequence[Message], state: PullState, guard: PullGuard) -> None:
        context = self.context
        context.failpoint("pull:before")
        with guard.writing(), context.log.transaction(pull_key(self.name)) as tx:
            for message in messages:
                tx.append(message)
            tx.append(state.to_message(self.name))
        context.failpoint("pull:after")

    def _messages(self, pulled: Pulled, state: PullState) -> tuple[list[Message], PullState]:
        """Make the messages of what the source gave, and the state behind them."""
        resource = self.context.resource(self.resource)
        absent = self._absent(pulled, resource)
        state, new = self._known_columns(pulled, resource, state)
        known = {*state.absent, *state.noted}
        drift = (
            Note(
                0,
                "column",
                Text(
                    f"没有列 {column}：数据项 {field} 为空",
                    f"there is no column {column}: the field {field} is empty",
                ).joined(),
            )
            for column, field in absent.items()
            if column not in known
        )
        notes = (*pulled.notes, *drift, *map(appeared_note, new))
        origin = Origin(self.name, state.pull, pulled.locator, self.context.clock())
        counts = RawCounts(state.since, list(state.messages))
        # A source's own column of this name would pass for ours.
        frame = pulled.frame.drop(VERSION, strict=False)
        messages = list(raw_messages(self.context, resource, frame, origin, counts))
        for start in range(0, len(notes), _NOTES):
            page = [asdict(note) for note in notes[start : start + _NOTES]]
            messages.append(NotesEntry(origin, page).to_message(self.resource))
        return messages, replace(
            state,
            rows=state.rows + pulled.frame.height,
            messages=tuple(counts.messages),
            changes=state.changes or pulled.changes,
            absent=tuple(sorted({*state.absent, *absent})),
        )

    def _refusal(self, frame: pl.DataFrame, locator: str) -> Misconfigured | None:
        """Return why nothing of a frame could ever be sealed, with its place; None: it could.

        The header of a file is judged by itself, too: a frame without rows that has their places.
        """
        if RESERVED.issuperset(frame.columns) or (frame.is_empty() and ROW not in frame.columns):
            return None
        try:
            require_columns(self.context.resource(self.resource), frame)
        except Misconfigured as error:
            what = Text(f"{locator}：{error.what.zh}", f"{locator}: {error.what.en}")
            refusal = Misconfigured(what, hint=error.hint)
            refusal.__cause__ = error
            return refusal
        return None

    def _absent(self, pulled: Pulled, resource: Resource) -> Mapping[str, str]:
        """Return columns of the catalog that the source does not have (any more), by field.

        Raises Misconfigured where the source is to stop at that.
        """
        if not pulled.frame.width or only_deletes(pulled.frame):
            return {}
        absent = absent_columns(resource, pulled.frame.columns)
        if absent and self.stops_at_drift:
            raise vanished_refusal(self.name, absent)
        return absent

    def _known_columns(
        self, pulled: Pulled, resource: Resource, state: PullState
    ) -> tuple[PullState, list[str]]:
        """Return the state with the columns of the source, and those that have just appeared.

        Raises Misconfigured where the source is to stop at that.
        """
        columns = [column for column in pulled.frame.columns if column not in RESERVED]
        if not columns or only_deletes(pulled.frame):
            return state, []
        if state.learns:
            learned = dict.fromkeys((*state.columns, *columns[:_COLUMNS]))
            return replace(state, columns=tuple(learned)[:_COLUMNS]), []
        named = set(source_columns(resource, columns).values())
        new = sorted(set(columns[:_COLUMNS]) - named - {*state.columns, *state.appeared})
        if new and self.stops_at_drift:
            raise appeared_refusal(self.name, new)
        if new and self.draft is not None:
            self.draft(pulled.frame)
        appeared = {*state.appeared, *new} - named
        return replace(state, appeared=tuple(sorted(appeared))), new


def _carried(pull: str, now: datetime, before: PullState) -> PullState:
    """Begin a pull that goes on from the cursor and the columns of another one."""
    return PullState(
        pull,
        now,
        before.cursor,
        noted=before.absent,
        columns=before.columns,
        appeared=before.appeared,
        learns=not before.columns,
    )


def _next(stream: Generator[Pulled, None, None], refusal: Misconfigured | None) -> Pulled | None:
    """Return what the source brings next; it is told first that it brought what is refused."""
    if refusal is None:
        return next(stream, None)
    try:
        return stream.throw(refusal)
    except StopIteration:
        return None


@dataclass(frozen=True, slots=True)
class RawCounts:
    """The raw messages of a pull or a replay, by partition."""

    since: Sequence[int]
    """Offset of the end when the pull began."""
    messages: list[int]
    """Messages so far; it goes up with each that is made."""


def raw_messages(
    context: PipelineContext,
    resource: Resource,
    frame: pl.DataFrame,
    origin: Origin,
    counts: RawCounts,
) -> Iterator[Message]:
    """Cut what a pull brought into raw messages, each for its partition."""
    for partition, rows in spread(slim(frame, resource), resource, len(counts.since)):
        for start, height, value in encode_slices(rows):
            part = rows[start : start + height]
            data = fitting(part, value)
            if data is value:
                context.recent.keep(data, part)
            batch = RawBatch(
                origin, height, counts.since[partition], counts.messages[partition], data
            )
            yield batch.to_message(resource.name, partition)
            counts.messages[partition] += 1


def spread(
    frame: pl.DataFrame, resource: Resource, partitions: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Share the rows of a source out over the partitions of a resource, in their order.

    The same key always comes to the same partition: so its changes keep their order, and a key
    that comes twice in a pull is seen. Rows whose key is unclear go to the first partition. The
    share is the CRC-32 of the key's text, which no version of any library changes.
    """
    if partitions == 1:
        yield 0, frame
        return
    share = shares(frame, resource, partitions)
    for partition in share.unique().sort().to_list():
        yield partition, frame.filter(share == partition)


def shares(frame: pl.DataFrame, resource: Resource, partitions: int) -> pl.Series:
    """Return the partition of each row, see :func:`spread`."""
    columns = source_columns(resource, frame.columns)
    if partitions == 1 or not columns.keys() >= set(resource.key):
        return pl.Series([0], dtype=pl.Int32).new_from_index(0, frame.height)
    key = [columns[name] for name in resource.key]
    texts = frame.select(
        pl.concat_str(
            [pl.col(name).cast(pl.String).str.strip_chars() for name in key],
            separator="\x1f",
            ignore_nulls=True,
        )
    ).to_series()
    return pl.Series(
        [crc32(text.encode()) % partitions for text in texts.to_list()], dtype=pl.Int32
    )


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


def _made_anew(topic: str, number: int, end: int, written: int) -> Integrity:
    return Integrity(
        Text(
            f"{topic}/{number} 止于 {end}，上次拉取已写到 {written}：主题已被删除并重建",
            f"{topic}/{number} ends at {end}, the last pull wrote up to {written}:"
            " the topic was deleted and made anew",
        ),
        hint=Text(
            "恢复该主题的备份；无备份时用 exchange source rewind 让来源从头补数",
            "restore the topic from a backup; without one, let the source start again with"
            " `exchange source rewind`",
        ),
    )


def fitting(part: pl.DataFrame, data: bytes) -> bytes:
    """Return the value of a message; a single record that is too large for one is cut."""
    if part.height == 1 and is_too_large(part, data):
        return encode_frame(shorten_values(part, int(part.estimated_size())))
    return data
