"""The receiving side: what it has answered, against the files that it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exchange.audit.findings import Findings
from exchange.receipt import SentBatch
from exchange.receipt import check as check_receipt
from exchange.seal.batch.verify import verify_batch
from exchange.seal.pki.trust import Trust

if TYPE_CHECKING:
    from exchange.store.database import Store

_BATCH = ".avro"
_OWN = frozenset({
    *("format", "code", "batch", "statement", "root", "counts", "time"),
    *("signature.format", "signature.digest", "signature.value"),
})  # fmt: skip
"""Checks of a receipt that need no trust."""


def check_received(store: Store | None, folder: Path, trust: Trust, findings: Findings) -> int:
    """Compare rows, files and receipts of a receiver; return how many batches it has.

    ``store`` is None where its database is gone; ``trust`` is that in the departments. Whether
    somebody else would trust the receiver's own seal is not asked here.
    """
    files = {path.relative_to(folder).as_posix() for path in folder.rglob(f"*{_BATCH}")}
    if store is None:
        if files:
            found = f"{len(files)} files and no database"
            findings.fault("received.files", str(folder), "a row for each file", found)
        return 0
    count = 0
    for row in store.received_batches.walk():
        count += 1
        where = f"{row.department}/{row.resource}/{row.batch_no}"
        if row.path not in files:
            findings.fault("received.rows", where, row.path, "no file")
            continue
        files.discard(row.path)
        verified = verify_batch((folder / row.path).read_bytes(), trust=trust)
        for check in verified.failed:
            at = f"{row.path} {check.name}"
            findings.fault("received.rows", at, check.expected, check.found)
        statement = verified.statement
        if statement is None:
            continue
        findings.equal("received.rows", f"{where} statement", row.statement, statement.digest)
        for check in check_receipt(
            row.receipt, trust=Trust(()), batch=SentBatch.of(statement)
        ).failed:
            if check.name in _OWN:
                at = f"receipt of {where} {check.name}"
                findings.fault("received.rows", at, check.expected, check.found)
    for path in sorted(files):
        findings.fault("received.files", path, "a row in the store", "none")
    return count
