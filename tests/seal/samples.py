"""A small table of every type, and a sealer for each suite; made afresh, nothing is fixed."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import polars as pl

from exchange.seal.batch.avro import Schema, parse_schema
from exchange.seal.batch.build import BatchFacts, Packed, SealedBatch, build, pack
from exchange.seal.batch.columns import encode, frame_schema
from exchange.seal.crypto.suites import SUITES
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.test_authority import ISSUING, issue, make_authority, make_seal

NOW = datetime(2026, 11, 23, 1, 2, 3, 4000, UTC)
SEED = bytes(range(16))

_TYPES: dict[str, Any] = {
    "cd_operation": {"type": "enum", "name": "Operation", "symbols": ["I", "U", "D"]},
    "order_no": "string",
    "name": ["null", "string"],
    "amount": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2},
    "count": ["null", "long"],
    "due": ["null", {"type": "int", "logicalType": "date"}],
    "called_at": {"type": "long", "logicalType": "timestamp-millis"},
    "secret": "boolean",
    "lng": ["null", "double"],
}


def _field(name: str, declared: Any) -> dict[str, Any]:
    field = {"name": name, "type": declared}
    return {**field, "default": None} if isinstance(declared, list) else field


SCHEMA: Schema = parse_schema(
    json.dumps(
        {
            "type": "record",
            "name": "hotline_order",
            "namespace": "exchange",
            "fields": [_field(name, declared) for name, declared in _TYPES.items()],
        },
        separators=(",", ":"),
    )
)

FACTS = BatchFacts(
    department="11232700MB1234567A",
    resource="hotline_order",
    resource_code="307001/1",
    catalog_version="2026.11",
    catalog_digest="sm3:" + "0" * 64,
    batch_no="2026112300001",
    lane=0,
    previous="",
    pulled_at=NOW,
    sealed_at=NOW + timedelta(seconds=1),
    source="hotline",
    pull="pull-1",
    accepted=3,
    rejected=0,
)


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "cd_operation": "IIUD"[i % 4],
            "order_no": f"WD{i:06d}",
            "name": None if i % 5 == 4 else "加格达奇区王" + "芳" * (i % 3),
            "amount": Decimal((-1) ** i * i * 997).scaleb(-2),
            "count": None if i % 3 == 2 else i * i - 10,
            "due": date(2026, 1, 1) + timedelta(days=i) if i % 2 else None,
            "called_at": NOW - timedelta(minutes=i),
            "secret": i % 2 == 0,
            "lng": None if i % 4 == 1 else i / 7,
        }
        for i in range(count)
    ]


def frame(count: int) -> pl.DataFrame:
    return pl.DataFrame(rows(count), schema=frame_schema(SCHEMA), orient="row")


def sealers(suite: str = "sm2-sm3", name: str = "大兴安岭") -> tuple[Sealer, bytes]:
    """Return a sealer, whose chain has one intermediate, and the root to trust."""
    return _sealers(suite, name)


@cache
def _sealers(suite: str, name: str) -> tuple[Sealer, bytes]:
    root = make_authority(f"{name} root", SUITES[suite], now=NOW, entropy=os.urandom)
    between = issue(root, f"{name} CA", now=NOW, entropy=os.urandom, usage=ISSUING, ca=True)
    maker = issue(between, f"{name} 制章", now=NOW, entropy=os.urandom)
    signer = issue(between, f"{name} 政务热线", now=NOW, entropy=os.urandom)
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name=f"{name} 专用章",
        es_id="23270000000001",
        created=NOW - timedelta(days=1),
        valid_until=NOW + timedelta(days=365),
    )
    return Sealer(signer.signer, eseal, (between.certificate,)), root.certificate


def packed(count: int) -> Packed:
    (only,) = pack(encode(frame(count), SCHEMA))
    return only


def sealed(count: int = 3, suite: str = "sm2-sm3") -> SealedBatch:
    return _sealed(count, suite)


@cache
def _sealed(count: int, suite: str) -> SealedBatch:
    return build(packed(count), FACTS, sealer=sealers(suite)[0], seed=SEED)
