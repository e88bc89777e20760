"""The store made again from the log, when it was deleted or restored from a backup (D6).

Deliveries, receipts and the quarantine index come back as they stood. A batch that was settled
without a receipt is shown as refused. What people did (audit, dismissals) lives in the store
alone and comes from its backup only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exchange.cascade.delivery import SETTLED, State
from exchange.log import RECEIPTS, Entry, Log, quarantine_topic, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.messages import NotesEntry, ReceiptEntry, SealedEntry
from exchange.pipeline.projection import pending, project, receipt_row
from exchange.pipeline.refusal import RefusalEntry
from exchange.pipeline.settlement import Settlement
from exchange.pipeline.withdrawal import WITHDRAWN
from exchange.store.database import Store
from exchange.store.node.deliveries import DeliveryRow

_PAGE = 64
_UNKNOWN = "settled without a receipt; the store was made again from the log"


def catch_up(context: PipelineContext, store: Store, resource: str) -> bool:
    """Show what the store has lost of a resource; False when it has lost nothing.

    It has when it lacks the last thing that was shown to it. Safe to be killed: what tells of
    the loss comes back last.
    """
    context.ensure(resource)
    log, sealed_in = context.log, sealed_topic(resource)
    topics, count = (quarantine_topic(resource), sealed_in), context.partitions(resource)
    partitions = [(topic, number) for topic in topics for number in range(count)]
    if all(_knows(log, store, resource, *partition) for partition in partitions):
        return False
    receipts: dict[str, bytes] = {}
    refusals: dict[str, RefusalEntry] = {}
    for entry in _entries(log, RECEIPTS, 0, log.bounds(RECEIPTS, 0)[1]):
        receipt, refusal = ReceiptEntry.of(entry), RefusalEntry.of(entry)
        if refusal is not None and refusal.resource == resource:
            refusals[refusal.batch_no] = refusal
        if receipt is not None and receipt.verified and receipt.resource == resource:
            receipts[receipt.batch_no] = receipt.content
    settlement = Settlement(context, context.resource(resource), store)
    for topic, number in partitions:
        settled = log.position("cascade", sealed_in, number)
        for entry in _entries(log, topic, number, log.position("store", topic, number)):
            sealed = SealedEntry.of(entry) if topic == sealed_in else None
            if sealed is not None and entry.offset < settled:
                row = pending(resource, entry, sealed)
                _settle(store, row, receipts.get(row.batch_no), refusals.get(row.batch_no))
            else:
                project(store, resource, [entry])
            if topic == sealed_in:
                settlement.settle([entry])
    return True


def _knows(log: Log, store: Store, resource: str, topic: str, number: int) -> bool:
    """Tell whether the store holds the last message of a partition that was shown to it."""
    shown = log.position("store", topic, number)
    if shown == log.bounds(topic, number)[0]:
        return True
    (entry,) = log.read(topic, number, shown - 1, max_entries=1)
    if topic == sealed_topic(resource):
        sealed = SealedEntry.of(entry)
        return sealed is None or store.deliveries.get(resource, sealed.batch_no) is not None
    if (notes := NotesEntry.of(entry)) is not None:
        return bool(store.pulls.notes(notes.origin.pull, limit=1))
    return store.quarantine.get(topic, number, entry.offset) is not None


def _settle(
    store: Store, row: DeliveryRow, content: bytes | None, refusal: RefusalEntry | None
) -> None:
    """Show a batch that was settled, with its receipt or refusal."""
    settled = replace(row, state=State.REFUSED, code="rebuilt", reason=_UNKNOWN)
    if refusal is not None:
        state = State.WITHDRAWN if refusal.code == WITHDRAWN else State.REFUSED
        settled = replace(settled, state=state, code=refusal.code, reason=refusal.reason)
    if content is not None:
        receipt = receipt_row(content)
        store.receipts.add(receipt)
        settled = replace(row, state=State.RECEIPTED, receipt_no=receipt.receipt_no)
    store.deliveries.add([settled])
    known = store.deliveries.get(row.resource, row.batch_no)
    if known is not None and known.state not in SETTLED:
        news = {name: getattr(settled, name) for name in ("state", "code", "reason", "receipt_no")}
        store.deliveries.save(replace(known, **news, owner="", due=None))


def _entries(log: Log, topic: str, number: int, end: int) -> Iterator[Entry]:
    offset = log.bounds(topic, number)[0]
    while page := log.read(topic, number, offset, max_entries=_PAGE) if offset < end else []:
        yield from (entry for entry in page if entry.offset < end)
        offset = page[-1].offset + 1
