"""The corridor: the one module that opens doors between rooms. Read this first.

Three doors, each a transaction of the log, each safe to be killed before and after::

    PullDoor     connect ──► raw                 messages + cursor
    SealDoor     raw ──► sealed, quarantine      batches + refused records + lane + position
    CascadeDoor  sealed ──► province ──► receipt the store first, then receipt + position

``House`` holds what the doors work with. Time, chance and the kill points (``at``) come in as
arguments.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any
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
from exchange.errors import ExchangeError, Rejected
from exchange.lane import Lane, lane_key
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
from exchange.text import Text
from exchange.validate.deletes import blank_deletes
from exchange.validate.oversized import cut, refuse
from exchange.validate.reasons import COLUMN as REASONS
from exchange.validate.seen import Seen
from exchange.validate.validator import compile_resource
from exchange.view import delivery_of, moved, pending, receipt_row, show

LOCAL = ZoneInfo("Asia/Shanghai")
"""Batch numbers carry the local date."""
CHUNK_ENTRIES = 8
"""Raw messages checked at once: columns want 20,000 rows and more (D1)."""
CHUNK_BYTES = 16 * 1024 * 1024
_LONG_RECORD = 256 * 1024
"""Bytes of a record from which on it may not fit a batch."""
_NOTES = 500
"""Notes in one message."""


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

    def resource(self, name: str) -> Resource:
        """Return a resource of the catalog; raises Rejected naming the ones there are."""
        if name in self.catalog.resources:
            return self.catalog.resources[name]
        known = ", ".join(sorted(self.catalog.resources))
        raise Rejected(
            Text(f"目录中没有资源 {name}", f"the catalog has no resource {name}"),
            hint=Text(f"目录中的资源：{known}", f"resources: {known}"),
        )

    def ensure(self, resource: str) -> None:
        """Create the topics of a resource."""
        names = (raw_topic(resource), sealed_topic(resource), quarantine_topic(resource))
        self.log.ensure([Topic(name) for name in names])

    def state(self, key: str) -> dict[str, Any]:
        """Read the newest state with this key; empty when there is none."""
        entry = self.log.latest(CURSORS, key)
        return json.loads(entry.value) if entry is not None else {}


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
        resumable = self.source.connector.resumable
        state = house.state(key)
        # Without a cursor to go on from, everything comes again: that is another pull.
        again = resumable and not state.get("cursor")
        if not state or state["done"] or again:
            state = self._begin(state)
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
            "messages": 0,
            "since": self.house.log.bounds(raw_topic(self.resource), 0)[1],
            "done": False,
            "version": before.get("version", 0),
        }

    def _commit(self, key: str, messages: Sequence[Message], state: dict[str, Any]) -> int:
        house, version = self.house, state["version"]
        state["version"] += 1
        house.at("pull:before")
        with house.log.transaction(key) as tx:
            if house.state(key).get("version", 0) != version:
                raise Fenced(
                    Text(f"另一个进程正在拉取 {self.name}", f"another process pulls {self.name}"),
                    hint=Text("让它继续，或先停止它", "let it go on, or stop it first"),
                )
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
            "since": str(state["since"]),
            "locator": pulled.locator,
            "at": instant(self.house.clock()),
        }
        for start, rows, value in encode_slices(pulled.frame):
            part = pulled.frame[start : start + rows]
            data = fitting(part, value)
            if data is value:
                self.house.recent.keep(data, part)
            yield Message(
                raw_topic(self.resource),
                data,
                headers={
                    **headers,
                    "rows": str(rows),
                    "first": str(state["rows"] + start + 1),
                    "index": str(state["messages"]),
                },
            )
            state["messages"] += 1
        for start in range(0, len(pulled.notes), _NOTES):
            notes = pulled.notes[start : start + _NOTES]
            yield Message(
                quarantine_topic(self.resource),
                json.dumps([asdict(note) for note in notes], ensure_ascii=False).encode(),
                headers={**headers, "kind": "notes"},
            )


# --- raw → validate → seal → sealed, quarantine -------------------------------------------------


@dataclass(frozen=True)
class Sealed:
    """What one step of the seal door did."""

    accepted: int = 0
    quarantined: int = 0
    batches: int = 0
    halted: Text | None = None


@dataclass
class SealDoor:
    """Checks and seals one lane: a partition of a resource, whose statements form a chain.

    ``ignored``: columns of the source that the catalog does not name; ``coarsened``: how many
    instants of a field were finer than a millisecond, which is what is kept.
    """

    house: House
    resource: Resource
    sealer: Sealer
    lane: int = 0

    def __post_init__(self) -> None:
        """Compile the checks and join the consumer group; nothing is read yet."""
        house, name = self.house, self.resource.name
        house.ensure(name)
        self.key = lane_key(name, self.lane)
        self._validator = compile_resource(self.resource, house.catalog.tables)
        self._schema = parse_schema(schema_text(self.resource))
        self._consumer = house.log.consumer("seal", [raw_topic(name)])
        self.ignored: set[str] = set()
        self.coarsened: Counter[str] = Counter()
        self._seen: tuple[str, Seen] = ("", Seen())

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> Sealed | None:
        """Take the next raw messages through; None when there are none.

        A lane that is halted stays so until a person releases it: nothing is read then.
        """
        lane = self.house.state(self.key)
        if lane.get("halted"):
            return Sealed(halted=Text(**lane["halted"]))
        entries = self._consumer.poll(max_entries=CHUNK_ENTRIES, max_bytes=CHUNK_BYTES)
        if not entries:
            return None
        try:
            return self._take(entries)
        except BaseException:
            self._consumer.rewind()
            self._seen = ("", Seen())
            raise

    def _take(self, entries: Sequence[Entry]) -> Sealed:
        house, taken = self.house, 0
        house.at("seal:before")
        with house.log.transaction(f"seal/{self.resource.name}/{self.lane}") as tx:
            lane = Lane(**house.state(self.key))
            messages: list[Message] = []
            done = Sealed()
            for pull, group in groupby(entries, key=lambda entry: entry.headers["pull"]):
                some = list(group)
                done = self._chunk(pull, some, lane, messages, done)
                taken += len(some)
                if done.halted is not None:
                    break
            last = entries[taken - 1]
            for message in messages:
                tx.append(message)
            tx.append(state_message(self.key, asdict(lane)))
            tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
        if taken < len(entries):
            self._consumer.rewind()
        house.at("seal:after")
        return done

    def _chunk(
        self, pull: str, entries: list[Entry], lane: Lane, messages: list[Message], done: Sealed
    ) -> Sealed:
        """Check the messages of one pull at once; seal what passes, keep what does not."""
        frames = [self._frame(entry.value) for entry in entries]
        for _, run in groupby(zip(entries, frames, strict=True), key=lambda one: one[1].schema):
            pairs = list(run)
            done = self._run(pull, pairs, lane, messages, done)
        return done

    def _frame(self, value: bytes) -> pl.DataFrame:
        frame = self.house.recent.take(value)
        return decode_frame(value) if frame is None else frame

    def _run(
        self,
        pull: str,
        pairs: list[tuple[Entry, pl.DataFrame]],
        lane: Lane,
        messages: list[Message],
        done: Sealed,
    ) -> Sealed:
        now = self.house.clock()
        lane.begin(pull)
        frame = pl.concat([frame for _, frame in pairs], rechunk=True)
        known = self._known(pull, pairs[0][0])
        checked = self._validator.check(frame, today=self._today(), seen=known)
        self._seen = (pull, checked.seen)
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
        facts = BatchFacts(
            department=resource.department.code,
            resource=resource.name,
            resource_code=resource.code,
            catalog_version=house.catalog.version,
            catalog_digest=house.catalog.digest,
            batch_no=lane.next_number(now.astimezone(LOCAL).date()),
            lane=self.lane,
            previous=lane.statement,
            pulled_at=datetime.fromisoformat(entry.headers["at"]),
            sealed_at=now,
            source=entry.headers["source"],
            pull=entry.headers["pull"],
            accepted=lane.accepted,
            rejected=lane.rejected,
        )
        batch = build(packed, facts, sealer=self.sealer, seed=house.entropy(16))
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
            partition=self.lane,
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
                partition=self.lane,
            )

    def _today(self) -> date:
        return self.house.clock().astimezone(LOCAL).date()

    def _known(self, pull: str, first: Entry) -> Seen:
        """Return the keys that this pull has brought; read them again after a restart."""
        if self._seen[0] == pull or int(first.headers["index"]) == 0:
            return self._seen[1] if self._seen[0] == pull else Seen()
        seen, offset = Seen(), int(first.headers["since"])
        offset = max(offset, self.house.log.bounds(first.topic, first.partition)[0])
        while offset < first.offset:
            entries = self.house.log.read(
                first.topic, first.partition, offset, max_entries=CHUNK_ENTRIES
            )
            for entry in entries:
                if entry.offset < first.offset and entry.headers["pull"] == pull:
                    seen = self._validator.check(
                        decode_frame(entry.value), today=self._today(), seen=seen
                    ).seen
            offset = entries[-1].offset + 1 if entries else first.offset
        return seen


def release(house: House, resource: str, lane: int = 0) -> bool:
    """Let a halted lane go on with what it has; its present pull is not judged again."""
    with house.log.transaction(f"seal/{resource}/{lane}") as tx:
        state = house.state(lane_key(resource, lane))
        if not state.get("halted"):
            return False
        changed = state | {"halted": None, "waived": state["pull"], "recent": []}
        tx.append(state_message(lane_key(resource, lane), changed))
    return True


# --- sealed → cascade → receipt -----------------------------------------------------------------


_OPEN = (State.PENDING, State.SENDING, State.CHECKING, State.WAITING)
"""States of a delivery that still has to be sent."""
_LOOK_EVERY = timedelta(seconds=5)
"""How often a cascade door looks for batches that a person put back."""


@dataclass
class CascadeDoor:
    """Delivers one lane's batches in order: one at a time, the next after a receipt or refusal.

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
        self._consumer = self.house.log.consumer("cascade", [sealed_topic(self.resource.name)])
        self._entry: Entry | None = None
        self.tries = 0
        """How often this door has sent the batch under way."""
        self._again = f"again/{self.resource.name}"
        self._put_back = False
        self._looked: datetime | None = None
        self._restarted = True

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def step(self) -> Delivery | None:
        """Bring the oldest open batch one attempt further; None when there is none.

        The delivery that comes back is settled, waits, or is halted.
        """
        if self._entry is None:
            self._entry, self.tries = self._next(), 0
        entry = self._entry
        if entry is None:
            return None
        row = self.store.deliveries.get(self.resource.name, entry.key)
        if row is None:
            self.store.deliveries.add([pending(self.resource.name, entry)])
            return self.step()
        delivery = self._attempt(row, entry)
        if delivery.settled:
            self._entry = None
            try:
                self._settle(delivery, entry)
            except BaseException:
                self._consumer.rewind()
                self._looked = None
                raise
        return delivery

    def _next(self) -> Entry | None:
        """Take a batch that was put back, looking for one now and then, else the next one."""
        now = self.house.clock()
        if self._looked is None or abs(now - self._looked) >= _LOOK_EVERY:
            entry = self._behind()
            self._put_back, self._looked = entry is not None, now
            if entry is not None:
                return entry
        self._put_back = False
        return next(iter(self._consumer.poll(max_entries=1, max_bytes=1)), None)

    def _behind(self) -> Entry | None:
        """Find the oldest batch that was put back, and note in the log that it is under way.

        The note stands in for the position, which has moved past: with it the receipt reaches
        the log even when we are killed as soon as the store has it.
        """
        log, name = self.house.log, self.resource.name
        place = self.house.state(self._again).get("place")
        if place is None:
            row = self.store.deliveries.first(name, _OPEN)
            if row is None or row.offset >= log.position("cascade", row.topic, row.partition):
                return None
            place = [row.partition, row.offset]
            with log.transaction(f"cascade/{name}") as tx:
                tx.append(state_message(self._again, {"place": place}))
        return log.read(sealed_topic(name), *place, max_entries=1)[0]

    def _attempt(self, row: DeliveryRow, entry: Entry) -> Delivery:
        """Feed the machine until it waits for time or for a person."""
        house, delivery = self.house, delivery_of(row)
        batch = Batch(row.resource, row.batch_no, self.resource.department.code, entry.value)
        receipt = b""
        event = self._wake(delivery)
        # What an error leaves under way was ours: the next step need not wait for its lease.
        self._restarted = event is not None
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
                self._keep_wrong(delivery, receipt)
            done = delivery.state is State.RECEIPTED
            house.at("receipt:before" if done else "delivery:before")
            row = self.store.deliveries.save(
                moved(row, delivery), receipt=receipt_row(receipt) if done else None
            )
            house.at("receipt:after" if done else "delivery:after")
            event = None
            if Send() in actions:
                house.at("send:before")
                self.tries += 1
                event = self.send(batch)
                house.at("send:after")
        self._restarted = False
        return delivery

    def _wake(self, delivery: Delivery) -> Event | None:
        """Choose what to begin with; None when it is not ours to begin now."""
        restarted, self._restarted = self._restarted, False
        now = self.house.clock()
        match delivery.state:
            case State.PENDING | State.WAITING if is_due(delivery, now, self.policy):
                return Due(self.owner)
            case State.SENDING | State.CHECKING if restarted and delivery.owner == self.owner:
                return Restarted(self.owner)
            case State.SENDING | State.CHECKING if is_due(delivery, now, self.policy):
                return LeaseExpired()
        return None

    def _checked(self, receipt: bytes, entry: Entry) -> ReceiptRight | ReceiptWrong:
        sent = Sent.of(open_statement(entry.value))
        verification = check_receipt(receipt, anchors=self.anchors, sent=sent)
        if verification.ok:
            return ReceiptRight(str(verification.facts["receipt_no"]))
        return ReceiptWrong(tuple(check.name for check in verification.failed))

    def _keep_wrong(self, delivery: Delivery, receipt: bytes) -> None:
        """Keep a receipt that does not verify: it is evidence for the person who decides.

        Kept before the store knows, so that a halt always has its evidence; cut to a message.
        """
        with self.house.log.transaction(f"cascade/{self.resource.name}") as tx:
            key = f"{delivery.resource}/{delivery.batch_no}"
            value = receipt[:MAX_VALUE_BYTES]
            tx.append(Message(RECEIPTS, value, key, headers={"kind": "wrong"}))

    def _settle(self, delivery: Delivery, entry: Entry) -> None:
        """Write the receipt to the log and move on, in one transaction."""
        house = self.house
        receipt = self.store.receipts.get(delivery.resource, delivery.batch_no)
        house.at("settle:before")
        if self._put_back:
            self._looked = None  # There may be more of them.
        with house.log.transaction(f"cascade/{self.resource.name}") as tx:
            if self._put_back and not house.state(self._again):
                return  # Another worker has settled it.
            if delivery.state is State.RECEIPTED and receipt is not None:
                key = f"{delivery.resource}/{delivery.batch_no}"
                tx.append(Message(RECEIPTS, receipt.content, key, headers={"kind": "receipt"}))
            if self._put_back:
                tx.append(state_message(self._again, {}))
            else:
                tx.commit(self._consumer, entry.topic, entry.partition, entry.offset + 1)
        house.at("settle:after")


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
            with self.house.log.transaction(f"store/{self.resource}") as tx:
                tx.commit(self._consumer, last.topic, last.partition, last.offset + 1)
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
