"""The register of electronic seals (电子印章台账) as the store shows it.

The log has every step (:mod:`exchange.pipeline.seal_register`); a row here is a seal after its
newest one, written together with the step's line of the audit trail: who, when, what, why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from sqlalchemy import Connection, Index, Integer, LargeBinary, select, update
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import TypeDecorator

from exchange.store.audit import AuditTrail
from exchange.store.columns import FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored


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
"""Made once."""


def as_stored(row: SealRow) -> SealRow:
    """Return a row as the store would give it back; raises Rejected for a name that is too long."""
    dialect = DefaultDialect()
    values = {}
    for column in SEALS.c:
        kind, value = column.type, getattr(row, column.key)
        if isinstance(kind, TypeDecorator):
            value = kind.process_result_value(kind.process_bind_param(value, dialect), dialect)
        values[column.key] = value
    return SealRow(**values)


class SealProjection:
    """The seals of the register, as the log has them."""

    def __init__(self, lender: Lender, audit: AuditTrail) -> None:
        """Work on the lender's database."""
        self._lender = lender
        self._audit = audit

    def state(self, es_id: str) -> str | None:
        """Return the state of a seal; None when it is not here."""
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

    def show(self, row: SealRow, *, actor: str, action: str, detail: str) -> bool:
        """Write a seal after a step, with the step's line of the audit trail.

        False when it is there already, as this step or a later one has left it.
        """

        def write(connection: Connection) -> None:
            if not SEALS.insert_missing(connection, [row]):
                return
            result = connection.execute(
                update(SEALS.table)
                .where(SEALS.c.es_id == row.es_id, SEALS.c.version < row.version)
                .values(SEALS.values(row))
            )
            if result.rowcount != 1:
                raise _Known

        try:
            self._audit.append(actor, action, row.es_id, detail, beside=write)
        except _Known:
            return False
        return True


class _Known(Exception):
    """The row is there already."""
