"""The parties of a seal, made by our own authority: root, issuing CA, maker, signer."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from exchange.seal.checks import Check
from exchange.seal.crypto.suites import Suite
from exchange.seal.eseal.signature import Sealer, check_signature
from exchange.seal.eseal.test_authority import (
    ISSUING,
    Authority,
    issue,
    make_authority,
    make_seal,
)
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate, verify_with

NOW = datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC)
NAME = "大兴安岭地区市场监督管理局电子印章"
URN = "urn:gds:batch:credit_license/2026112300001;canon=jcs"
CONTENT = b'{"format":"exchange-statement-1"}'


def entropy(seed: str) -> Callable[[int], bytes]:
    """Give the same bytes for the same seed."""
    return lambda size: hashlib.shake_128(seed.encode()).digest(size)


@dataclass(frozen=True)
class Parties:
    root: Authority
    ca: Authority
    maker: Authority
    signer: Authority
    eseal: bytes

    @property
    def sealer(self) -> Sealer:
        return Sealer(self.signer.signer, self.eseal, (self.ca.certificate,))


@cache
def parties(suite: Suite) -> Parties:
    root = make_authority("测试根", suite, now=NOW, entropy=entropy("root"))
    ca = issue(root, "测试签发机构", now=NOW, entropy=entropy("ca"), usage=ISSUING, ca=True)
    maker = issue(ca, "测试制章机构", now=NOW, entropy=entropy("maker"))
    signer = issue(ca, "大兴安岭地区市场监督管理局", now=NOW, entropy=entropy("signer"))
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name=NAME,
        es_id="23270000000001",
        created=NOW,
        valid_until=NOW + timedelta(days=700),
    )
    return Parties(root, ca, maker, signer, eseal)


def check(
    ses: bytes,
    suite: Suite,
    *,
    content: bytes = CONTENT,
    property_info: str = URN,
    chain: Sequence[bytes] | None = None,
    anchors: Sequence[bytes] | None = None,
) -> list[Check]:
    return check_signature(
        ses,
        content,
        suite=suite,
        property_info=property_info,
        chain=[parties(suite).ca.certificate] if chain is None else chain,
        trust=Trust([parties(suite).root.certificate] if anchors is None else anchors),
    )


def failed(checks: list[Check]) -> list[str]:
    return [item.name for item in checks if not item.ok]


def openssl(*arguments: str | Path) -> str:
    result = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30
    )
    assert result.returncode == 0, result.stderr
    return f"{result.stdout}{result.stderr}"


def sealed(suite: Suite) -> bytes:
    return parties(suite).sealer.seal(CONTENT, property_info=URN, at=NOW)


def flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@cache
def sealed_once(suite: Suite) -> bytes:
    return sealed(suite)


def verify_signature(suite: Suite, certificate: bytes, data: bytes, signature: bytes) -> bool:
    """Verify with the key of a certificate (DER)."""
    return verify_with(read_certificate(certificate), suite.signature_oid, data, signature)
