"""The store as a view of the log (D6): what a message says, as rows that people look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime

from exchange.cascade.delivery import Delivery, State
from exchange.log import Entry, quarantine_topic, sealed_topic
from exchange.receipt import read as read_receipt
from exchange.store.database import Store
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import NoteRow
from exchange.store.node.quarantine import QuarantineRow
from exchange.store.node.receipts import ReceiptRow
from exchange.validate.quarantine import UNREADABLE


def show(store: Store, resource: str, entries: Sequence[Entry]) -> int:
    """Write messages of a resource into the store; those that are there stay as they are.

    Returns how many rows of the source that are no records were new.
    """
    quarantined = [e for e in entries if e.topic == quarantine_topic(resource)]
    batches = [e for e in entries if e.topic == sealed_topic(resource) and is_batch(e)]
    notes = [e for e in quarantined if is_notes(e)]
    store.deliveries.add([pending(resource, e) for e in batches])
    store.quarantine.add([_refused_row(resource, e) for e in quarantined if not is_notes(e)])
    return store.pulls.add_notes([note for entry in notes for note in _notes(entry)])


NOBODY = "-"
"""Stands for the source and the pull of a foreign message: there are none."""
_BATCH = frozenset({"rows", "statement", "root", "pull"})
_NOTES = frozenset({"kind", "pull", "locator"})
_REFUSED = frozenset({"kind", "source", "pull", "locator", "rows", "reasons", "catalog", "at"})


def is_batch(entry: Entry) -> bool:
    """Tell whether a message of a sealed topic is one of ours; its seal is checked elsewhere."""
    return bool(entry.key) and entry.headers.keys() >= _BATCH


def is_notes(entry: Entry) -> bool:
    """Tell whether a message of a quarantine topic holds rows that are no records."""
    return entry.headers.keys() >= _NOTES and entry.headers["kind"] == "notes"


def is_refused(entry: Entry) -> bool:
    """Tell whether a message of a quarantine topic holds refused records of ours."""
    return entry.headers.keys() >= _REFUSED and entry.headers["kind"] == "records"


def pending(resource: str, entry: Entry) -> DeliveryRow:
    """Make the row of a sealed batch that was never tried."""
    return DeliveryRow(
        resource=resource,
        batch_no=entry.key,
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        statement=entry.headers["statement"],
        root=entry.headers["root"],
        rows=int(entry.headers["rows"]),
        state=State.PENDING,
        pull=entry.headers["pull"],
    )


def delivery_of(row: DeliveryRow) -> Delivery:
    """Take from a row what the state machine knows."""
    names = (one.name for one in fields(Delivery) if one.name != "state")
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
    if not entry.headers.keys() >= _REFUSED:  # a foreign message, in this very topic
        return QuarantineRow(
            topic=entry.topic,
            partition=entry.partition,
            offset=entry.offset,
            resource=resource,
            source=NOBODY,
            pull=NOBODY,
            locator=f"{entry.topic}/{entry.partition}/{entry.offset}",
            rows=1,
            reasons={UNREADABLE: 1},
            catalog_version=NOBODY,
            created_at=datetime.fromtimestamp(entry.time / 1000, UTC),
        )
    return QuarantineRow(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        resource=resource,
        source=entry.headers["source"],
        pull=entry.headers["pull"],
        locator=entry.headers["locator"],
        rows=int(entry.headers["rows"]),
        reasons=json.loads(entry.headers["reasons"]),
        catalog_version=entry.headers["catalog"],
        created_at=datetime.fromisoformat(entry.headers["at"]),
    )


def _notes(entry: Entry) -> list[NoteRow]:
    pull, locator = entry.headers["pull"], entry.headers["locator"]
    return [NoteRow(pull, locator, **note) for note in json.loads(entry.value)]
