"""The stage raw → sealed, quarantine: check, seal what passes, keep what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.catalog.avro import schema_text
from exchange.catalog.model import Resource
from exchange.errors import Misconfigured, Rejected
from exchange.log import Entry, Message, raw_topic
from exchange.log.frames import encode_slices
from exchange.pipeline.context import CHUNK_BYTES, CHUNK_ENTRIES, PipelineContext
from exchange.pipeline.messages import REPLAY, RawBatch, RefusedEntry, SealedEntry
from exchange.pipeline.numbers import take_numbers
from exchange.pipeline.overtaken import Overtaken, hold
from exchange.pipeline.partition import PartitionState
from exchange.pipeline.pull import fitting
from exchange.pipeline.raw_frame import raw_frame
from exchange.pipeline.stage import Reading
from exchange.pipeline.versions import refused_versions
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.build import BatchFacts, Packed, build, pack
from exchange.seal.batch.columns import Encoded, encode
from exchange.seal.batch.statement import moment
from exchange.seal.eseal.signature import Sealer
from exchange.text import BEIJING, Text
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.deletes import blank_deletes
from exchange.validate.isolation import check_isolated
from exchange.validate.oversized import TOO_LARGE, refuse, refuse_all
from exchange.validate.refused_records import histogram
from exchange.validate.source_frame import VERSION
from exchange.validate.validator import CheckResult, compile_resource

_LONG_RECORD = 256 * 1024
"""Bytes of a record from which on it may not fit a batch."""
_NONE_CLAIMED = ClaimedKeys()


@dataclass(frozen=True)
class Sealed:
    """What one step of the stage did."""

    accepted: int = 0
    quarantined: int = 0
    batches: int = 0
    halted: Text | None = None


@dataclass
class _Work:
    """What is known of a partition between two steps; guarded by the claim on it."""

    state: PartitionState
    pull: str = ""
    claimed: ClaimedKeys = field(default_factory=ClaimedKeys)
    """The keys that ``pull`` has brought so far."""


@dataclass
class _Step:
    """A step under way: what it writes, and what it counts."""

    work: _Work
    sealer: Sealer
    messages: list[Message] = field(default_factory=list)
    accepted: int = 0
    quarantined: int = 0
    batches: int = 0


@dataclass(frozen=True)
class _Chunk:
    """A raw message with its rows."""

    entry: Entry
    batch: RawBatch
    frame: pl.DataFrame


@dataclass
class SealStage:
    """Checks and seals the partitions of a resource; the statements of a partition form a chain.

    ``sealer`` is asked once a step: keys are changed, and seals suspended, while the stage is
    open. ``ignored``: columns of the source that the catalog does not name; ``coarsened``: how many
    instants of a field were finer than a millisecond, which is what is kept.
    """

    context: PipelineContext
    resource: Resource
    sealer: Callable[[], Sealer]

    def __post_init__(self) -> None:
        """Compile the checks and join the consumer group; nothing is read yet."""
        context, name = self.context, self.resource.name
        context.ensure(name)
        self._topic = raw_topic(name)
        self._validator = compile_resource(self.resource, context.catalog.tables)
        self._schema = parse_schema(schema_text(self.resource))
        self._reading = Reading(context.log, "seal", [self._topic])
        self._overtaken = Overtaken(context, self.resource, self._check)
        self.ignored: set[str] = set()
        self.coarsened: Counter[str] = Counter()
        self._works: dict[int, _Work] = {}
        self._held = False

    def close(self) -> None:
        """Leave the consumer group."""
        self._reading.close()

    def step(self) -> Sealed | None:
        """Take the next raw messages of a partition through; None when there are none.

        A partition that is halted stays so until a person releases it: it is not read then.
        """
        if self._held:
            self.sealer()  # while it must not seal, nothing is read for nothing
            self._held = False
        halted = self._halted()
        skip = {(self._topic, number) for number in halted}
        entries = self._reading.poll(CHUNK_ENTRIES, CHUNK_BYTES, skip)
        if not entries:
            return Sealed(halted=next(iter(halted.values()))) if halted else None
        work = self._works.pop(entries[0].partition, None)  # known again when the step is done
        return self._reading.attempt(lambda: self._take(entries, work)) or Sealed()

    def _halted(self) -> dict[int, Text]:
        """Return our partitions that wait for a person, and why; somebody may have released one."""
        mine = self._reading.assigned()
        for lost in self._works.keys() - mine:
            del self._works[lost]
        for number in mine:
            if number not in self._works or self._works[number].state.halted:
                self._works[number] = self._read(number)
        works = self._works.items()
        return {number: work.state.halted for number, work in works if work.state.halted}

    def _read(self, number: int) -> _Work:
        return _Work(self.context.partition_state(self.resource.name, number))

    def _take(self, entries: Sequence[Entry], work: _Work | None) -> Sealed:
        context, name, number = self.context, self.resource.name, entries[0].partition
        context.failpoint("seal:before")
        if context.log.claim(seal_owner(name, number)) or work is None:
            work = self._read(number)  # somebody else may have written it
        if work.state.halted:
            self._works[number] = work
            self._reading.rewind()
            return Sealed()
        self._held = True
        step = _Step(work, self.sealer())
        self._held = False
        with context.log.transaction(seal_owner(name, number)) as tx:
            last = self._process(entries, step)
            for message in step.messages:
                tx.append(message)
            tx.append(work.state.to_message(name, number))
            self._reading.commit(tx, last)
        self._works[number] = work
        if last is not entries[-1]:
            self._reading.rewind()
        context.failpoint("seal:after")
        return Sealed(step.accepted, step.quarantined, step.batches, work.state.halted)

    def _process(self, entries: Sequence[Entry], step: _Step) -> Entry:
        """Check and seal entries until the partition is halted; return the last one taken."""
        last = entries[0]
        pairs = [(entry, RawBatch.of(entry)) for entry in entries]
        for pull, group in groupby(pairs, key=lambda pair: pair[1] and pair[1].origin.pull):
            chunks = []
            for last, batch in group:
                frame = None if batch is None else self._frame(batch)
                if batch is None or frame is None:
                    self._unreadable(last, step)
                else:
                    chunks.append(_Chunk(last, batch, frame))
            for _, run in groupby(chunks, key=lambda chunk: chunk.frame.schema):
                self._seal(str(pull), list(run), step)
            if step.work.state.halted is not None:
                break
        return last

    def _unreadable(self, entry: Entry, step: _Step) -> None:
        """Keep a message that is no records of ours, with its bytes: nobody else would."""
        refused = RefusedEntry.unreadable(entry, self.context.clock(), self.context.catalog.version)
        step.messages.append(refused.to_message(self.resource.name, entry.partition))
        step.quarantined += 1

    def _frame(self, batch: RawBatch) -> pl.DataFrame | None:
        frame = self.context.recent.take(batch.data)
        return raw_frame(batch) if frame is None else frame

    def _seal(self, pull: str, chunks: Sequence[_Chunk], step: _Step) -> None:
        """Check messages of one pull and schema at once; seal what passes, keep what does not."""
        now, work = self.context.clock(), step.work
        work.state = work.state.begin(pull)
        frame = pl.concat([chunk.frame for chunk in chunks], rechunk=True)
        claimed = self._claimed(work, pull, chunks[0])
        checked = self._check(frame, claimed)
        if pull.startswith(REPLAY):
            newer = [self._overtaken.of(chunk.entry, chunk.batch, chunk.frame) for chunk in chunks]
            checked = hold(checked, frame, np.concatenate(newer))
        work.pull, work.claimed = pull, checked.claimed
        self.ignored.update(checked.ignored_columns)
        self.coarsened.update(checked.coarsened)
        encoded = encode(blank_deletes(checked.accepted, self.resource), self._schema)
        if (large := too_large(encoded)).any():
            checked = refuse(checked, frame, large, *TOO_LARGE)
            encoded = encode(blank_deletes(checked.accepted, self.resource), self._schema)
        start = 0
        for chunk in chunks:
            end = start + chunk.frame.height
            refused, refused_end = span(checked.rejected_rows, start, end)
            if refused < refused_end:
                bad = checked.rejected[refused:refused_end]
                work.state = replace(work.state, rejected=work.state.rejected + bad.height)
                places = checked.rejected_rows[refused:refused_end] - start
                if VERSION not in bad.columns:
                    bad = bad.with_columns(refused_versions(chunk.entry.offset, places))
                step.messages += self._refused(bad, chunk, now)
            good, good_end = span(checked.accepted_rows, start, end)
            before = 0
            for packed in pack(encoded.slice(good, good_end)) if good < good_end else ():
                step.messages.append(self._batch(packed, chunk, before, step, now))
                step.batches += 1
                before += packed.records.rows
            start = end
        accepted, rejected = len(checked.accepted_rows), len(checked.rejected_rows)
        work.state = work.state.judge(self.resource.limits, accepted, rejected)
        step.accepted += accepted
        step.quarantined += rejected

    def _batch(
        self, packed: Packed, chunk: _Chunk, before: int, step: _Step, now: datetime
    ) -> Message:
        """Seal a batch under the next number; ``before``: records of the message sealed so far."""
        context, resource, origin = self.context, self.resource, chunk.batch.origin
        partition, state = chunk.entry.partition, step.work.state
        today = f"{now.astimezone(BEIJING):%Y%m%d}"
        if not state.has_number(today):
            state = take_numbers(context, resource.name, partition, state, today)
        rows = packed.records.rows
        sealed_at = now if not state.sealed_at else max(now, moment(state.sealed_at))
        state = replace(state.next_number(), accepted=state.accepted + rows)
        facts = BatchFacts(
            department=resource.department.code,
            resource=resource.name,
            resource_code=resource.code,
            catalog_version=context.catalog.version,
            catalog_digest=context.catalog.digest,
            batch_no=state.batch_no,
            lane=partition,
            previous=state.statement,
            pulled_at=origin.at,
            sealed_at=sealed_at,
            source=origin.source,
            pull=origin.pull,
            accepted=state.accepted,
            rejected=state.rejected,
        )
        batch = build(packed, facts, sealer=step.sealer, seed=context.entropy(16))
        step.work.state = replace(
            state, statement=batch.digest, sealed_at=batch.statement.sealed_at
        )
        sealed = SealedEntry(
            state.batch_no,
            rows,
            batch.digest,
            batch.statement.root,
            origin.pull,
            batch.data,
            (chunk.entry.offset, before),
        )
        return sealed.to_message(resource.name, partition)

    def _refused(self, bad: pl.DataFrame, chunk: _Chunk, now: datetime) -> Iterator[Message]:
        """Make the quarantine messages of refused records: original values and every reason."""
        origin, entry = replace(chunk.batch.origin, at=now), chunk.entry
        for start, rows, value in encode_slices(bad):
            part = bad[start : start + rows]
            yield RefusedEntry(
                origin,
                rows,
                histogram(part),
                self.context.catalog.version,
                fitting(part, value),
                f"{entry.partition}/{entry.offset}",
            ).to_message(self.resource.name, entry.partition)

    def _check(self, frame: pl.DataFrame, claimed: ClaimedKeys = _NONE_CLAIMED) -> CheckResult:
        """Judge a chunk; without the columns of the catalog it is refused as a whole.

        A pull brings no such chunk: the catalog has changed since.
        """
        today = self.context.clock().astimezone(BEIJING).date()

        def check(part: pl.DataFrame, before: ClaimedKeys) -> CheckResult:
            return self._validator.check(part, today=today, claimed=before)

        try:
            return check_isolated(check, self.resource, frame, claimed)
        except Misconfigured as error:
            return refuse_all(check(pl.DataFrame(), claimed), frame, error.what)

    def _claimed(self, work: _Work, pull: str, first: _Chunk) -> ClaimedKeys:
        """Return the keys that this pull has brought; read them again after a restart."""
        if work.pull == pull or first.batch.index == 0:
            return work.claimed if work.pull == pull else ClaimedKeys()
        topic, partition, end = first.entry.topic, first.entry.partition, first.entry.offset
        claimed, offset = (
            ClaimedKeys(),
            max(first.batch.since, self.context.log.bounds(topic, partition)[0]),
        )
        while offset < end:
            entries = self.context.log.read(topic, partition, offset, max_entries=CHUNK_ENTRIES)
            for entry in entries:
                batch = RawBatch.of(entry)
                if batch is None or entry.offset >= end or batch.origin.pull != pull:
                    continue
                if (frame := raw_frame(batch)) is not None:
                    claimed = self._check(frame, claimed).claimed
            offset = entries[-1].offset + 1 if entries else end
        return claimed


def seal_owner(resource: str, partition: int) -> str:
    """Name who writes a partition's sealed batches and state."""
    return f"seal/{resource}/{partition}"


def release(context: PipelineContext, resource: str) -> bool:
    """Let halted partitions go on with what they have; their present pull is not judged again."""
    released = False
    for partition in range(context.partitions(resource)):
        if context.partition_state(resource, partition).halted is None:
            continue
        with context.log.transaction(seal_owner(resource, partition)) as tx:
            state = context.partition_state(resource, partition)
            if state.halted is not None:
                tx.append(state.release().to_message(resource, partition))
                released = True
    return released


def too_large(encoded: Encoded) -> NDArray[np.bool_]:
    """Find the records that fit no batch; only long ones need to be tried."""
    large = np.zeros(encoded.rows, dtype=np.bool_)
    for place in np.flatnonzero(np.diff(encoded.offsets) > _LONG_RECORD).tolist():
        try:
            next(pack(encoded.slice(place, place + 1)))
        except Rejected:
            large[place] = True
    return large


def span(positions: NDArray[np.intp], start: int, end: int) -> tuple[int, int]:
    """Return which of the ascending ``positions`` lie in [start, end), as a range of places."""
    low, high = np.searchsorted(positions, (start, end))
    return int(low), int(high)
