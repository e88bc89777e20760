"""The register of electronic seals (电子印章台账): what people decided about each.

Every change is written together with its line of the audit trail: who, when, what, why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from sqlalchemy import Connection, Index, Integer, LargeBinary, select, update

from exchange.store.audit import AuditTrail
from exchange.store.columns import FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, contradiction, stale


@dataclass(frozen=True, slots=True)
class SealRow:
    """One electronic seal (电子印章) of the register, by its number ``es_id``."""

    es_id: Annotated[str, Stored("es_id", Name(64), key=True)]
    name: Annotated[str, Stored("seal_name", Name(64))]
    """Department or other name that the settings have for it."""
    state: Annotated[str, Stored("seal_state", Name(16))]
    apply_no: Annotated[str, Stored("apply_no", Name(64), null=True)] = ""
    applied_at: Annotated[datetime | None, Stored("applied_at", Moment, null=True)] = None
    approve_no: Annotated[str, Stored("approve_no", Name(64), null=True)] = ""
    approved_at: Annotated[datetime | None, Stored("approved_at", Moment, null=True)] = None
    filing_no: Annotated[str, Stored("filing_no", Name(64), null=True)] = ""
    filed_at: Annotated[datetime | None, Stored("filed_at", Moment, null=True)] = None
    police_code: Annotated[str, Stored("police_code", Name(14), null=True)] = ""
    """Number of the public security's filing (公安备案编码)."""
    reason: Annotated[str, Stored("reason_text", FreeText, null=True)] = ""
    """Why it was suspended, lost or cancelled."""
    content: Annotated[bytes, Stored("content", LargeBinary, null=True)] = field(
        default=b"", repr=False
    )
    """The newest SESeal, DER; empty before it is made."""
    updated_at: Annotated[datetime | None, Stored("updated_at", Moment)] = None
    version: Annotated[int, Stored("version_no", Integer)] = 0
    """Rises with each save; 0: not kept yet."""


SEALS = RowTable("seals", SealRow)
Index("ix_seals_name", SEALS.c.name)
_STATE = select(SEALS.c.state).where(SEALS.has_key)
"""Asked before every signature: made once."""


class SealRegister:
    """The seals that the node keeps."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime], audit: AuditTrail) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._clock = clock
        self._audit = audit

    def state(self, es_id: str) -> str | None:
        """Return the state of a seal; None when it is not in the register."""
        with self._lender.read() as connection:
            return connection.execute(_STATE, SEALS.at(es_id)).scalar()

    def find(self, *, name: str | None = None) -> list[SealRow]:
        """Find seals, of one name or all, by number."""
        query = select(*SEALS.columns).order_by(SEALS.c.es_id)
        if name is not None:
            query = query.where(SEALS.c.name == name)
        with self._lender.read() as connection:
            rows = SEALS.read(connection, query)
        return [replace(row, content=row.content or b"") for row in rows]

    def save(self, row: SealRow, *, actor: str, action: str, detail: str) -> SealRow:
        """Keep a new or changed seal, with its line of the audit trail.

        Raises Stale when somebody else has changed it since it was read, Integrity when a new
        one has the number of another.
        """
        after = replace(row, updated_at=self._clock(), version=row.version + 1)

        def write(connection: Connection) -> None:
            if row.version == 0:
                if SEALS.insert_missing(connection, [after]):
                    raise contradiction(f"seal {row.es_id}")
                return
            result = connection.execute(
                update(SEALS.table)
                .where(SEALS.c.es_id == row.es_id, SEALS.c.version == row.version)
                .values(SEALS.values(after))
            )
            if result.rowcount != 1:
                raise stale(f"seal {row.es_id}")

        self._audit.append(actor, action, row.es_id, detail, beside=write)
        return after
