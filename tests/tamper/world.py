"""A department with its node, the province, a time-stamping authority, and what they make.

One world for each suite and version of the seal. Everything in it is valid: the cases of
:mod:`tests.tamper.corpus` change one thing each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from exchange.evidence.checkpoint import SignedNote, cosign
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import EvidenceLog, LogReader
from exchange.evidence.package import make_package
from exchange.receipt import issue as issue_receipt
from exchange.seal.batch.build import SealedBatch, build
from exchange.seal.batch.prove import prove
from exchange.seal.batch.statement import Statement, instant
from exchange.seal.crypto.suites import SUITES, Suite
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.test_authority import (
    ISSUING,
    STAMPING,
    Authority,
    Revoked,
    issue,
    make_authority,
    make_crl,
)
from exchange.seal.eseal.test_authority import make_seal as make_any_seal
from tests.evidence.samples import ORIGIN, entries
from tests.receipt.seals import receipt_of
from tests.seal.parties import Parties, entropy
from tests.seal.samples import FACTS, NOW, SEED, packed
from tests.seal.tsa import Stamper

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(minutes=1)
"""When the checkpoint was made that has the batches and their receipts."""
WITNESS = "province.example/witness"
OLDER = 270
"""Entries of the first checkpoint: more than a tile holds."""


@dataclass(frozen=True)
class World:
    suite: Suite
    version: int
    department: Parties
    """Also the node: its checkpoints are signed with the key of the same seal."""
    province: Parties
    tsa: Parties
    """Its maker is the time-stamping authority."""
    batches: tuple[SealedBatch, ...]
    """Three of one resource and partition, each naming the one before it."""
    receipts: tuple[bytes, ...]
    older: SignedNote
    """The checkpoint that the receipts name."""
    note: SignedNote
    """The one that has the batches and their receipts; both are witnessed."""
    newest: SignedNote
    """Signed by the node alone."""
    folder: Path
    """The evidence log."""

    @property
    def batch(self) -> SealedBatch:
        """The batch in the middle."""
        return self.batches[1]

    @property
    def receipt(self) -> bytes:
        """Its receipt."""
        return self.receipts[1]

    @cached_property
    def proof(self) -> bytes:
        """The proof of its third record."""
        return prove(self.batch.data, row=3)

    @cached_property
    def package(self) -> bytes:
        """The evidence package of that record."""
        log = LogReader.at(self.folder)
        lists = self.crls[:2]
        return make_package(log, proof=self.proof, receipt=self.receipt, revocation=lists)

    @cached_property
    def stamped(self) -> bytes:
        """The same batch with a time stamp on its seal."""
        sealer = replace(self.department.sealer, stamp=stamper(self).stamp)
        return build_batch(sealer, 2, previous=self.batches[0].digest).data

    @cached_property
    def crls(self) -> tuple[bytes, ...]:
        """Everybody's lists, on which nobody stands."""
        parties = (self.department, self.province, self.tsa)
        return tuple(a_list(item) for party in parties for item in (party.ca, party.root))


def make_world(folder: Path, suite_id: str, version: int) -> World:
    """Make everything; the evidence log is written to ``folder``."""
    suite = SUITES[suite_id]
    department, province = (make_party(name, suite, version) for name in ("部门", "省"))
    tsa = make_party("时间戳", suite, version, purposes=STAMPING)
    batches: list[SealedBatch] = []
    for number in (1, 2, 3):
        previous = batches[-1].digest if batches else ""
        batches.append(build_batch(department.sealer, number, previous=previous))
    older = grow(folder, entries(0, OLDER), department, province, at=NOW)
    receipts = [
        make_receipt(province.sealer, batch.statement, log=named(older)) for batch in batches
    ]
    pairs = zip(batches, receipts, strict=True)
    own = [entry for pair in pairs for entry in evidence(*pair)]
    note = grow(folder, own, department, province, at=LATER)
    more = entries(OLDER, OLDER + 10)
    newest = grow(folder, more, department, None, at=LATER + SECOND)
    return World(
        suite=suite,
        version=version,
        department=department,
        province=province,
        tsa=tsa,
        batches=tuple(batches),
        receipts=tuple(receipts),
        older=older,
        note=note,
        newest=newest,
        folder=folder,
    )


def make_party(
    name: str, suite: Suite, version: int = 4, *, purposes: frozenset[str] = frozenset()
) -> Parties:
    """Make a root, an issuing CA, a maker (with these purposes), a signer, and its seal."""
    root = make_authority(f"{name} root", suite, now=NOW, entropy=entropy(f"{name} root"))
    ca = issue(root, f"{name} CA", now=NOW, entropy=entropy(name), usage=ISSUING, ca=True)
    maker = certified(ca, f"{name} maker", purposes=purposes)
    signer = certified(ca, f"{name} signer")
    party = Parties(root, ca, maker, signer, b"")
    return replace(party, eseal=make_seal(party, version))


def certified(ca: Authority, name: str, **changes: Any) -> Authority:
    """Issue a certificate with a new key; ``changes`` as in ``issue``."""
    values = {"now": NOW, "entropy": entropy(f"{name} {changes}"), **changes}
    return issue(ca, name, **values)


def make_seal(party: Parties, version: int, /, **changes: Any) -> bytes:
    """Make a party's seal, or one that differs in ``changes``."""
    values: dict[str, Any] = {
        "maker": party.maker,
        "certificates": (party.signer.certificate,),
        "name": "大兴安岭 专用章",
        "es_id": "23270000000001",
        "created": NOW - DAY,
        "valid_until": NOW + 365 * DAY,
        "version": version,
    }
    return make_any_seal(**values | changes)


def a_list(authority: Authority, *revoked: Revoked) -> bytes:
    """Make an authority's revocation list of these days."""
    return make_crl(authority, revoked, this_update=NOW - DAY, next_update=NOW + DAY)


def build_batch(sealer: Sealer, number: int, **changes: Any) -> SealedBatch:
    """Seal a batch of so many rows and four; ``changes`` are facts of it."""
    values: dict[str, Any] = {
        "batch_no": f"20261123{number:05}",
        "sealed_at": NOW + number * SECOND,
        **changes,
    }
    return build(packed(4 + number), replace(FACTS, **values), sealer=sealer, seed=SEED)


def make_receipt(sealer: Sealer, statement: Statement, **changes: Any) -> bytes:
    """Issue the receipt of a batch, or one that differs in ``changes``."""
    receipt = receipt_of(
        statement,
        suite=sealer.suite.id,
        receipt_no=f"R-{statement.resource.replace('_', '-')}-{statement.batch_no}",
        received_at=instant(NOW + 10 * SECOND),
    )
    return issue_receipt(replace(receipt, **changes), sealer, LATER)


def named(note: SignedNote) -> str:
    """Name a checkpoint as receipts do."""
    head = note.checkpoint.head
    return f"{head.origin} {head.size} {head.root.hex()}"


def evidence(batch: SealedBatch, receipt: bytes) -> list[bytes]:
    """Return the two entries of a batch."""
    own = (
        EvidenceEntry.of_statement(batch.statement),
        EvidenceEntry.of_receipt(receipt, batch.statement),
    )
    return [item.to_bytes() for item in own]


def grow(
    folder: Path, new: Sequence[bytes], node: Parties, province: Parties | None, *, at: datetime
) -> SignedNote:
    """Append to a log and sign a checkpoint, which ``province`` signs along where there is one."""
    with EvidenceLog.open(folder, origin=ORIGIN) as log:
        before = log.witnessed()
        log.append(new)
        note = log.checkpoint(node.sealer, at)
        if province is None:
            return note
        size = note.checkpoint.head.size
        line = cosign(
            before.checkpoint if before else None,
            note.checkpoint,
            log.consistency(before.checkpoint.head.size, size) if before else [],
            sealer=province.sealer,
            name=WITNESS,
            at=at,
        )
        return log.add_witness(size, line, signers(province))


def signers(*parties: Parties) -> list[bytes]:
    """Return the certificates that the parties' lines on a checkpoint need."""
    return [item.certificate for party in parties for item in (party.signer, party.ca)]


def stamper(
    world: World, authority: Authority | None = None, *, at: datetime = NOW + 3 * SECOND
) -> Stamper:
    """Return the time-stamping authority of a world, or another one of its CA."""
    own = authority or world.tsa.maker
    carried = (own.certificate, world.tsa.ca.certificate)
    return Stamper(own, clock=lambda: at, certificates=carried)
