"""The door raw → sealed, quarantine: check, seal what passes, keep what does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.catalog.avro import schema_text
from exchange.catalog.model import Resource
from exchange.errors import Rejected
from exchange.log import Entry, Fenced, Message, quarantine_topic, raw_topic, sealed_topic
from exchange.log.frames import decode_frame, encode_slices
from exchange.pipeline.context import (
    CHUNK_BYTES,
    CHUNK_ENTRIES,
    FENCED_IN_A_ROW,
    PipelineContext,
    state_message,
    unreadable,
)
from exchange.pipeline.numbers import take_numbers
from exchange.pipeline.partition import PartitionState, partition_key
from exchange.pipeline.pull import fitting, pull_of
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.build import BatchFacts, Packed, build, pack
from exchange.seal.batch.columns import Encoded, encode
from exchange.seal.batch.statement import instant
from exchange.seal.eseal.signature import Sealer
from exchange.text import BEIJING, Text
from exchange.validate.deletes import blank_deletes
from exchange.validate.oversized import refuse
from exchange.validate.reasons import COLUMN as REASONS
from exchange.validate.seen import Seen
from exchange.validate.validator import compile_resource

"""Batch numbers carry the local date."""
_LONG_RECORD = 256 * 1024
"""Bytes of a record from which on it may not fit a batch."""


@dataclass(frozen=True)
class Sealed:
    """What one step of the seal door did."""

    accepted: int = 0
    quarantined: int = 0
    batches: int = 0
    halted: Text | None = None


@dataclass
class _Work:
    """What the seal door knows of a partition between two steps; guarded by its claim."""

    state: PartitionState
    pull: str = ""
    seen: Seen = field(default_factory=Seen)
    """The keys that ``pull`` has brought so far."""


@dataclass
class SealStage:
    """Checks and seals the partitions of a resource; the statements of a partition form a chain.

    ``sealer`` is asked once a step: keys are changed, and seals suspended, while the door is
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
        self._consumer = context.log.consumer("seal", [self._topic])
        self.ignored: set[str] = set()
        self.coarsened: Counter[str] = Counter()
        self._works: dict[int, _Work] = {}
        self._fenced = 0
        self._held = False

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> Sealed | None:
        """Take the next raw messages of a partition through; None when there are none.

        A partition that is halted stays so until a person releases it: it is not read then.
        """
        if self._held:
            self.sealer()  # while it must not seal, nothing is read for nothing
            self._held = False
        halted = self._halted()
        entries = self._consumer.poll(
            max_entries=CHUNK_ENTRIES,
            max_bytes=CHUNK_BYTES,
            skip={(self._topic, partition) for partition in halted},
        )
        if not entries:
            return Sealed(halted=next(iter(halted.values()))) if halted else None
        try:
            done = self._take(entries)
        except Fenced:
            # Another worker has the partition now: what it has sealed is not ours to seal.
            self._drop(entries[0].partition)
            self._fenced += 1
            if self._fenced > FENCED_IN_A_ROW:
                raise
            return Sealed()
        except BaseException:
            self._drop(entries[0].partition)
            raise
        self._fenced = 0
        return done

    def _halted(self) -> dict[int, Text]:
        """Return our partitions that wait for a person, and why; somebody may have released one."""
        mine = {partition for _, partition in self._consumer.assigned()}
        for lost in self._works.keys() - mine:
            del self._works[lost]
        for number in mine:
            if number not in self._works or self._works[number].state.halted:
                state = self.context.state(partition_key(self.resource.name, number))
                self._works[number] = _Work(PartitionState(**state))
        return {
            number: Text(**work.state.halted)
            for number, work in self._works.items()
            if work.state.halted
        }

    def _drop(self, partition: int) -> None:
        """Forget what was read and known: it is read again."""
        self._consumer.rewind()
        self._works.pop(partition, None)

    def _work(self, partition: int) -> _Work:
        """Return what we know of a partition; read it when somebody else may have written it."""
        name = self.resource.name
        if self.context.log.claim(seal_owner(name, partition)) or partition not in self._works:
            state = self.context.state(partition_key(name, partition))
            self._works[partition] = _Work(PartitionState(**state))
        return self._works[partition]

    def _take(self, entries: Sequence[Entry]) -> Sealed:
        context, number, taken = self.context, entries[0].partition, 0
        context.failpoint("seal:before")
        work = self._work(number)
        if work.state.halted:
            self._consumer.rewind()
            return Sealed()
        self._held = True
        self._sealer = self.sealer()
        self._held = False
        with context.log.transaction(seal_owner(self.resource.name, number)) as tx:
            messages: list[Message] = []
            done = Sealed()
            for pull, group in groupby(entries, key=pull_of):
                some = list(group)
                if pull is None:
                    done = self._foreign(some, messages, done)
                else:
                    done = self._chunk(pull, some, work, messages, done)
                taken += len(some)
                if done.halted is not None:
                    break
            last = entries[taken - 1]
            for message in messages:
                tx.append(message)
            tx.append(state_message(partition_key(self.resource.name, number), asdict(work.state)))
            tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        if taken < len(entries):
            self._consumer.rewind()
        context.failpoint("seal:after")
        return done

    def _foreign(self, entries: list[Entry], messages: list[Message], done: Sealed) -> Sealed:
        """Keep messages that are none of ours, with their bytes: nobody else would."""
        messages += [unreadable(self.resource.name, entry, self.context) for entry in entries]
        return replace(done, quarantined=done.quarantined + len(entries))

    def _chunk(
        self, pull: str, entries: list[Entry], work: _Work, messages: list[Message], done: Sealed
    ) -> Sealed:
        """Check the messages of one pull at once; seal what passes, keep what does not."""
        frames = [self._frame(entry.value) for entry in entries]
        for _, run in groupby(zip(entries, frames, strict=True), key=lambda one: one[1].schema):
            pairs = list(run)
            done = self._run(pull, pairs, work, messages, done)
        return done

    def _frame(self, value: bytes) -> pl.DataFrame:
        frame = self.context.recent.take(value)
        return decode_frame(value) if frame is None else frame

    def _run(
        self,
        pull: str,
        pairs: list[tuple[Entry, pl.DataFrame]],
        work: _Work,
        messages: list[Message],
        done: Sealed,
    ) -> Sealed:
        now, state = self.context.clock(), work.state
        state.begin(pull)
        frame = pl.concat([frame for _, frame in pairs], rechunk=True)
        known = self._known(work, pull, pairs[0][0])
        checked = self._validator.check(frame, today=self._today(), seen=known)
        work.pull, work.seen = pull, checked.seen
        self.ignored.update(checked.ignored_columns)
        self.coarsened.update(checked.coarsened)
        encoded = encode(blank_deletes(checked.accepted, self.resource), self._schema)
        if (large := too_large(encoded)).any():
            checked = refuse(checked, frame, large)
            encoded = encode(blank_deletes(checked.accepted, self.resource), self._schema)
        start = 0
        batches = 0
        for entry, part in pairs:
            end = start + part.height
            refused = span(checked.rejected_rows, start, end)
            if refused[1] > refused[0]:
                bad = checked.rejected[refused[0] : refused[1]]
                state.rejected += bad.height
                messages += self._refused(bad, entry, now)
            good = span(checked.accepted_rows, start, end)
            for packed in pack(encoded.slice(*good)) if good[1] > good[0] else ():
                state.accepted += packed.records.rows
                messages.append(self._batch(packed, entry, state, now))
                batches += 1
            start = end
        halted = state.judge(
            self.resource.limits, len(checked.accepted_rows), len(checked.rejected_rows)
        )
        return Sealed(
            done.accepted + len(checked.accepted_rows),
            done.quarantined + len(checked.rejected_rows),
            done.batches + batches,
            halted or done.halted,
        )

    def _batch(self, packed: Packed, entry: Entry, state: PartitionState, now: datetime) -> Message:
        context, resource = self.context, self.resource
        today = f"{now.astimezone(BEIJING):%Y%m%d}"
        if not state.has_number(today):
            take_numbers(context, resource.name, entry.partition, state, today)
        facts = BatchFacts(
            department=resource.department.code,
            resource=resource.name,
            resource_code=resource.code,
            catalog_version=context.catalog.version,
            catalog_digest=context.catalog.digest,
            batch_no=state.next_number(),
            lane=entry.partition,
            previous=state.statement,
            pulled_at=datetime.fromisoformat(entry.headers["at"]),
            sealed_at=now,
            source=entry.headers["source"],
            pull=entry.headers["pull"],
            accepted=state.accepted,
            rejected=state.rejected,
        )
        batch = build(packed, facts, sealer=self._sealer, seed=context.entropy(16))
        state.statement = batch.digest
        return Message(
            sealed_topic(resource.name),
            batch.data,
            key=facts.batch_no,
            headers={
                "rows": str(packed.records.rows),
                "statement": batch.digest,
                "root": batch.statement.root,
                "pull": facts.pull,
            },
            partition=entry.partition,
        )

    def _refused(self, bad: pl.DataFrame, entry: Entry, now: datetime) -> Iterator[Message]:
        """Make the quarantine messages of refused records: original values and every reason."""
        for start, rows, value in encode_slices(bad):
            part = bad[start : start + rows]
            data = fitting(part, value)
            yield Message(
                quarantine_topic(self.resource.name),
                data,
                headers={
                    "kind": "records",
                    "source": entry.headers["source"],
                    "pull": entry.headers["pull"],
                    "locator": entry.headers["locator"],
                    "at": instant(now),
                    "rows": str(rows),
                    "reasons": json.dumps(histogram(part)),
                    "catalog": self.context.catalog.version,
                    "raw": f"{entry.partition}/{entry.offset}",
                },
                partition=entry.partition,
            )

    def _today(self) -> date:
        return self.context.clock().astimezone(BEIJING).date()

    def _known(self, work: _Work, pull: str, first: Entry) -> Seen:
        """Return the keys that this pull has brought; read them again after a restart."""
        if work.pull == pull or int(first.headers["index"]) == 0:
            return work.seen if work.pull == pull else Seen()
        seen, offset = Seen(), int(first.headers["since"])
        offset = max(offset, self.context.log.bounds(first.topic, first.partition)[0])
        while offset < first.offset:
            entries = self.context.log.read(
                first.topic, first.partition, offset, max_entries=CHUNK_ENTRIES
            )
            for entry in entries:
                if entry.offset < first.offset and pull_of(entry) == pull:
                    seen = self._validator.check(
                        decode_frame(entry.value), today=self._today(), seen=seen
                    ).seen
            offset = entries[-1].offset + 1 if entries else first.offset
        return seen


def seal_owner(resource: str, partition: int) -> str:
    """Name who writes a partition's sealed batches and state."""
    return f"seal/{resource}/{partition}"


def release(context: PipelineContext, resource: str) -> bool:
    """Let halted partitions go on with what they have; their present pull is not judged again."""
    released = False
    for partition in range(context.partitions(resource)):
        if not context.state(partition_key(resource, partition)).get("halted"):
            continue
        with context.log.transaction(seal_owner(resource, partition)) as tx:
            state = context.state(partition_key(resource, partition))
            if state.get("halted"):
                changed = state | {"halted": None, "waived": state["pull"], "recent": []}
                tx.append(state_message(partition_key(resource, partition), changed))
                released = True
    return released


def histogram(refused: pl.DataFrame) -> dict[str, int]:
    """Count the reasons of refused records by ``rule:field``, most frequent first."""
    reasons = refused[REASONS].explode().struct.unnest()
    names = (reasons["rule"] + ":" + reasons["field"]).to_list()
    return dict(Counter(names).most_common())


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
