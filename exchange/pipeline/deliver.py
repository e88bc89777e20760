"""The stage sealed → province → receipt: one batch of a partition at a time, until it settles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

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
    State,
    Withdrawn,
    decide,
    is_due,
)
from exchange.cascade.profiles import OutgoingBatch
from exchange.catalog.model import Resource
from exchange.log import MAX_VALUE_BYTES, Entry, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import (
    ReceiptEntry,
    RefusedEntry,
    SealedEntry,
    put_back_key,
    put_back_message,
    put_back_offset,
)
from exchange.pipeline.projection import delivery_of, moved, pending, receipt_row
from exchange.pipeline.refusal import RefusalEntry, begin_refusals
from exchange.pipeline.stage import Reading
from exchange.pipeline.withdrawal import WITHDRAWN, is_withdrawn, withdrawn
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.seal.batch.build import open_statement
from exchange.seal.pki.trust import Trust
from exchange.store.database import Store
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.sql import Stale

_OPEN = (State.PENDING, State.SENDING, State.CHECKING, State.WAITING)
"""States of a delivery that still has to be sent."""
_LOOK_EVERY = timedelta(seconds=5)
"""How often the stage looks for batches that a person put back."""


@dataclass
class _UnderWay:
    """A batch under way; ``put_back`` by a person: it lies behind the partition's position."""

    entry: Entry
    sealed: SealedEntry
    put_back: bool
    tries: int = 0
    waits: bool = False
    """It was sent and waits: a batch before it that a person put back goes first."""


@dataclass
class DeliverStage:
    """Delivers a resource's batches: of each partition one at a time, in order.

    The next one of a partition follows after a receipt or refusal; no partition waits for another.
    A refused batch that a person puts back (:func:`retry`) lies behind the position: it is read
    again by its address, before the stage goes on with the log.
    """

    context: PipelineContext
    resource: Resource
    store: Store
    send: Callable[[OutgoingBatch], Outcome]
    trust: Trust
    owner: str
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.context.ensure(self.resource.name)
        self._topic = sealed_topic(self.resource.name)
        self._reading = Reading(self.context.log, "cascade", [self._topic])
        self._under_way: dict[int, _UnderWay] = {}
        self._looked: dict[int, datetime] = {}
        self._ours: set[int] = set()
        """Partitions whose deliveries under way were begun by us, in this process."""
        self._last = -1
        self.tries = 0
        """How often this stage has sent the batch that it returned last."""

    def close(self) -> None:
        """Leave the consumer group."""
        self._reading.close()

    def step(self) -> Delivery | None:
        """Bring the open batch of a partition one attempt further; None when there is none.

        The delivery that comes back is settled, waits, or is halted. Partitions take turns; one
        that waits is returned when no other can move.
        """
        self._look()
        waiting: Delivery | None = None
        tries = 0
        for partition in sorted(
            self._under_way, key=lambda partition: (partition <= self._last, partition)
        ):
            if partition not in self._under_way:  # dropped meanwhile, with another
                continue
            self._last = partition
            delivery = self._reading.attempt(partial(self._advance, partition))
            if delivery is None:  # another worker has the partition, or we have it anew
                continue
            if delivery.settled or delivery.state is State.HALTED:
                return delivery
            if waiting is None:
                waiting, tries = delivery, self.tries
        self.tries = tries
        return waiting

    def _advance(self, partition: int) -> Delivery:
        way = self._under_way[partition]
        try:
            delivery = self._deliver(partition, way)
            way.waits = delivery.state is State.WAITING
            if delivery.settled:
                self._settle(delivery, partition, way)
                del self._under_way[partition]
        except BaseException as error:
            if not isinstance(error, Stale):  # it was ours, and its lease need not be waited for
                self._ours.discard(partition)
            self._drop(partition)
            raise
        self.tries = way.tries
        return delivery

    def _deliver(self, partition: int, way: _UnderWay) -> Delivery:
        name, batch_no = self.resource.name, way.sealed.batch_no
        if self.context.log.claim(cascade_owner(name, partition)):
            self._ours.discard(partition)
        row = self.store.deliveries.get(name, batch_no)
        if row is None:
            self.store.deliveries.add([pending(name, way.entry, way.sealed)])
            row = self.store.deliveries.get(name, batch_no)
            assert row is not None  # noqa: S101 - added one line above
        if is_withdrawn(withdrawn(self.context, name, partition), way.entry.offset):
            return self._withdraw(row)
        return self._attempt(row, partition, way)

    def _withdraw(self, row: DeliveryRow) -> Delivery:
        """Settle a batch that a person has withdrawn: another stands for it, further behind."""
        delivery = delivery_of(row)
        if not delivery.settled:
            event = Withdrawn(WITHDRAWN)
            delivery = decide(delivery, event, self.context.clock(), self.policy)
            self.store.deliveries.save(moved(row, delivery))
        return delivery

    def _look(self) -> None:
        """Take up the next batch of every partition of ours that has none under way."""
        mine = self._reading.assigned()
        for partition in self._under_way.keys() - mine:  # another worker has the partition now
            self._drop(partition)
        now = self.context.clock()
        self._begin_refusals(mine - self._looked.keys())
        for partition in sorted(mine):
            # Now and then for a batch that was put back, …
            current = self._under_way.get(partition)
            if current is not None and (current.put_back or not current.waits):
                continue
            looked = self._looked.get(partition)
            if looked is None or abs(now - looked) >= _LOOK_EVERY:
                self._looked[partition] = now
                if (way := self._put_back(partition)) is not None:
                    if current is not None:
                        self._drop(partition)
                    self._under_way[partition] = way
        while len(self._under_way) < len(mine):  # … else for the next one.
            busy = {(self._topic, partition) for partition in self._under_way}
            entries = self._reading.poll(1, 1, busy)
            if not entries:
                return
            sealed = SealedEntry.of(entries[0])
            if sealed is None:
                self._foreign(entries[0])
            else:
                way = _UnderWay(entries[0], sealed, put_back=False)
                self._under_way[entries[0].partition] = way

    def _begin_refusals(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            position = self.context.log.position("cascade", self._topic, partition)
            begin_refusals(self.context, self.resource.name, partition, position)

    def _foreign(self, entry: Entry) -> None:
        """Keep a message that is none of ours in quarantine, and go on behind it."""
        context, name, partition = self.context, self.resource.name, entry.partition
        refused = RefusedEntry.unreadable(entry, context.clock(), context.catalog.version)
        with self._reading.transaction(cascade_owner(name, partition), entry) as tx:
            tx.append(refused.to_message(name, partition))

    def _drop(self, partition: int) -> None:
        """Forget a partition's batch under way: it is read again by whoever has the partition."""
        self._under_way.pop(partition, None)
        self._looked.pop(partition, None)
        for other in [other for other, way in self._under_way.items() if not way.put_back]:
            del self._under_way[other]
        self._reading.rewind()

    def _put_back(self, partition: int) -> _UnderWay | None:
        """Find the oldest batch that was put back, and note in the log that it is under way.

        The note stands in for the position, which has moved past: with it the receipt reaches
        the log even when we are killed as soon as the store has it.
        """
        log, name = self.context.log, self.resource.name
        offset = put_back_offset(self.context.latest(put_back_key(name, partition)))
        if offset is None:
            # The position first: another worker may settle the batch while we look, and what is
            # open after the position had moved past it was put back.
            position = log.position("cascade", self._topic, partition)
            row = self.store.deliveries.first(name, partition, _OPEN)
            if row is None or row.offset >= position:
                return None
            offset = row.offset
            with log.transaction(cascade_owner(name, partition)) as tx:
                tx.append(put_back_message(name, partition, offset))
        entry = log.read(self._topic, partition, offset, max_entries=1)[0]
        sealed = SealedEntry.of(entry)
        assert sealed is not None  # noqa: S101 - it was a batch when it was delivered first
        return _UnderWay(entry, sealed, put_back=True)

    def _attempt(self, row: DeliveryRow, partition: int, way: _UnderWay) -> Delivery:
        """Feed the machine until it waits for time or for a person."""
        context, delivery, entry = self.context, delivery_of(row), way.entry
        batch = OutgoingBatch(
            row.resource, row.batch_no, self.resource.department.code, entry.value
        )
        receipt = b""
        event = self._wake(delivery, partition)
        while event is not None:
            jitter = context.entropy(1)[0] / 256
            delivery = decide(delivery, event, context.clock(), self.policy, jitter=jitter)
            if isinstance(event, Answered):
                # Checked at once and here: the row need not say so in between. After a kill it
                # is sent again, and the province answers with the same receipt.
                receipt = event.receipt
                event = self._checked(receipt, entry)
                continue
            if delivery.state is State.HALTED:
                self._keep_wrong(delivery, partition, receipt)
            if delivery.state is State.REFUSED:
                self._keep_refusal(delivery, partition)
            receipted = delivery.state is State.RECEIPTED
            context.failpoint("receipt:before" if receipted else "delivery:before")
            row = self.store.deliveries.save(
                moved(row, delivery), receipt=receipt_row(receipt) if receipted else None
            )
            context.failpoint("receipt:after" if receipted else "delivery:after")
            event = None
            if delivery.state is State.SENDING:
                context.failpoint("send:before")
                way.tries += 1
                event = self.send(batch)
                context.failpoint("send:after")
        return delivery

    def _wake(self, delivery: Delivery, partition: int) -> Event | None:
        """Choose what to begin with; None when it is not ours to begin now.

        What is under way in a partition that we have claimed anew was begun by a worker that is
        gone or fenced: do not wait for it. The province answers a repeat with the same receipt.
        """
        now, fresh = self.context.clock(), partition not in self._ours
        self._ours.add(partition)
        match delivery.state:
            case State.PENDING | State.WAITING if is_due(delivery, now, self.policy):
                return Due(self.owner)
            case State.SENDING | State.CHECKING if fresh:
                return Restarted(delivery.owner)
            case State.SENDING | State.CHECKING if is_due(delivery, now, self.policy):
                return LeaseExpired()
        return None

    def _checked(self, receipt: bytes, entry: Entry) -> ReceiptRight | ReceiptWrong:
        sent = SentBatch.of(open_statement(entry.value))
        verification = check_receipt(receipt, trust=self.trust, batch=sent)
        if verification.ok:
            return ReceiptRight(str(verification.facts["receipt_no"]))
        return ReceiptWrong(tuple(check.name for check in verification.failed))

    def _keep_wrong(self, delivery: Delivery, partition: int, receipt: bytes) -> None:
        """Keep a receipt that does not verify: it is evidence for the person who decides.

        Kept before the store knows, so that a halt always has its evidence; cut to a message.
        """
        with self.context.log.transaction(cascade_owner(delivery.resource, partition)) as tx:
            content = receipt[:MAX_VALUE_BYTES]
            name, number = delivery.resource, delivery.batch_no
            tx.append(ReceiptEntry(name, number, partition, content, verified=False).to_message())

    def _keep_refusal(self, delivery: Delivery, partition: int) -> None:
        """Keep a refusal before the store knows: what the store calls refused can be compared."""
        place, number = (delivery.resource, partition), delivery.batch_no
        refusal = RefusalEntry.new(
            place, number, delivery.code, delivery.reason, self.context.clock()
        )
        with self.context.log.transaction(cascade_owner(*place)) as tx:
            tx.append(refusal.to_message())

    def _settle(self, delivery: Delivery, partition: int, way: _UnderWay) -> None:
        """Write the receipt to the log and move on, in one transaction."""
        context, name = self.context, self.resource.name
        receipt = self.store.receipts.get(delivery.resource, delivery.batch_no)
        context.failpoint("settle:before")
        if way.put_back:
            self._looked.pop(partition, None)  # There may be more of them.
        with context.log.transaction(cascade_owner(name, partition)) as tx:
            key = put_back_key(name, partition)
            if way.put_back and put_back_offset(context.latest(key)) is None:
                return  # Another worker has settled it.
            if delivery.state is State.RECEIPTED and receipt is not None:
                number = way.sealed.batch_no
                tx.append(ReceiptEntry(name, number, partition, receipt.content).to_message())
            if way.put_back:
                tx.append(put_back_message(name, partition, None))
            else:
                self._reading.commit(tx, way.entry)
        context.failpoint("settle:after")


def cascade_owner(resource: str, partition: int) -> str:
    """Name who writes a partition's receipts."""
    return f"cascade/{resource}/{partition}"


def retry(store: Store, row: DeliveryRow, clock: Callable[[], datetime], by: str) -> None:
    """Put a refused or halted delivery back, as a person asked, with its line in the trail."""
    delivery = decide(delivery_of(row), Retry(), clock(), Policy())
    detail = f"{row.state} {row.code} {row.reason}"
    subject = f"{row.resource}/{row.batch_no}"
    back = moved(row, delivery)
    store.audit.append(by, "cascade.retry", subject, detail, beside=store.deliveries.saving(back))
