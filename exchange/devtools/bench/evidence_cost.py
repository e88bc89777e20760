"""What evidence costs: a seal by its suite, a package of one record, the audit of a long log."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.evidence.audit import audit
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import MAX_APPEND, EvidenceLog, LogReader
from exchange.evidence.package import make_package, unwrap, wrap
from exchange.seal.batch import jcs
from exchange.seal.batch.prove import Proof, prove
from exchange.seal.crypto.suites import SUITES
from exchange.seal.eseal.pilot import make_unit_seal
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.test_authority import make_authority
from exchange.seal.pki.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from exchange.node.node import Node

_ORIGIN: Final = "bench"
_NAME: Final = "压测单位"


def sealers(now: datetime) -> dict[str, tuple[Sealer, bytes]]:
    """Make a seal of each suite, with the root that vouches for it (DER)."""
    result = {}
    for name, suite in SUITES.items():
        root = make_authority(_NAME, suite, now=now, entropy=os.urandom)
        signer, eseal = make_unit_seal(root, _NAME, _ORIGIN, now=now, entropy=os.urandom)
        result[name] = Sealer(signer.signer, eseal), root.certificate
    return result


@dataclass(frozen=True, slots=True)
class PackageSize:
    """The size of an evidence package of one record, in bytes."""

    rows: int
    """Rows of the record's batch."""
    entries: int
    """Entries of the log's witnessed checkpoint."""
    whole: int
    bare: int
    """Without certificates, seals (which are such), revocation lists, the record and its schema."""


def packaged(node: Node, resource: str) -> PackageSize:
    """Make the package of the first record of the resource's largest batch."""
    delivery = max(node.store.deliveries.find(resource=resource), key=lambda row: row.rows)
    receipt = node.store.receipts.get(resource, delivery.batch_no)
    assert receipt is not None  # noqa: S101 - all has been delivered
    address = (delivery.topic, delivery.partition, delivery.offset)
    (entry,) = node.log.read(*address, max_entries=1)
    proof = Proof.from_bytes(prove(entry.value, row=1))
    log = LogReader.at(node.settings.resolve(node.settings.evidence.folder))
    whole = make_package(log, proof=proof.to_bytes(), receipt=receipt.content)
    value = cast("Any", jcs.decode(unwrap(whole)))
    value |= {"certificates": [], "revocation": []}
    value["proof"] |= dict.fromkeys(("record", "schema", "seal"), "")
    value["receipt"] |= {"seal": ""}
    return PackageSize(proof.size, log.size, len(whole), len(wrap(jcs.encode(value))))


@dataclass(frozen=True, slots=True)
class AuditCost:
    """An audit of a log, in seconds of wall time."""

    entries: int
    seconds: float
    append: float
    """Seconds that filling the log took."""
    size: int
    """Bytes of its files."""


def audited(folder: Path, entries: int, now: datetime) -> AuditCost:
    """Fill a log in ``folder``, sign it, audit it, remove it."""
    sealer, root = sealers(now)["sm2-sm3"]
    start = time.perf_counter()
    with EvidenceLog.open(folder, origin=_ORIGIN) as log:
        for first in range(0, entries, MAX_APPEND):
            log.append([*_entries(first, min(first + MAX_APPEND, entries))])
        log.checkpoint(sealer, now + timedelta(seconds=1))
    filled = time.perf_counter()
    result = audit(folder, trust=Trust((root,)))
    end = time.perf_counter()
    assert result.ok, result.failed  # noqa: S101 - else the figure means nothing
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return AuditCost(entries, end - filled, filled - start, size)


def _entries(first: int, end: int) -> Iterator[bytes]:
    for number in range(first, end):
        digest = hashlib.sha256(number.to_bytes(8)).hexdigest()
        yield EvidenceEntry(
            type="receipt" if number % 2 else "statement",
            resource=_ORIGIN,
            lane=0,
            batch_no=f"{number:013}",
            digest=f"sm3:{digest}",
        ).to_bytes()
