"""Rows of the store for messages of the log: the store is a projection of the log (D6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Final

from exchange.cascade.delivery import Delivery, State
from exchange.log import Entry, sealed_topic
from exchange.pipeline.messages import NotesEntry, RefusedEntry, SealedEntry
from exchange.receipt import read as read_receipt
from exchange.store.database import Store
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import NoteRow
from exchange.store.node.quarantine import QuarantineRow
from exchange.store.node.receipts import ReceiptRow

OVERTAKEN: Final = "replay.overtaken"
"""Rule of a replayed record that a newer one of its key has overtaken."""
_OVERTAKEN: Final = f"{OVERTAKEN}:"
"""Its name in a histogram."""
SETTLED_BY: Final = "exchange"
"""Stands for the person who decides, where no person did."""


def project(store: Store, resource: str, entries: Sequence[Entry]) -> int:
    """Write messages of a resource into the store; those that are there stay as they are.

    Returns how many rows of the source that are no records were new.
    """
    deliveries: list[DeliveryRow] = []
    refused: list[QuarantineRow] = []
    notes: list[NoteRow] = []
    overtaken: list[Entry] = []
    for entry in entries:
        if entry.topic == sealed_topic(resource):
            if (sealed := SealedEntry.of(entry)) is not None:
                deliveries.append(pending(resource, entry, sealed))
        elif (listed := NotesEntry.of(entry)) is not None:
            origin = listed.origin
            notes += [NoteRow(origin.pull, origin.locator, **note) for note in listed.notes]
        else:
            refused.append(refused_row(resource, entry))
            if _OVERTAKEN in refused[-1].reasons:
                overtaken.append(entry)
    store.deliveries.add(deliveries)
    store.quarantine.add(refused)
    for entry in overtaken:
        _settle_overtaken(store, entry)
    return store.pulls.add_notes(notes)


def _settle_overtaken(store: Store, entry: Entry) -> None:
    """Settle the replayed records that a newer one had overtaken: it is sealed already."""
    from exchange.pipeline.refused import refused_of
    from exchange.validate.source_frame import REASONS

    reasons = refused_of(entry).frame[REASONS].to_list()
    rows = [
        row
        for row, of_record in enumerate(reasons)
        if any(r["rule"] == OVERTAKEN for r in of_record)
    ]
    place = (entry.topic, entry.partition, entry.offset)
    store.quarantine.decide(*place, rows, state="settled", by=SETTLED_BY, note=OVERTAKEN)


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


def refused_row(resource: str, entry: Entry) -> QuarantineRow:
    """Make the row of a message of quarantine that nobody has decided about."""
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
