"""Parties with seals, for tests: a root and what it stands for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exchange.seal.ses import Sealer
from exchange.seal.suites import SM2_SM3, Suite
from exchange.seal.testca import issue, make_authority, make_seal

NOW = datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC)


@dataclass(frozen=True)
class Party:
    root: bytes
    sealer: Sealer


def make_party(name: str, suite: Suite = SM2_SM3, now: datetime = NOW) -> Party:
    root = make_authority(f"{name} root", suite, now=now, entropy=os.urandom)
    signer = issue(root, f"{name} signer", now=now, entropy=os.urandom)
    maker = issue(root, f"{name} maker", now=now, entropy=os.urandom)
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name=name,
        es_id="2327000000001",
        created=now - timedelta(hours=1),
        valid_until=now + timedelta(days=365),
    )
    return Party(root.certificate, Sealer(signer.signer, eseal))
