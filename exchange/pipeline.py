"""The corridor: the one module that opens doors between rooms. Read this first.

Three doors, each a transaction of the log, each safe to be killed before and after. Each serves
the lanes (分区) of a resource that the log assigns to this worker; order holds within a lane::

    PullDoor     connect ──► raw                 messages + cursor
    SealDoor     raw ──► sealed, quarantine      batches + refused records + lane + position
    CascadeDoor  sealed ──► province ──► receipt the store first, then receipt + position

``House`` holds what the doors work with. Time, chance and the kill points (``at``) come in as
arguments.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exchange.cascade.delivery import (
    Answered,
    Delivery,
    Due,
    Event,
    LeaseExpired,
    Outcome,
    Policy,
    ReceiptRight,
    ReceiptWrong,
    Restarted,
    Retry,
    Send,
    State,
    decide,
    is_due,
)
from exchange.cascade.profiles import Batch
from exchange.catalog.avro import schema_text
from exchange.catalog.model import Catalog, Resource
from exchange.connect import Pulled, Source
from exchange.errors import ExchangeError, Misconfigured, Rejected, Transient
from exchange.lane import Lane, Numbers, lane_key, numbers_key
from exchange.log import (
    CURSORS,
    MAX_VALUE_BYTES,
    RECEIPTS,
    Entry,
    Fenced,
    Log,
    Message,
    Topic,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)
from exchange.log.frames import Recent, decode_frame, encode_frame, encode_slices, is_too_large
from exchange.receipt.receipt import Sent
from exchange.receipt.receipt import check as check_receipt
from exchange.seal.avro import parse_schema
from exchange.seal.batch import BatchFacts, Packed, build, open_statement, pack
from exchange.seal.columns import Encoded, encode
from exchange.seal.ses import Sealer
from exchange.seal.statement import instant
from exchange.store.database import Store
from exchange.store.rows import DeliveryRow
from exchange.store.sql import Stale
from exchange.text import Text
from exchange.validate.deletes import blank_deletes
from exchange.validate.oversized import cut, refuse
from exchange.validate.quarantine import UNREADABLE
from exchange.validate.reasons import COLUMN as REASONS
from exchange.validate.seen import Seen
from exchange.validate.validator import compile_resource
from exchange.validate.work import source_columns
from exchange.view import NOBODY, delivery_of, is_batch, moved, pending, receipt_row, show

LOCAL = ZoneInfo("Asia/Shanghai")
"""Batch numbers carry the local date."""
CHUNK_ENTRIES = 8
"""Raw messages checked at once: columns want 20,000 rows and more (D1)."""
CHUNK_BYTES = 16 * 1024 * 1024
_LONG_RECORD = 256 * 1024
"""Bytes of a record from which on it may not fit a batch."""
_NOTES = 500
"""Notes in one message."""
_FENCED = 100
"""How often in a row a worker may find that another was faster."""
_STEP_SECONDS, _LONGEST_STEP_SECONDS = 0.05, 1.0
"""How long it then steps back: about as long as taking numbers takes, and longer each time."""


@dataclass(frozen=True)
class House:
    """What the doors work with."""

    catalog: Catalog
    log: Log
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    at: Callable[[str], None] = lambda _door: None
    """Called before and after each door with its name; a kill test strikes there."""
    recent: Recent = field(default_factory=Recent)
    partitions: Callable[[str], int] = lambda _resource: 1
    """How many lanes a resource is meant to have; its topics may have more, never fewer."""
    sleep: Callable[[float], None] = time.sleep

    def resource(self, name: str) -> Resource:
        """Return a resource of the catalog; raises Rejected naming the ones there are."""
        return resource_of(self.catalog, name)

    def ensure(self, resource: str) -> None:
        """Create the topics of a resource, or give them more lanes."""
        if self.partitions(resource) > 1 and self.resource(resource).unique:
            raise Misconfigured(
                Text(
                    f"资源 {resource} 除主键外另有唯一性规则，只能有一个分区",
                    f"{resource} has rules of uniqueness beside its key: it can have one lane only",
                ),
                hint=Text(
                    "各分区只按主键分流，看不到彼此的记录；请在 log.partitions 中改为 1",
                    "lanes share records out by the key and do not see each other's;"
                    " set it to 1 in log.partitions",
                ),
            )
        names = (raw_topic(resource), sealed_topic(resource), quarantine_topic(resource))
        self.log.ensure([Topic(name, self.partitions(resource)) for name in names])

    def lanes(self, resource: str) -> int:
        """Count the lanes that a resource has in the log; its topics exist.

        Raises Transient while a broker has not heard yet of topics that another has just made.
        """
        raw = raw_topic(resource)
        found = [topic.partitions for topic in self.log.topics() if topic.name == raw]
        if not found:
            raise Transient(
                Text(f"集群还不知道主题 {raw}", f"the log does not know topic {raw} yet"),
                hint=Text("稍后自动重试", "it is tried again"),
            )
        return max(found)

    def state(self, key: str) -> dict[str, Any]:
        """Read the newest state with this key; empty when there is none."""
        entry = self.log.latest(CURSORS, key)
        return json.loads(entry.value) if entry is not None else {}


def resource_of(catalog: Catalog, name: str) -> Resource:
    """Return a resource of a catalog; raises Rejected naming the ones there are."""
    if name in catalog.resources:
        return catalog.resources[name]
    known = ", ".join(sorted(catalog.resources))
    raise Rejected(
        Text(f"目录中没有资源 {name}", f"the catalog has no resource {name}"),
        hint=Text(f"目录中的资源：{known}", f"resources: {known}"),
    )


def state_message(key: str, state: Mapping[str, Any]) -> Message:
    """Make the message that replaces the state with this key."""
    return Message(CURSORS, json.dumps(state, ensure_ascii=False).encode(), key)


# --- connect → raw ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PullDoor:
    """Pulls one source into the raw topic of its resource.

    The pull (拉取) keeps its identity until it is done: a killed one goes on at its cursor, or,
    for a connector without cursors, after the rows that are already there.
    """

    house: House
    name: str
    resource: str
    source: Source

    def run(self) -> Generator[int, None, None]:
        """Pull what is new; yield the number of rows each time some are durable."""
        house, key = self.house, f"pull/{self.name}"
        house.ensure(self.resource)
        house.log.claim(key)  # before reading the state: from now on others are fenced
        resumable = self.source.connector.resumable
        state = house.state(key)
        # Without a cursor to go on from, everything comes again: that is another pull.
        again = resumable and not state.get("cursor")
        if not state or state["done"] or again:
            state = self._begin(state)
        state = self._widen(state)
        skip = 0 if resumable else state["rows"]
        stream = self.source.pull(state["cursor"] if resumable else None)
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
            waiting += self._messages(replace(pulled, frame=frame), state)
            state["rows"] += frame.height
            # Rows without a cursor behind them wait for one. All wait for the next frame: what
            # comes with the last one is committed together with the pull's end, so that a
            # cursor which starts from the beginning never stands in an open pull.
            ready = pulled.cursor is not None or not resumable
            state["cursor"] = pulled.cursor if ready else state["cursor"]
        state["done"] = True
        yield self._commit(key, waiting, state)

    def _begin(self, before: Mapping[str, Any]) -> dict[str, Any]:
        now = self.house.clock()
        return {
            "pull": f"{now:%Y%m%dT%H%M%S}-{self.house.entropy(4).hex()}",
            "began": instant(now),
            "cursor": before.get("cursor"),
            "rows": 0,
            "messages": [],
            "since": [],
            "done": False,
        }

    def _widen(self, state: dict[str, Any]) -> dict[str, Any]:
        """Give the state a place for each lane: messages of this pull, and where it began."""
        raw, lanes = raw_topic(self.resource), self.house.lanes(self.resource)
        new = range(len(state["since"]), lanes)
        ends = [self.house.log.bounds(raw, lane)[1] for lane in new]
        return state | {
            "since": state["since"] + ends,
            "messages": state["messages"] + [0] * len(new),
        }

    def _commit(self, key: str, messages: Sequence[Message], state: dict[str, Any]) -> int:
        house = self.house
        house.at("pull:before")
        with house.log.transaction(key) as tx:
            for message in messages:
                tx.append(message)
            tx.append(state_message(key, state))
        house.at("pull:after")
        topic = raw_topic(self.resource)
        return sum(int(m.headers["rows"]) for m in messages if m.topic == topic)

    def _messages(self, pulled: Pulled, state: dict[str, Any]) -> Iterator[Message]:
        headers = {
            "source": self.name,
            "pull": state["pull"],
            "locator": pulled.locator,
            "at": instant(self.house.clock()),
        }
        resource = self.house.resource(self.resource)
        yield from raw_messages(self.house, resource, pulled.frame, headers, state)
        for start in range(0, len(pulled.notes), _NOTES):
            notes = pulled.notes[start : start + _NOTES]
            yield Message(
                quarantine_topic(self.resource),
                json.dumps([asdict(note) for note in notes], ensure_ascii=False).encode(),
                headers={**headers, "kind": "notes"},
            )


def raw_messages(
    house: House,
    resource: Resource,
    frame: pl.DataFrame,
    headers: Mapping[str, str],
    state: Mapping[str, list[int]],
) -> Iterator[Message]:
    """Cut what a pull brought into raw messages, each for its lane.

    ``state`` counts by lane: ``messages`` of the pull so far, which goes up here, and the offset
    ``since`` which they stand.
    """
    for lane, some in spread(frame, resource, len(state["since"])):
        for start, rows, value in encode_slices(some):
            part = some[start : start + rows]
            data = fitting(part, value)
            if data is value:
                house.recent.keep(data, part)
            yield Message(
                raw_topic(resource.name),
                data,
                headers={
                    **headers,
                    "rows": str(rows),
                    "since": str(state["since"][lane]),
                    "index": str(state["messages"][lane]),
                },
                partition=lane,
            )
            state["messages"][lane] += 1


def spread(
    frame: pl.DataFrame, resource: Resource, lanes: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Share the rows of a source out over the lanes of a resource, in their order.

    The same key always comes to the same lane: so its changes keep their order, and a key that
    comes twice in a pull is seen. Rows whose key cannot be told go to the first lane. The share
    is the CRC-32 of the key's text, which no version of any library changes.
    """
    found = source_columns(resource, frame.columns)
    if lanes == 1 or not found.keys() >= set(resource.key):
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
    share = pl.Series([crc32(text.encode()) % lanes for text in texts.to_list()], dtype=pl.Int32)
    for lane in share.unique().sort().to_list():
        yield lane, frame.filter(share == lane)


# --- raw → validate → seal → sealed, quarantine -------------------------------------------------


@dataclass(frozen=True)
class Sealed:
    """What one step of the seal door did."""

    accepted: int = 0
    quarantined: int = 0
    batches: int = 0
    halted: Text | None = None


@dataclass
class _Work:
    """What the seal door knows of a lane between two steps; guarded by its claim."""

    lane: Lane
    pull: str = ""
    seen: Seen = field(default_factory=Seen)
    """The keys that ``pull`` has brought so far."""


@dataclass
class SealDoor:
    """Checks and seals the lanes of a resource; the statements of a lane form a chain.

    ``sealer`` is asked once a step: keys are changed, and seals suspended, while the door is
    open. ``ignored``: columns of the source that the catalog does not name; ``coarsened``: how many
    instants of a field were finer than a millisecond, which is what is kept.
    """

    house: House
    resource: Resource
    sealer: Callable[[], Sealer]

    def __post_init__(self) -> None:
        """Compile the checks and join the consumer group; nothing is read yet."""
        house, name = self.house, self.resource.name
        house.ensure(name)
        self._topic = raw_topic(name)
        self._validator = compile_resource(self.resource, house.catalog.tables)
        self._schema = parse_schema(schema_text(self.resource))
        self._consumer = house.log.consumer("seal", [self._topic])
        self.ignored: set[str] = set()
        self.coarsened: Counter[str] = Counter()
        self._works: dict[int, _Work] = {}
        self._fenced = 0
        self._held = False

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> Sealed | None:
        """Take the next raw messages of a lane through; None when there are none.

        A lane that is halted stays so until a person releases it: it is not read then.
        """
        if self._held:
            self.sealer()  # while it must not seal, nothing is read for nothing
            self._held = False
        halted = self._halted()
        entries = self._consumer.poll(
            max_entries=CHUNK_ENTRIES,
            max_bytes=CHUNK_BYTES,
            skip={(self._topic, lane) for lane in halted},
        )
        if not entries:
            return Sealed(halted=next(iter(halted.values()))) if halted else None
        try:
            done = self._take(entries)
        except Fenced:
            # Another worker has the lane now: what it has sealed is not ours to seal.
            self._drop(entries[0].partition)
            self._fenced += 1
            if self._fenced > _FENCED:
                raise
            return Sealed()
        except BaseException:
            self._drop(entries[0].partition)
            raise
        self._fenced = 0
        return done

    def _halted(self) -> dict[int, Text]:
        """Tell which lanes of ours wait for a person, and why; a person may have released one."""
        mine = {lane for _, lane in self._consumer.assigned()}
        for lost in self._works.keys() - mine:
            del self._works[lost]
        for number in mine:
            if number not in self._works or self._works[number].lane.halted:
                state = self.house.state(lane_key(self.resource.name, number))
                self._works[number] = _Work(Lane(**state))
        return {
            number: Text(**work.lane.halted)
            for number, work in self._works.items()
            if work.lane.halted
        }

    def _drop(self, lane: int) -> None:
        """Forget what was read and known: it is read again."""
        self._consumer.rewind()
        self._works.pop(lane, None)

    def _work(self, lane: int) -> _Work:
        """Return what we know of a lane; read it when somebody else may have written it."""
        name = self.resource.name
        if self.house.log.claim(seal_owner(name, lane)) or lane not in self._works:
            state = self.house.state(lane_key(name, lane))
            self._works[lane] = _Work(Lane(**state))
        return self._works[lane]

    def _take(self, entries: Sequence[Entry]) -> Sealed:
        house, number, taken = self.house, entries[0].partition, 0
        house.at("seal:before")
        work = self._work(number)
        if work.lane.halted:
            self._consumer.rewind()
            return Sealed()
        self._held = True
        self._sealer = self.sealer()
        self._held = False
        with house.log.transaction(seal_owner(self.resource.name, number)) as tx:
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
            tx.append(state_message(lane_key(self.resource.name, number), asdict(work.lane)))
            tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        if taken < len(entries):
            self._consumer.rewind()
        house.at("seal:after")
        return done

    def _foreign(self, entries: list[Entry], messages: list[Message], done: Sealed) -> Sealed:
        """Keep messages that are none of ours, with their bytes: nobody else would."""
        messages += [unreadable(self.resource.name, entry, self.house) for entry in entries]
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
        frame = self.house.recent.take(value)
        return decode_frame(value) if frame is None else frame

    def _run(
        self,
        pull: str,
        pairs: list[tuple[Entry, pl.DataFrame]],
        work: _Work,
        messages: list[Message],
        done: Sealed,
    ) -> Sealed:
        now, lane = self.house.clock(), work.lane
        lane.begin(pull)
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
                lane.rejected += bad.height
                messages += self._refused(bad, entry, now)
            good = span(checked.accepted_rows, start, end)
            for packed in pack(encoded.slice(*good)) if good[1] > good[0] else ():
                lane.accepted += packed.records.rows
                messages.append(self._batch(packed, entry, lane, now))
                batches += 1
            start = end
        halted = lane.judge(
            self.resource.limits, len(checked.accepted_rows), len(checked.rejected_rows)
        )
        return Sealed(
            done.accepted + len(checked.accepted_rows),
            done.quarantined + len(checked.rejected_rows),
            done.batches + batches,
            halted or done.halted,
        )

    def _batch(self, packed: Packed, entry: Entry, lane: Lane, now: datetime) -> Message:
        house, resource = self.house, self.resource
        today = f"{now.astimezone(LOCAL):%Y%m%d}"
        if not lane.has_number(today):
            take_numbers(house, resource.name, entry.partition, lane, today)
        facts = BatchFacts(
            department=resource.department.code,
            resource=resource.name,
            resource_code=resource.code,
            catalog_version=house.catalog.version,
            catalog_digest=house.catalog.digest,
            batch_no=lane.next_number(),
            lane=entry.partition,
            previous=lane.statement,
            pulled_at=datetime.fromisoformat(entry.headers["at"]),
            sealed_at=now,
            source=entry.headers["source"],
            pull=entry.headers["pull"],
            accepted=lane.accepted,
            rejected=lane.rejected,
        )
        batch = build(packed, facts, sealer=self._sealer, seed=house.entropy(16))
        lane.statement = batch.digest
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
                    "catalog": self.house.catalog.version,
                    "raw": f"{entry.partition}/{entry.offset}",
                },
                partition=entry.partition,
            )

    def _today(self) -> date:
        return self.house.clock().astimezone(LOCAL).date()

    def _known(self, work: _Work, pull: str, first: Entry) -> Seen:
        """Return the keys that this pull has brought; read them again after a restart."""
        if work.pull == pull or int(first.headers["index"]) == 0:
            return work.seen if work.pull == pull else Seen()
        seen, offset = Seen(), int(first.headers["since"])
        offset = max(offset, self.house.log.bounds(first.topic, first.partition)[0])
        while offset < first.offset:
            entries = self.house.log.read(
                first.topic, first.partition, offset, max_entries=CHUNK_ENTRIES
            )
            for entry in entries:
                if entry.offset < first.offset and pull_of(entry) == pull:
                    seen = self._validator.check(
                        decode_frame(entry.value), today=self._today(), seen=seen
                    ).seen
            offset = entries[-1].offset + 1 if entries else first.offset
        return seen


_RAW_HEADERS = frozenset({"source", "pull", "since", "locator", "at", "rows", "index"})


def pull_of(entry: Entry) -> str | None:
    """Return the pull of a raw message; None for a message that no node of ours wrote."""
    return entry.headers["pull"] if entry.headers.keys() >= _RAW_HEADERS else None


def unreadable(resource: str, entry: Entry, house: House) -> Message:
    """Make the quarantine message of a foreign message: its very bytes, and where it stood."""
    return Message(
        quarantine_topic(resource),
        entry.value,
        headers={
            "kind": "unreadable",
            "source": NOBODY,
            "pull": NOBODY,
            "locator": f"{entry.topic}/{entry.partition}/{entry.offset}",
            "at": instant(house.clock()),
            "rows": "1",
            "reasons": json.dumps({UNREADABLE: 1}),
            "catalog": house.catalog.version,
            "raw": f"{entry.partition}/{entry.offset}",
        },
        partition=entry.partition,
    )


def seal_owner(resource: str, lane: int) -> str:
    """Name who writes a lane's sealed batches and state."""
    return f"seal/{resource}/{lane}"


def take_numbers(house: House, resource: str, number: int, lane: Lane, today: str) -> None:
    """Take a block of batch numbers for a lane; lanes of other workers take theirs meanwhile.

    On a cluster each attempt stops those that are under way elsewhere, so whoever was stopped
    waits, by chance and longer each time: else they may keep each other from it for ever.
    """
    for attempt in range(_FENCED):
        if attempt:
            longest = min(_STEP_SECONDS * 2**attempt, _LONGEST_STEP_SECONDS)
            house.sleep(longest * house.entropy(1)[0] / 255)
        with suppress(Fenced), house.log.transaction(numbers_key(resource)) as tx:
            state = house.state(numbers_key(resource))
            if not state:  # before there were blocks, all batches were of the first lane
                first = house.state(lane_key(resource, 0))
                state = {"day": first.get("day", ""), "last": first.get("number", 0)}
            numbers = Numbers(**state)
            numbers.block(number, lane, today)
            tx.append(state_message(numbers_key(resource), asdict(numbers)))
            return
    raise Fenced(
        Text(f"取不到 {resource} 的批次号", f"no batch numbers of {resource} to be had"),
        hint=Text("其他工作者正在取号，稍后自动重试", "others take theirs; it goes on by itself"),
    )


def release(house: House, resource: str) -> bool:
    """Let halted lanes go on with what they have; their present pull is not judged again."""
    released = False
    for lane in range(house.lanes(resource)):
        if not house.state(lane_key(resource, lane)).get("halted"):
            continue
        with house.log.transaction(seal_owner(resource, lane)) as tx:
            state = house.state(lane_key(resource, lane))
            if state.get("halted"):
                changed = state | {"halted": None, "waived": state["pull"], "recent": []}
                tx.append(state_message(lane_key(resource, lane), changed))
                released = True
    return released


# --- sealed → cascade → receipt -----------------------------------------------------------------


_OPEN = (State.PENDING, State.SENDING, State.CHECKING, State.WAITING)
"""States of a delivery that still has to be sent."""
_LOOK_EVERY = timedelta(seconds=5)
"""How often a cascade door looks for batches that a person put back."""


@dataclass
class _Way:
    """A batch under way; ``put_back`` by a person: it lies behind the lane's position."""

    entry: Entry
    put_back: bool
    tries: int = 0


@dataclass
class CascadeDoor:
    """Delivers a resource's batches: of each lane one at a time, in order.

    The next one of a lane follows after a receipt or refusal; lanes do not wait for each other.
    A refused batch that a person puts back (:func:`retry`) lies behind the position: it is read
    again by its address, before the door goes on with the log.
    """

    house: House
    resource: Resource
    store: Store
    send: Callable[[Batch], Outcome]
    anchors: Sequence[bytes]
    owner: str
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.house.ensure(self.resource.name)
        self._topic = sealed_topic(self.resource.name)
        self._consumer = self.house.log.consumer("cascade", [self._topic])
        self._ways: dict[int, _Way] = {}
        self._looked: dict[int, datetime] = {}
        self._ours: set[int] = set()
        """Lanes whose deliveries under way were begun by us, in this process."""
        self._last = -1
        self._fenced = 0
        self.tries = 0
        """How often this door has sent the batch that it returned last."""

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> Delivery | None:
        """Bring the open batch of a lane one attempt further; None when there is none.

        The delivery that comes back is settled, waits, or is halted. Lanes take turns; one that
        waits is returned when no other can move.
        """
        self._look()
        waiting: Delivery | None = None
        tries = 0
        for lane in sorted(self._ways, key=lambda lane: (lane <= self._last, lane)):
            if lane not in self._ways:  # dropped meanwhile, with another
                continue
            self._last = lane
            try:
                delivery = self._turn(lane)
            except Fenced:  # another worker has the lane, or we have it anew
                self._fenced += 1
                if self._fenced > _FENCED:
                    raise
                continue
            self._fenced = 0
            if delivery.settled or delivery.state is State.HALTED:
                return delivery
            if waiting is None:
                waiting, tries = delivery, self.tries
        self.tries = tries
        return waiting

    def _turn(self, lane: int) -> Delivery:
        way = self._ways[lane]
        try:
            delivery = self._advance(lane, way)
            if delivery.settled:
                self._settle(delivery, lane, way)
                del self._ways[lane]
        except BaseException as error:
            if not isinstance(error, Stale):  # it was ours, and its lease need not be waited for
                self._ours.discard(lane)
            self._drop(lane)
            raise
        self.tries = way.tries
        return delivery

    def _advance(self, lane: int, way: _Way) -> Delivery:
        name = self.resource.name
        if self.house.log.claim(cascade_owner(name, lane)):
            self._ours.discard(lane)
        row = self.store.deliveries.get(name, way.entry.key)
        if row is None:
            self.store.deliveries.add([pending(name, way.entry)])
            row = self.store.deliveries.get(name, way.entry.key)
            assert row is not None  # noqa: S101 - added one line above
        return self._attempt(row, lane, way)

    def _look(self) -> None:
        """Take up the next batch of every lane of ours that has none under way."""
        mine = {lane for _, lane in self._consumer.assigned()}
        for lane in self._ways.keys() - mine:  # another worker has the lane now
            self._drop(lane)
        now = self.house.clock()
        for lane in mine - self._ways.keys():
            # Now and then for a batch that was put back, …
            looked = self._looked.get(lane)
            if looked is None or abs(now - looked) >= _LOOK_EVERY:
                self._looked[lane] = now
                if (entry := self._behind(lane)) is not None:
                    self._ways[lane] = _Way(entry, put_back=True)
        while len(self._ways) < len(mine):  # … else for the next one.
            busy = {(self._topic, lane) for lane in self._ways}
            entries = self._consumer.poll(max_entries=1, max_bytes=1, skip=busy)
            if not entries:
                return
            if is_batch(entries[0]):
                self._ways[entries[0].partition] = _Way(entries[0], put_back=False)
            else:
                self._foreign(entries[0])

    def _foreign(self, entry: Entry) -> None:
        """Keep a message that is none of ours in quarantine, and go on behind it."""
        with self.house.log.transaction(cascade_owner(self.resource.name, entry.partition)) as tx:
            tx.append(unreadable(self.resource.name, entry, self.house))
            tx.commit(self._consumer, entry.topic, entry.partition, entry.offset + 1)

    def _drop(self, lane: int) -> None:
        """Forget a lane's batch under way: it is read again by whoever has the lane."""
        self._ways.pop(lane, None)
        self._looked.pop(lane, None)
        for other in [other for other, way in self._ways.items() if not way.put_back]:
            del self._ways[other]
        self._consumer.rewind()

    def _behind(self, lane: int) -> Entry | None:
        """Find the oldest batch that was put back, and note in the log that it is under way.

        The note stands in for the position, which has moved past: with it the receipt reaches
        the log even when we are killed as soon as the store has it.
        """
        log, name = self.house.log, self.resource.name
        key = again_key(name, lane)
        offset = self.house.state(key).get("offset")
        if offset is None:
            # The position first: another worker may settle the batch while we look, and what is
            # open after the position had moved past it was put back.
            position = log.position("cascade", self._topic, lane)
            row = self.store.deliveries.first(name, lane, _OPEN)
            if row is None or row.offset >= position:
                return None
            offset = row.offset
            with log.transaction(cascade_owner(name, lane)) as tx:
                tx.append(state_message(key, {"offset": offset}))
        return log.read(self._topic, lane, offset, max_entries=1)[0]

    def _attempt(self, row: DeliveryRow, lane: int, way: _Way) -> Delivery:
        """Feed the machine until it waits for time or for a person."""
        house, delivery, entry = self.house, delivery_of(row), way.entry
        batch = Batch(row.resource, row.batch_no, self.resource.department.code, entry.value)
        receipt = b""
        event = self._wake(delivery, lane)
        while event is not None:
            jitter = house.entropy(1)[0] / 256
            delivery, actions = decide(delivery, event, house.clock(), self.policy, jitter=jitter)
            if isinstance(event, Answered):
                # Checked at once and here: the row need not say so in between. After a kill it
                # is sent again, and the province answers with the same receipt.
                receipt = event.receipt
                event = self._checked(receipt, entry)
                continue
            if delivery.state is State.HALTED:
                self._keep_wrong(delivery, lane, receipt)
            done = delivery.state is State.RECEIPTED
            house.at("receipt:before" if done else "delivery:before")
            row = self.store.deliveries.save(
                moved(row, delivery), receipt=receipt_row(receipt) if done else None
            )
            house.at("receipt:after" if done else "delivery:after")
            event = None
            if Send() in actions:
                house.at("send:before")
                way.tries += 1
                event = self.send(batch)
                house.at("send:after")
        return delivery

    def _wake(self, delivery: Delivery, lane: int) -> Event | None:
        """Choose what to begin with; None when it is not ours to begin now.

        What is under way in a lane that we have claimed anew was begun by a worker that is gone
        or fenced: it need not be waited for. The province answers a repeat with the same receipt.
        """
        now, fresh = self.house.clock(), lane not in self._ours
        self._ours.add(lane)
        match delivery.state:
            case State.PENDING | State.WAITING if is_due(delivery, now, self.policy):
                return Due(self.owner)
            case State.SENDING | State.CHECKING if fresh:
                return Restarted(delivery.owner)
            case State.SENDING | State.CHECKING if is_due(delivery, now, self.policy):
                return LeaseExpired()
        return None

    def _checked(self, receipt: bytes, entry: Entry) -> ReceiptRight | ReceiptWrong:
        sent = Sent.of(open_statement(entry.value))
        verification = check_receipt(receipt, anchors=self.anchors, sent=sent)
        if verification.ok:
            return ReceiptRight(str(verification.facts["receipt_no"]))
        return ReceiptWrong(tuple(check.name for check in verification.failed))

    def _keep_wrong(self, delivery: Delivery, lane: int, receipt: bytes) -> None:
        """Keep a receipt that does not verify: it is evidence for the person who decides.

        Kept before the store knows, so that a halt always has its evidence; cut to a message.
        """
        with self.house.log.transaction(cascade_owner(delivery.resource, lane)) as tx:
            key = f"{delivery.resource}/{delivery.batch_no}"
            value = receipt[:MAX_VALUE_BYTES]
            tx.append(Message(RECEIPTS, value, key, headers={"kind": "wrong"}))

    def _settle(self, delivery: Delivery, lane: int, way: _Way) -> None:
        """Write the receipt to the log and move on, in one transaction."""
        house, name, entry = self.house, self.resource.name, way.entry
        receipt = self.store.receipts.get(delivery.resource, delivery.batch_no)
        house.at("settle:before")
        if way.put_back:
            self._looked.pop(lane, None)  # There may be more of them.
        with house.log.transaction(cascade_owner(name, lane)) as tx:
            if way.put_back and not house.state(again_key(name, lane)):
                return  # Another worker has settled it.
            if delivery.state is State.RECEIPTED and receipt is not None:
                key = f"{delivery.resource}/{delivery.batch_no}"
                headers = {"kind": "receipt", "lane": str(lane)}
                tx.append(Message(RECEIPTS, receipt.content, key, headers=headers))
            if way.put_back:
                tx.append(state_message(again_key(name, lane), {}))
            else:
                tx.commit(self._consumer, entry.topic, entry.partition, entry.offset + 1)
        house.at("settle:after")


def cascade_owner(resource: str, lane: int) -> str:
    """Name who writes a lane's receipts."""
    return f"cascade/{resource}/{lane}"


def again_key(resource: str, lane: int) -> str:
    """Name the note of a batch that was put back and is under way, on the compacted topic."""
    return f"again/{resource}/{lane}"


# --- the store, as a view of the log -----------------------------------------------------------


@dataclass
class ViewDoor:
    """Shows in the store what stands in a resource's topics: deliveries, quarantine, notes.

    ``notes`` counts the rows shown that are no records: titles, group rows.
    """

    house: House
    resource: str
    store: Store

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.house.ensure(self.resource)
        topics = [sealed_topic(self.resource), quarantine_topic(self.resource)]
        self.notes = 0
        self._consumer = self.house.log.consumer("store", topics)

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> bool:
        """Show the next messages; False when there are none."""
        entries = self._consumer.poll(max_entries=64, max_bytes=CHUNK_BYTES)
        if not entries:
            return False
        last = entries[-1]
        try:
            self.house.at("view:before")
            self.notes += show(self.store, self.resource, entries)
            self.house.at("view:shown")
            with self.house.log.transaction(f"store/{last.topic}/{last.partition}") as tx:
                tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        except Fenced:  # another worker shows them
            self._consumer.rewind()
        except BaseException:
            self._consumer.rewind()
            raise
        self.house.at("view:after")
        return True


def histogram(refused: pl.DataFrame) -> dict[str, int]:
    """Count the reasons of refused records by ``rule:field``, most frequent first."""
    reasons = refused[REASONS].explode().struct.unnest()
    names = (reasons["rule"] + ":" + reasons["field"]).to_list()
    return dict(Counter(names).most_common())


def retry(store: Store, row: DeliveryRow, clock: Callable[[], datetime]) -> DeliveryRow:
    """Put a refused or halted delivery back, as a person asked."""
    delivery, _ = decide(delivery_of(row), Retry(), clock(), Policy())
    return store.deliveries.save(moved(row, delivery))


def fitting(part: pl.DataFrame, data: bytes) -> bytes:
    """Return the value of a message; a single record that is too large for one is cut."""
    if part.height == 1 and is_too_large(part, data):
        return encode_frame(cut(part, int(part.estimated_size())))
    return data


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
