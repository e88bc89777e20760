"""Stores that are ready, rows of them, and acts at the same moment."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.store.database import open_store
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.receipts import ReceiptRow

if TYPE_CHECKING:
    from collections.abc import Callable


START = datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC)


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite3"
        open_store(f"sqlite:///{path}", clock=lambda: START, migrate=True).close()
        return path.read_bytes()


def make_store(path: Path) -> None:
    """Make a SQLite store with the schema and no rows: a copy, as migrating each costs more."""
    path.write_bytes(_migrated())


def delivery(number: int, resource: str = "credit_license", **changes: object) -> DeliveryRow:
    row = DeliveryRow(
        resource=resource,
        batch_no=f"20261123{number:05}",
        topic=f"exchange.sealed.{resource}",
        partition=0,
        offset=number,
        statement=f"sm3:{number:064x}",
        root=f"{number:064x}",
        rows=8192,
        state="pending",
        pull="p1",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def receipt(number: int, resource: str = "credit_license", content: bytes = b"{}") -> ReceiptRow:
    return ReceiptRow(
        receipt_no=f"R{resource}{number}",
        resource=resource,
        batch_no=f"20261123{number:05}",
        content=content,
        received_at=START,
        rows_sent=8192,
        rows_accepted=8190,
        rows_rejected=2,
    )


def together(*acts: Callable[[], object]) -> list[object]:
    """Do all at once, each in a thread; errors of ours are results."""
    gate = threading.Barrier(len(acts))
    results: list[object] = [None] * len(acts)

    def run(number: int) -> None:
        gate.wait()
        try:
            results[number] = acts[number]()
        except Exception as error:  # noqa: BLE001 - judged by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
