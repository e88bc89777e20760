"""The register of electronic seals (电子印章台账): what people decided about each.

Every change is written together with its line of the audit trail: who, when, what, why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from exchange.store.rows import SealRow
from exchange.store.sql import (
    Lender,
    at,
    columns,
    contradiction,
    insert_missing,
    keyed,
    made,
    stale,
    values,
)
from exchange.store.tables import seals

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from exchange.store.audit import AuditTrail

NAMES = {
    "es_id": "es_id",
    "name": "seal_name",
    "state": "seal_state",
    "apply_no": "apply_no",
    "applied_at": "applied_at",
    "approve_no": "approve_no",
    "approved_at": "approved_at",
    "filing_no": "filing_no",
    "filed_at": "filed_at",
    "police_code": "police_code",
    "reason": "reason_text",
    "content": "content",
    "updated_at": "updated_at",
    "version": "version_no",
}

KEY = ("es_id",)
_STATE = select(seals.c.seal_state).where(keyed(seals, KEY))
"""Asked before every signature: made once."""


class Seals:
    """The seals that the node keeps."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime], audit: AuditTrail) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock
        self._audit = audit

    def state(self, es_id: str) -> str | None:
        """Return the state of a seal; None when it is not in the register."""
        with self._lender.read() as connection:
            return connection.execute(_STATE, at(KEY, (es_id,))).scalar()

    def find(self, *, name: str | None = None) -> list[SealRow]:
        """Find seals, of one name or all, by number."""
        query = select(*columns(seals, NAMES)).order_by(seals.c.es_id)
        if name is not None:
            query = query.where(seals.c.seal_name == name)
        with self._lender.read() as connection:
            return [
                replace(row, content=row.content or b"")
                for row in (made(SealRow, found) for found in connection.execute(query))
            ]

    def save(self, row: SealRow, *, actor: str, action: str, detail: str) -> SealRow:
        """Keep a new or changed seal, with its line of the audit trail.

        Raises Stale when somebody else has changed it since it was read, Integrity when a new
        one has the number of another.
        """
        after = replace(row, updated_at=self._clock(), version=row.version + 1)

        def write(connection: Connection) -> None:
            if row.version == 0:
                if insert_missing(connection, seals, [values(after, NAMES)], KEY):
                    raise contradiction(f"seal {row.es_id}")
                return
            done = connection.execute(
                update(seals)
                .where(seals.c.es_id == row.es_id, seals.c.version_no == row.version)
                .values(values(after, NAMES))
            )
            if done.rowcount != 1:
                raise stale(f"seal {row.es_id}")

        self._audit.append(actor, action, row.es_id, detail, beside=write)
        return after
