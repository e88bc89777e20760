"""The stage sealed, quarantine → store: the store is a projection of the log (D6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime

from exchange.cascade.delivery import Delivery, State
from exchange.log import Entry, quarantine_topic, sealed_topic
from exchange.pipeline.context import CHUNK_BYTES, PipelineContext
from exchange.pipeline.messages import NotesEntry, RefusedEntry, SealedEntry
from exchange.pipeline.stage import Reading
from exchange.receipt import read as read_receipt
from exchange.store.database import Store
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import NoteRow
from exchange.store.node.quarantine import QuarantineRow
from exchange.store.node.receipts import ReceiptRow

_ENTRIES = 64


@dataclass
class ProjectStage:
    """Shows in the store what stands in a resource's topics: deliveries, quarantine, notes.

    ``notes`` counts the rows that are no records: titles, group rows.
    """

    context: PipelineContext
    resource: str
    store: Store

    def __post_init__(self) -> None:
        """Join the consumer group; nothing is read yet."""
        self.context.ensure(self.resource)
        topics = [sealed_topic(self.resource), quarantine_topic(self.resource)]
        self.notes = 0
        self._reading = Reading(self.context.log, "store", topics)

    def close(self) -> None:
        """Leave the consumer group."""
        self._reading.close()

    def step(self) -> bool:
        """Show the next messages; False when there are none."""
        entries = self._reading.poll(_ENTRIES, CHUNK_BYTES)
        if not entries:
            return False
        self._reading.attempt(lambda: self._show(entries))
        return True

    def _show(self, entries: Sequence[Entry]) -> None:
        last = entries[-1]
        self.context.failpoint("project:before")
        self.notes += project(self.store, self.resource, entries)
        self.context.failpoint("project:shown")
        owner = f"store/{last.topic}/{last.partition}"
        with self._reading.transaction(owner, last):
            pass  # the position alone
        self.context.failpoint("project:after")


def project(store: Store, resource: str, entries: Sequence[Entry]) -> int:
    """Write messages of a resource into the store; those that are there stay as they are.

    Returns how many rows of the source that are no records were new.
    """
    deliveries: list[DeliveryRow] = []
    refused: list[QuarantineRow] = []
    notes: list[NoteRow] = []
    for entry in entries:
        if entry.topic == sealed_topic(resource):
            if (sealed := SealedEntry.of(entry)) is not None:
                deliveries.append(pending(resource, entry, sealed))
        elif (listed := NotesEntry.of(entry)) is not None:
            origin = listed.origin
            notes += [NoteRow(origin.pull, origin.locator, **note) for note in listed.notes]
        else:
            refused.append(_refused_row(resource, entry))
    store.deliveries.add(deliveries)
    store.quarantine.add(refused)
    return store.pulls.add_notes(notes)


def pending(resource: str, entry: Entry, sealed: SealedEntry) -> DeliveryRow:
    """Make the row of a sealed batch that was never tried."""
    return DeliveryRow(
        resource=resource,
        batch_no=sealed.batch_no,
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        statement=sealed.statement,
        root=sealed.root,
        rows=sealed.rows,
        state=State.PENDING,
        pull=sealed.pull,
    )


def delivery_of(row: DeliveryRow) -> Delivery:
    """Take from a row what the state machine knows."""
    names = (field.name for field in fields(Delivery) if field.name != "state")
    return Delivery(state=State(row.state), **{name: getattr(row, name) for name in names})


def moved(row: DeliveryRow, delivery: Delivery) -> DeliveryRow:
    """Put what the state machine decided into a row."""
    return replace(row, **asdict(delivery) | {"state": str(delivery.state)})


def receipt_row(content: bytes) -> ReceiptRow:
    """Make the row of a checked receipt."""
    receipt = read_receipt(content)
    return ReceiptRow(
        receipt_no=receipt.receipt_no,
        resource=receipt.resource,
        batch_no=receipt.batch_no,
        content=content,
        received_at=datetime.fromisoformat(receipt.received_at),
        rows_sent=receipt.rows_sent,
        rows_accepted=receipt.rows_accepted,
        rows_rejected=receipt.rows_rejected,
    )


def _refused_row(resource: str, entry: Entry) -> QuarantineRow:
    refused = RefusedEntry.of(entry)
    return QuarantineRow(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        resource=resource,
        source=refused.origin.source,
        pull=refused.origin.pull,
        locator=refused.origin.locator,
        rows=refused.rows,
        reasons=refused.reasons,
        catalog_version=refused.catalog,
        created_at=refused.origin.at,
    )
