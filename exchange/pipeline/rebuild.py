"""The store made again from the log, when it was deleted or restored from a backup (D6).

Deliveries, receipts and the quarantine index come back as they stood. A batch that was settled
without a receipt is shown as refused. What people did (audit, dismissals) lives in the store
alone and comes from its backup only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exchange.cascade.delivery import State
from exchange.log import RECEIPTS, Entry, Log, quarantine_topic, sealed_topic
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.projection import is_batch, is_notes, pending, receipt_row, show
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
    topics = (quarantine_topic(resource), sealed_topic(resource))
    partitions = [
        (topic, partition) for topic in topics for partition in range(context.partitions(resource))
    ]
    if all(_knows(context.log, store, resource, *partition) for partition in partitions):
        return False
    receipts = {
        entry.key: entry.value
        for entry in _entries(context.log, RECEIPTS, 0, context.log.bounds(RECEIPTS, 0)[1])
        if entry.headers.get("kind") == "receipt" and entry.key.startswith(f"{resource}/")
    }
    for topic, partition in partitions:
        settled = context.log.position("cascade", sealed_topic(resource), partition)
        shown = context.log.position("store", topic, partition)
        for entry in _entries(context.log, topic, partition, shown):
            if topic == sealed_topic(resource) and is_batch(entry) and entry.offset < settled:
                _settle(store, pending(resource, entry), receipts.get(f"{resource}/{entry.key}"))
            else:
                show(store, resource, [entry])
    return True


def _knows(log: Log, store: Store, resource: str, topic: str, partition: int) -> bool:
    """Tell whether the store holds the last message of a partition that was shown to it."""
    shown = log.position("store", topic, partition)
    if shown == log.bounds(topic, partition)[0]:
        return True
    (entry,) = log.read(topic, partition, shown - 1, max_entries=1)
    if topic == sealed_topic(resource):
        return not is_batch(entry) or store.deliveries.get(resource, entry.key) is not None
    if is_notes(entry):
        return bool(store.pulls.notes(entry.headers["pull"], limit=1))
    return store.quarantine.get(topic, partition, entry.offset) is not None


def _settle(store: Store, row: DeliveryRow, content: bytes | None) -> None:
    """Show a batch that was settled, with its receipt."""
    done = replace(row, state=State.REFUSED, code="rebuilt", reason=_UNKNOWN)
    receipt = receipt_row(content) if content is not None else None
    if receipt is not None:
        store.receipts.add(receipt)
        done = replace(row, state=State.RECEIPTED, receipt_no=receipt.receipt_no)
    store.deliveries.add([done])
    known = store.deliveries.get(row.resource, row.batch_no)
    if known is not None and known.state not in {State.RECEIPTED, State.REFUSED}:
        moved = replace(
            known, state=done.state, code=done.code, reason=done.reason, receipt_no=done.receipt_no
        )
        store.deliveries.save(replace(moved, owner="", due=None))


def _entries(log: Log, topic: str, partition: int, end: int) -> Iterator[Entry]:
    offset = log.bounds(topic, partition)[0]
    while page := log.read(topic, partition, offset, max_entries=_PAGE) if offset < end else []:
        yield from (entry for entry in page if entry.offset < end)
        offset = page[-1].offset + 1
