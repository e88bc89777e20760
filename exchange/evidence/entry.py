"""What a leaf is: one line of canonical JSON for one statement or one receipt.

::

    {"batch_no":"2026112300001","digest":"sm3:<64 hex>","lane":0,"resource":"permits",
     "type":"statement"}

(without the line break). ``digest`` is SM3 of the statement's canonical bytes, or of the
receipt's envelope, whatever suite they are sealed with. An entry follows from what it stands
for, so equal things are equal entries, and whoever has a statement can look for its leaf.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal, Self, get_args

from exchange.seal.batch import jcs
from exchange.seal.batch.statement import Statement
from exchange.seal.crypto.suites import SM2_SM3

EntryType = Literal["statement", "receipt"]

_FORM = re.compile(
    rb'\{"batch_no":"([0-9]{13})","digest":"(sm3:[0-9a-f]{64})","lane":(0|[1-9][0-9]{0,9}),'
    rb'"resource":"([a-z][a-z0-9_]{0,127})","type":"(statement|receipt)"\}'
)
"""Canonical JSON of five fixed keys is a regular language: no JSON reader is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceEntry:
    """One leaf of the log; raises ValueError for a value that is not of its form."""

    type: EntryType
    resource: str
    lane: int
    batch_no: str
    digest: str
    """``sm3:`` and the hash of the statement or of the receipt's envelope (hex)."""

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        if self.type not in get_args(EntryType) or not well_formed(self.to_bytes()):
            raise ValueError(f"not an entry of the evidence log: {str(asdict(self))[:200]}")

    @classmethod
    def of_statement(cls, statement: Statement) -> Self:
        """Return the entry of a batch's statement."""
        return cls._of("statement", statement, statement.to_bytes())

    @classmethod
    def of_receipt(cls, envelope: bytes, statement: Statement) -> Self:
        """Return the entry of the receipt (its whole file) of the batch of ``statement``."""
        return cls._of("receipt", statement, envelope)

    @classmethod
    def _of(cls, kind: EntryType, statement: Statement, data: bytes) -> Self:
        return cls(
            type=kind,
            resource=statement.resource,
            lane=statement.lane,
            batch_no=statement.batch_no,
            digest=f"sm3:{SM2_SM3.digest(data).hex()}",
        )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return jcs.encode(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an entry; raises ValueError for anything but its canonical form."""
        found = _FORM.fullmatch(data)
        if found is None:
            raise ValueError(f"not an entry of the evidence log: {data[:200]!r}")
        batch_no, digest, lane, resource, kind = (part.decode() for part in found.groups())
        return cls(
            type="statement" if kind == "statement" else "receipt",
            resource=resource,
            lane=int(lane),
            batch_no=batch_no,
            digest=digest,
        )


def well_formed(data: bytes) -> bool:
    """Whether ``data`` is an entry, to the byte."""
    return _FORM.fullmatch(data) is not None
