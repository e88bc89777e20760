"""Make ``tests/vectors/evidence``: a small log and one evidence package.

Run ``python -m tests.evidence.make_vectors``; keys and signatures are new each time, the tree
is always the same. The record is the third of ``tests/vectors/batch/sm2-sm3.avro``.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import LogReader
from exchange.evidence.package import make_package
from exchange.receipt import issue
from exchange.seal.batch.prove import Proof
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.crypto.der import to_pem
from tests.evidence.samples import entries, open_log, party, witness
from tests.receipt.seals import NOW, receipt_of

VECTORS = Path(__file__).parents[1] / "vectors"
FOLDER = VECTORS / "evidence"
FIRST, SIZE = 100, 260
"""Entries at the first checkpoint, and in all."""


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    node, province = party("node"), party("province")
    proof = (VECTORS / "batch/sm2-sm3.proof.json").read_bytes()
    statement = Statement.from_bytes(Proof.from_bytes(proof).statement)
    at = NOW + timedelta(seconds=5)
    receipt = issue(
        receipt_of(statement, receipt_no="R-2026-1", received_at=instant(at)), province.sealer, at
    )
    with open_log(FOLDER / "log") as log:
        log.append(entries(0, FIRST))
        note = log.checkpoint(node.sealer, NOW)
        first = witness(log, note, None, province=province)
        log.append([EvidenceEntry.of_statement(statement).to_bytes()])
        log.append([EvidenceEntry.of_receipt(receipt, statement).to_bytes()])
        log.append(entries(FIRST, SIZE - 2))
        at = NOW + timedelta(minutes=1)
        note = log.checkpoint(node.sealer, at)
        witness(log, note, first, province=province, at=at)
    (FOLDER / "log/lock").unlink()
    package = make_package(LogReader.at(FOLDER / "log"), proof=proof, receipt=receipt)
    (FOLDER / "record.evidence").write_bytes(package)
    for name, item in (("node", node), ("province", province)):
        (FOLDER / f"{name}.root.pem").write_bytes(to_pem("CERTIFICATE", item.root))


if __name__ == "__main__":
    main()
