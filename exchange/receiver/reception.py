"""What happens to a batch at the province, without HTTP: verify, keep, answer.

The order is the promise. A receipt leaves only after the file and the row that holds this
very receipt are durable, and whoever sends the batch again gets the row's receipt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from exchange.durable import PART, write_file
from exchange.errors import ExchangeError, Misconfigured, Rejected
from exchange.evidence.checkpoint import Checkpoint
from exchange.receipt import Receipt, issue
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.batch.verify import verify_batch
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.trust import Trust
from exchange.store.database import Store
from exchange.store.receiver.batches import ReceivedBatchRow

_LOGGER = logging.getLogger(__name__)
_MAX_NAMED = 10
"""Failed checks that a refusal names."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's HTTP status and envelope; ``retry_after`` in seconds."""

    status: int
    message: str
    data: Mapping[str, object] = field(default_factory=dict)
    retry_after: int | None = None

    @property
    def envelope(self) -> dict[str, object]:
        """Return ``{"code", "message", "data"}``, as the national platforms do."""
        return {"code": str(self.status), "message": self.message, "data": dict(self.data)}


BUSY = Reply(503, "接收端暂时无法保存，请稍后重试", retry_after=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Takes batches in; safe to use from several threads at once."""

    folder: Path
    province: str
    trust: Trust = field(repr=False)
    store: Store
    sealer: Sealer
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    failpoint: Callable[[str], None] = lambda _name: None
    """Called before and after each step that lasts, with its name; a kill test strikes there."""

    def take(self, data: bytes, *, rid: str, claimed: Mapping[str, str]) -> Reply:
        """Take one batch in; never raises for what the caller sent.

        ``claimed`` are values that the request gave beside the file (``batch_no``,
        ``resource``, ``department``), which have to be those of the statement.
        """
        try:
            return self._take(data, rid, claimed)
        except (OSError, ExchangeError) as error:
            if isinstance(error, Rejected) and not isinstance(error, Misconfigured):
                return Reply(422, error.what.zh)
            # Ours to mend (disk, store, seal): nothing was promised, the caller comes again.
            _LOGGER.error("cannot keep a batch: %s", error)  # noqa: TRY400 (one line will do)
            return BUSY

    def _take(self, data: bytes, rid: str, claimed: Mapping[str, str]) -> Reply:
        verification = verify_batch(data, trust=self.trust)
        statement = verification.statement
        if not verification.ok or statement is None:
            names = [check.name for check in verification.failed][:_MAX_NAMED]
            self.store.audit.append(rid, "receiver.refused", "", ", ".join(names))
            return Reply(422, f"批次未通过验证：{'、'.join(names)}", {"failed": names})
        for name, value in claimed.items():
            if value != getattr(statement, name):
                return Reply(400, f"请求头中的 {name} 与批次声明不一致")
        kept = self.store.received_batches.get(
            statement.department, statement.resource, statement.batch_no
        ) or self._keep(data, statement, rid)
        return self._answer(kept, statement, rid)

    def _log(self, rid: str) -> str:
        """Say what of the caller's evidence log was seen last; the receipt's seal covers it."""
        for row in self.store.witnessed_checkpoints.of(rid)[:1]:
            head = Checkpoint.from_bytes(row.note).head
            return f"{head.origin} {head.size} {head.root.hex()}"
        return ""

    def _keep(self, data: bytes, statement: Statement, rid: str) -> ReceivedBatchRow:
        """Make the file durable, then the row; return the row that counts.

        When one number comes twice at once, the row of whoever was first is returned.
        """
        digest = statement.digest
        name = f"{statement.batch_no}-{digest[:16]}.avro"
        path = self.folder / statement.department / statement.resource / name
        self.failpoint("file:before")
        token = self.entropy(8).hex()  # another receiver may share the folder
        write_file(path, data, part=path.with_name(f".{path.name}.{token}{PART}"))
        self.failpoint("file:after")
        now = self.clock()
        receipt = Receipt(
            suite=self.sealer.suite.id,
            receipt_no=f"R{now:%Y%m%d}-{self.entropy(8).hex()}",
            batch_no=statement.batch_no,
            resource=statement.resource,
            resource_code=statement.resource_code,
            statement=digest,
            root=statement.root,
            rows_sent=statement.rows,
            rows_accepted=statement.rows,
            rows_rejected=0,
            message="接收成功",
            received_at=instant(now),
            province=self.province,
            log=self._log(rid),
        )
        row = ReceivedBatchRow(
            sender=statement.department,
            resource=statement.resource,
            batch_no=statement.batch_no,
            statement=digest,
            rows=statement.rows,
            path=str(path.relative_to(self.folder)),
            receipt_no=receipt.receipt_no,
            receipt=issue(receipt, self.sealer, now),
            received_at=now,
        )
        self.failpoint("row:before")
        kept = self.store.received_batches.add(row)
        self.failpoint("row:after")
        return kept

    def _answer(self, kept: ReceivedBatchRow, statement: Statement, rid: str) -> Reply:
        """Answer with the receipt that is kept, if it is for this batch."""
        self.failpoint("answer:before")
        if kept.statement == statement.digest:
            return Reply(200, "接收成功", {"receipt": kept.receipt.decode()})
        subject = f"{statement.department}/{statement.resource}/{statement.batch_no}"
        detail = f"kept {kept.statement}, refused {statement.digest}"
        self.store.audit.append(rid, "receiver.conflict", subject, detail)
        _LOGGER.warning("batch number used twice: %s, %s", subject, detail)
        return Reply(
            409,
            f"批次号 {statement.batch_no} 已用于另一份内容，不予接收",
            {"statement": kept.statement},
        )
