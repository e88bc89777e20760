"""The rows of the store. Times are aware, in UTC, kept to the millisecond."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One sealed batch on its way to the province (投递)."""

    resource: str
    batch_no: str
    """批次号: unique per resource; as text, later batches sort behind earlier ones."""
    topic: str
    partition: int
    offset: int
    """Topic, partition and offset are the address of the sealed batch in the log."""
    statement: str
    """Digest of the sealed statement, ``<hash>:<hex>`` or plain hex."""
    root: str
    rows: int
    state: str
    pull: str = ""
    """The pull that the rows came from."""
    attempts: int = 0
    due: datetime | None = None
    """Not before this time; for a leased delivery, the end of the lease."""
    owner: str = ""
    """Worker that holds the lease."""
    code: str = ""
    reason: str = ""
    """Code and text of the last trouble, as given."""
    receipt_no: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 0
    """Rises with each save; a save of an older version is refused."""


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt (回执) whose every check passed."""

    receipt_no: str
    resource: str
    batch_no: str
    content: bytes = field(repr=False)
    received_at: datetime
    rows_sent: int
    rows_accepted: int
    rows_rejected: int


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One message of refused records (隔离), by its address in the log."""

    topic: str
    partition: int
    offset: int
    resource: str
    source: str
    pull: str
    locator: str
    """File and sheet, or table, that the records came from."""
    rows: int
    reasons: Mapping[str, int]
    """Rule id → number of records refused by it."""
    catalog_version: str
    created_at: datetime
    replayed: int = 0
    dismissed: int = 0

    @property
    def waiting(self) -> int:
        """Records that nobody has replayed or dismissed yet."""
        return self.rows - self.replayed - self.dismissed


@dataclass(frozen=True, slots=True)
class TouchedRow:
    """A refused record that somebody decided about; ``row`` counts from 0 in its message."""

    row: int
    state: str
    """``replayed`` (已重放) or ``dismissed`` (已忽略)."""
    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class PullRow:
    """One run over one source (抽取). Nothing is lost when pulled = accepted + quarantined."""

    pull: str
    source: str
    resource: str
    started_at: datetime
    state: str
    ended_at: datetime | None = None
    pulled: int = 0
    code: str = ""
    error: str = ""
    accepted: int = 0
    """Computed from the deliveries of this pull; ignored on save."""
    quarantined: int = 0
    """Computed from the quarantine index; ignored on save."""


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A row of a source that is no record (a title, a group heading), and why."""

    pull: str
    locator: str
    row: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ReceivedRow:
    """A batch that the receiver took in and answered."""

    sender: str
    resource: str
    batch_no: str
    statement: str
    rows: int
    path: str
    receipt_no: str
    receipt: bytes = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class WitnessedRow:
    """The newest checkpoint of a caller's evidence log that the receiver has signed along."""

    sender: str
    origin: str
    size: int
    note: bytes = field(repr=False)
    """The checkpoint's text."""
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit trail (审计), chained to the one before by its digest."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class SealRow:
    """One electronic seal (电子印章) of the register, by its number ``es_id``."""

    es_id: str
    name: str
    """Department or other name that the settings have for it."""
    state: str
    apply_no: str = ""
    applied_at: datetime | None = None
    approve_no: str = ""
    approved_at: datetime | None = None
    filing_no: str = ""
    filed_at: datetime | None = None
    police_code: str = ""
    """Number of the public security's filing (公安备案编码)."""
    reason: str = ""
    """Why it was suspended, lost or cancelled."""
    content: bytes = field(default=b"", repr=False)
    """The newest SESeal, DER; empty before it is made."""
    updated_at: datetime | None = None
    version: int = 0
    """Rises with each save; 0: not kept yet."""
