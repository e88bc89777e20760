"""Batches that were not taken: entries of the topic of receipts, and leaves of the evidence log.

The log has a refusal before the store shows it, so that a delivery which the store calls refused
can be compared. A batch may have several: a person puts it back, and it is refused again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Self

from exchange.evidence.entry import EvidenceEntry, bytes_digest
from exchange.log import RECEIPTS, Entry, Message
from exchange.pipeline.messages import state_message, state_of
from exchange.seal.batch.statement import instant
from exchange.store.columns import stored_text

if TYPE_CHECKING:
    from exchange.pipeline.context import PipelineContext

_KIND = "refusal"


@dataclass(frozen=True, slots=True)
class RefusalEntry:
    """Why a batch was not taken, and when."""

    resource: str
    batch_no: str
    partition: int
    code: str
    reason: str
    at: str
    """UTC text as in statements."""

    @classmethod
    def new(
        cls, place: tuple[str, int], batch_no: str, code: str, reason: str, at: datetime
    ) -> Self:
        """Make the refusal of a batch of a resource's partition at this moment."""
        return cls(place[0], batch_no, place[1], code, stored_text(reason), instant(at))

    def to_message(self) -> Message:
        """Make the message."""
        said = {"at": self.at, "batch_no": self.batch_no, "code": self.code, "reason": self.reason}
        text = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        headers = {"kind": _KIND, "lane": str(self.partition)}
        return Message(RECEIPTS, text.encode(), f"{self.resource}/{self.batch_no}", headers)

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Read an entry of the topic of receipts; None for what is no refusal."""
        resource, _, batch_no = entry.key.partition("/")
        number = entry.headers.get("lane", "")
        if entry.headers.get("kind") != _KIND or not number.isdecimal():
            return None
        try:
            said = json.loads(entry.value)
            code, reason, at = (str(said[name]) for name in ("code", "reason", "at"))
        except (ValueError, KeyError, TypeError):
            return None
        return cls(resource, batch_no, int(number), code, reason, at)


def refusal_leaf(entry: Entry) -> EvidenceEntry | None:
    """Return the entry of the evidence log of a refusal; None for what is none."""
    refusal = RefusalEntry.of(entry)
    if refusal is None:
        return None
    return EvidenceEntry(
        type="refusal",
        resource=refusal.resource,
        lane=refusal.partition,
        batch_no=refusal.batch_no,
        digest=bytes_digest(entry.value),
    )


def refusals_key(resource: str, partition: int) -> str:
    """Name the state that says from which offset of the sealed topic on the log has refusals."""
    return f"refusals/{resource}/{partition}"


def refusals_from(entry: Entry | None) -> int | None:
    """Return that offset; None where nothing says so: a former version ran last."""
    offset: int | None = state_of(entry).get("offset")
    return offset


def begin_refusals(context: PipelineContext, resource: str, partition: int, position: int) -> None:
    """Note once that from ``position`` on every refusal is in the log."""
    key = refusals_key(resource, partition)
    if context.latest(key) is None:
        with context.log.transaction(f"cascade/{resource}/{partition}") as tx:
            tx.append(state_message(key, {"offset": position}))
