"""A naive RFC 6962, entries, and logs of any size."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path

from exchange.evidence.checkpoint import SignedNote, cosign
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import EvidenceLog
from exchange.seal.crypto.suites import SM2_SM3, Suite
from exchange.seal.pki.trust import Trust
from tests.receipt.seals import NOW, Party, make_party

ORIGIN = "data.dxal.example/evidence"


def digest(data: bytes) -> bytes:
    return SM2_SM3.digest(data)


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written, over leaf hashes."""
    if not leaves:
        return digest(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return digest(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1 as it is written."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962 §2.1.2 as it is written: SUBPROOF(m, D[n], b)."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m <= k:
        return [*proof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*proof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


@cache
def entry(number: int, word: str = "") -> bytes:
    """Return one entry of the log, different for each number and word."""
    return EvidenceEntry(
        type="receipt" if number % 2 else "statement",
        resource="permits",
        lane=number % 8,
        batch_no=f"20261123{number:05}",
        digest=f"sm3:{digest(f'{number} {word}'.encode()).hex()}",
    ).to_bytes()


def entries(start: int, end: int, word: str = "") -> list[bytes]:
    return [entry(number, word) for number in range(start, end)]


def open_log(folder: Path) -> EvidenceLog:
    return EvidenceLog.open(folder, origin=ORIGIN)


@cache
def party(name: str, suite: Suite = SM2_SM3) -> Party:
    """A node or a witness with a seal, made once."""
    return make_party(name, suite)


def trust(*parties: Party) -> Trust:
    return Trust([item.root for item in parties])


def witness(
    log: EvidenceLog,
    note: SignedNote,
    previous: SignedNote | None,
    *,
    province: Party,
    at: datetime = NOW,
) -> SignedNote:
    """Have the province sign a checkpoint along, and keep its line."""
    old = previous.checkpoint if previous else None
    size = note.checkpoint.head.size
    line = cosign(
        old,
        note.checkpoint,
        log.consistency(old.head.size, size) if old else [],
        sealer=province.sealer,
        name="province.example/witness",
        at=at,
    )
    return log.add_witness(size, line, [province.sealer.signer.certificate])
