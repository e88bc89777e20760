"""Sealed batches to send, as small as they get."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import polars as pl

from exchange.cascade.profiles import OutgoingBatch
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.build import BatchFacts, SealedBatch, build, pack
from exchange.seal.batch.columns import encode
from exchange.seal.eseal.signature import Sealer
from tests.receipt.seals import NOW

SCHEMA = parse_schema(
    json.dumps(
        {
            "type": "record",
            "name": "permits",
            "namespace": "exchange",
            "fields": [
                {
                    "name": "cd_operation",
                    "type": {"type": "enum", "name": "cd_operation", "symbols": ["I", "U", "D"]},
                },
                {"name": "permit_no", "type": "string"},
            ],
        }
    )
)
FACTS = BatchFacts(
    department="11232700MB0A12345X",
    resource="permits",
    resource_code="307001/1",
    catalog_version="1",
    catalog_digest="sm3:" + "0" * 64,
    batch_no="2026112300001",
    lane=0,
    previous="",
    pulled_at=NOW,
    sealed_at=NOW,
    source="permits_db",
    pull="20261123-1",
    accepted=3,
    rejected=0,
)


def make_batch(
    sealer: Sealer,
    number: int = 1,
    *,
    rows: int = 3,
    resource: str = "permits",
    prefix: str = "许可",
    sealed_at: datetime = NOW,
    partition: int | None = None,
    previous: str = "",
    department: str = FACTS.department,
) -> SealedBatch:
    """Seal some rows; each number is the first of a partition of its own unless one is given."""
    frame = pl.DataFrame(
        {"cd_operation": ["I"] * rows, "permit_no": [f"{prefix}{i}" for i in range(rows)]}
    )
    (packed,) = pack(encode(frame, SCHEMA))
    facts = replace(
        FACTS,
        department=department,
        resource=resource,
        batch_no=f"20261123{number:05}",
        lane=number if partition is None else partition,
        previous=previous,
        sealed_at=sealed_at,
    )
    return build(packed, facts, sealer=sealer, seed=bytes(16))


def outgoing(batch: SealedBatch) -> OutgoingBatch:
    statement = batch.statement
    return OutgoingBatch(statement.resource, statement.batch_no, statement.department, batch.data)
