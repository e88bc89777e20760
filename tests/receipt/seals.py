"""Parties with seals, for tests: a root and what it stands for; and the receipt of a batch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from exchange.receipt import Receipt, SentBatch
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.crypto.suites import SM2_SM3, Suite
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.test_authority import issue, make_authority, make_seal

NOW = datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC)


@dataclass(frozen=True)
class Party:
    root: bytes
    sealer: Sealer


def make_party(
    name: str,
    suite: Suite = SM2_SM3,
    now: datetime = NOW,
    *,
    unit: str = "",
    es_id: str = "2327000000001",
) -> Party:
    root = make_authority(f"{name} root", suite, now=now, entropy=os.urandom)
    signer = issue(root, f"{name} signer", now=now, entropy=os.urandom, unit=unit)
    maker = issue(root, f"{name} maker", now=now, entropy=os.urandom)
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name=name,
        es_id=es_id,
        created=now - timedelta(hours=1),
        valid_until=now + timedelta(days=365),
    )
    return Party(root.certificate, Sealer(signer.signer, eseal))


def receipt_of(batch: Statement, /, **changes: Any) -> Receipt:
    """Return the receipt of a whole batch, or one that differs in ``changes``."""
    sent = SentBatch.of(batch)
    receipt = Receipt(
        receipt_no="R-1",
        batch_no=sent.batch_no,
        resource=sent.resource,
        resource_code=sent.resource_code,
        statement=sent.statement,
        root=sent.root,
        rows_sent=sent.rows,
        rows_accepted=sent.rows,
        rows_rejected=0,
        message="成功",
        received_at=instant(NOW),
        province="23",
    )
    return replace(receipt, **changes)


STATEMENT = Statement(
    suite="sm2-sm3",
    department="11232700MB0A12345X",
    resource="permits",
    resource_code="307001/1",
    catalog_version="1",
    catalog_digest="sm3:" + "0" * 64,
    schema="sm3:" + "1" * 64,
    batch_no="2026112300001",
    lane=0,
    rows=10,
    inserts=10,
    updates=0,
    deletes=0,
    root="a" * 64,
    payload="b" * 64,
    previous="",
    pulled_at=instant(NOW),
    sealed_at=instant(NOW),
    source="s",
    pull="p",
    accepted=10,
    rejected=1,
)
RECEIPT = receipt_of(STATEMENT, rows_accepted=9, rows_rejected=1)
