"""What happens to a batch at the province, without HTTP: verify, keep, answer.

The order is the promise. A receipt leaves only after the file and the row that holds this
very receipt are durable, and whoever sends the batch again gets the row's receipt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from exchange.durable import PART, write_file
from exchange.errors import ExchangeError, Misconfigured, Rejected
from exchange.evidence.checkpoint import Checkpoint
from exchange.receipt import Receipt, issue
from exchange.receiver.callers import Caller
from exchange.receiver.chain import advance, early, gap, is_behind
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.batch.verify import verify_batch
from exchange.seal.eseal.signature import Sealer
from exchange.store.database import Store
from exchange.store.receiver.batches import ANYBODY, ChainRow, ReceivedBatchRow

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
    ahead: timedelta
    """How far ahead of our clock a batch may have been sealed."""
    store: Store
    sealer: Sealer
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    failpoint: Callable[[str], None] = lambda _name: None
    """Called before and after each step that lasts, with its name; a kill test strikes there."""

    def take(self, data: bytes, *, caller: Caller, claimed: Mapping[str, str]) -> Reply:
        """Take one batch in; never raises for what the caller sent.

        ``claimed`` are values that the request gave beside the file (``batch_no``,
        ``resource``, ``department``), which have to be those of the statement.
        """
        try:
            return self._take(data, caller, claimed)
        except (OSError, ExchangeError) as error:
            if isinstance(error, Rejected) and not isinstance(error, Misconfigured):
                return Reply(422, error.what.zh)
            # Ours to mend (disk, store, seal): nothing was promised, the caller comes again.
            _LOGGER.error("cannot keep a batch: %s", error)  # noqa: TRY400 (one line will do)
            return BUSY

    def _take(self, data: bytes, caller: Caller, claimed: Mapping[str, str]) -> Reply:
        rid, verification = caller.rid, verify_batch(data, trust=caller.trust)
        statement = verification.statement
        if not verification.ok or statement is None:
            names = [check.name for check in verification.failed][:_MAX_NAMED]
            self.store.audit.append(rid, "receiver.refused", "", ", ".join(names))
            return Reply(422, f"批次未通过验证：{'、'.join(names)}", {"failed": names})
        for name, value in claimed.items():
            if value != getattr(statement, name):
                return Reply(400, f"请求头中的 {name} 与批次声明不一致")
        refusal = caller.scope.refusal(statement, str(verification.facts["seal_number"]))
        if refusal is not None:
            subject = f"{statement.department}/{statement.resource}/{statement.batch_no}"
            self.store.audit.append(rid, "receiver.denied", subject, refusal.what.en)
            return Reply(403, refusal.what.zh, {"scope": refusal.part})
        return self._place(data, statement, rid)

    def _place(self, data: bytes, statement: Statement, rid: str) -> Reply:
        """Answer a batch that is in order by itself: by its number and its place in the chain."""
        batches = self.store.received_batches
        subject = statement.department, statement.resource
        same = batches.numbered(*subject, statement.batch_no)
        before = batches.chain(*subject, statement.lane, rid)
        # Whoever sent it: the same bytes get the same receipt. The chain of this caller goes on
        # with them as if nobody had been faster.
        known = next((row for row in same if row.statement == statement.digest), None)
        if known is not None and (known.sender in {rid, ANYBODY} or is_behind(before, statement)):
            return self._answer(known, statement, rid)
        wrong = gap(before, statement)
        if known is not None and wrong is None:
            batches.move(before, advance(before, statement, rid))
            return self._answer(known, statement, rid)
        early_by = early(statement, self.clock(), self.ahead)
        if early_by:
            return Reply(
                425,
                f"封签时间 {statement.sealed_at} 在未来，请校准系统时间",
                {"sealed_at": statement.sealed_at},
                retry_after=early_by,
            )
        own = [row for row in same if row.sender in {rid, ANYBODY}]
        admission = batches.admission(statement.digest) if own or wrong is not None else None
        if own and admission is None:
            return self._answer(own[-1], statement, rid)
        place = "/".join((*subject, statement.batch_no))
        if wrong is not None and admission is None:
            self.store.audit.append(rid, "receiver.gap", place, json.dumps(wrong.data))
            return Reply(424, wrong.message, {**wrong.data, "statement": statement.digest})
        version = 1 + max((row.version for row in same if row.sender == rid), default=0)
        after = advance(before, statement, rid)
        kept = self._keep(data, statement, rid, version, (before, after))
        if admission is not None:
            detail = f"version {version}, {statement.digest}: {admission.reason}"
            self.store.audit.append(rid, "receiver.admitted", place, detail)
        return self._answer(kept, statement, rid)

    def _log(self, rid: str) -> str:
        """Say what of the caller's evidence log was seen last; the receipt's seal covers it."""
        for row in self.store.witnessed_checkpoints.of(rid)[:1]:
            head = Checkpoint.from_bytes(row.note).head
            return f"{head.origin} {head.size} {head.root.hex()}"
        return ""

    def _keep(
        self,
        data: bytes,
        statement: Statement,
        rid: str,
        version: int,
        chain: tuple[ChainRow | None, ChainRow],
    ) -> ReceivedBatchRow:
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
            department=statement.department,
            resource=statement.resource,
            batch_no=statement.batch_no,
            sender=rid,
            version=version,
            statement=digest,
            rows=statement.rows,
            path=str(path.relative_to(self.folder)),
            receipt_no=receipt.receipt_no,
            receipt=issue(receipt, self.sealer, now),
            received_at=now,
        )
        self.failpoint("row:before")
        kept = self.store.received_batches.add(row, *chain)
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
            {"statement": statement.digest, "kept": kept.statement},
        )
