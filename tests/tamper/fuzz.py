"""Every parser of untrusted bytes, with what and how often it is fed: this is the one list.

A parser is whatever reads one kind of bytes, up to its verdict. It takes its seeds (vectors of
this repository) and then gets mutants of them (:mod:`tests.tamper.mutants`). What it refuses it
refuses as documented: by a failed check or the error named here, any other ends the test. Where
signatures bind every byte no mutant may be taken. Mutants follow from the parser's name and
their number alone: ``parser.mutant(number)`` makes each again.
"""

from __future__ import annotations

import json
import signal
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from asn1crypto import core

from exchange import receipt as receipts
from exchange.errors import ExchangeError, Integrity, Rejected
from exchange.evidence.checkpoint import Head, SignedNote, Signers
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.files import Circumstances, Verifier
from exchange.evidence.package import MAX_PACKAGE, Package, unwrap, verify_package, wrap
from exchange.evidence.tiles import WIDTH, Tiles, pack, unpack
from exchange.receiver.witnessing import Asked
from exchange.seal.batch import jcs, tree
from exchange.seal.batch.container import MAX_COUNT, MAX_RECORDS, Container, compress, decompress
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.tree import split as hashes_of
from exchange.seal.batch.verify import verify_batch, verify_proof
from exchange.seal.checks import Check
from exchange.seal.crypto.der import from_pem, sequence, split
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, SUITES, Suite
from exchange.seal.eseal.signature import check_signature
from exchange.seal.eseal.stamp_file import verify_seal
from exchange.seal.eseal.structures import (
    Picture,
    read_seal,
    read_signature,
    write_signed,
    write_to_sign,
)
from exchange.seal.eseal.test_authority import Revoked, make_seal
from exchange.seal.pki.crl import read_crl, revocation
from exchange.seal.pki.timestamp import check_stamp, read_answer
from exchange.seal.pki.trust import Trust, TrustChecker
from exchange.seal.pki.x509 import read_certificate
from tests.seal.make_seals import FORMATS
from tests.seal.parties import CONTENT, NAME, NOW, URN, check, parties
from tests.tamper.mutants import mutant
from tests.tamper.world import DAY, a_list

VECTORS: Final = Path(__file__).parents[1] / "vectors"
MIB: Final = 1024 * 1024
LONGEST: Final = 20.0
"""Seconds of processor time that one input may take: nobody waits that long by chance."""


@dataclass(frozen=True)
class Parser:
    name: str
    inputs: int
    """How many in `make fuzz`; `make test` gives the first of them."""
    seeds: Callable[[], Sequence[bytes]]
    takes: Callable[[bytes], bool]
    """Whether the bytes are taken for true."""
    bound: bool = True
    """Whether every byte is bound, so that nothing but the seeds is taken."""
    refuses: type[Exception] | tuple[()] = ()
    """What it raises for bytes that it does not take; most answer with failed checks."""
    hostile: Callable[[], Sequence[bytes]] = tuple
    """Inputs that are made to exhaust the reader."""
    memory: int = 64 * MIB
    """What it may use at most, its input and seeds aside."""

    def mutant(self, number: int) -> bytes:
        """Make one of its inputs."""
        random = Random(f"{self.name} {number}")  # noqa: S311 - to be made again
        return mutant(random, self.seeds())

    def inputs_of(self, thousandths: int) -> Iterator[bytes]:
        yield from self.hostile()
        for number in range(self.inputs * thousandths // 1000):
            yield self.mutant(number)

    def verdict(self, data: bytes) -> bool:
        """Whether the bytes are taken; whatever is not documented goes up."""
        try:
            return self.takes(data)
        except self.refuses:
            return False


class Hung(BaseException):
    """An input took too long."""


@contextmanager
def watched() -> Iterator[Callable[[], object]]:
    """Give a function to call before each input: it then has so much processor time."""

    def alarm(_: int, __: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGPROF, alarm)
    try:
        yield partial(signal.setitimer, signal.ITIMER_PROF, LONGEST)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Give a function that says how many bytes the process has grown by, at its peak."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    start = _status("VmRSS")
    yield lambda: _status("VmHWM") - start


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


# --- seeds ----------------------------------------------------------------------------------------


@cache
def vector(path: str) -> bytes:
    return (VECTORS / path).read_bytes()


@cache
def parts(suite: Suite) -> Mapping[str, bytes]:
    """Return the vectors of seals."""
    text = vector(f"seal/formats/{suite.id}.json")
    return {name: b64decode(value) for name, value in json.loads(text).items()}


def batches() -> list[bytes]:
    return [vector(f"batch/{name}.avro") for name in SUITES]


def proofs() -> list[bytes]:
    return [vector(f"batch/{name}.proof.json") for name in SUITES]


@cache
def roots(*paths: str) -> tuple[bytes, ...]:
    return tuple(from_pem(vector(path))[0] for path in paths)


DEPARTMENTS: Final = tuple(f"batch/{name}.root.pem" for name in SUITES)
OWN: Final = (*DEPARTMENTS, "evidence/node.root.pem")
PROVINCE: Final = "evidence/province.root.pem"


@cache
def package() -> Package:
    return Package.from_bytes(unwrap(vector("evidence/record.evidence")))


def statement() -> Statement:
    return Statement.from_bytes(package().proof.statement)


def checkpoints() -> list[bytes]:
    return [vector("evidence/log/checkpoints/100"), vector("evidence/log/checkpoints/260")]


def signatures() -> list[bytes]:
    return _with_and_without_stamps("signature")


def seals() -> list[bytes]:
    return _with_and_without_stamps("seal")


def _with_and_without_stamps(kind: str) -> list[bytes]:
    """Return the vectors, and the stamped ones without their stamp, which nothing binds."""
    items = [parts(suite)[f"{kind} {form}"] for suite in SUITES.values() for form in FORMATS]
    return [*items, *(sequence(*split(item)[:4]) for item in items if len(split(item)) > 4)]


@cache
def stamps() -> Mapping[bytes, bytes]:
    """Return time stamp tokens, and the signature value that each is for."""
    items = [read_signature(signature) for signature in signatures()]
    return {item.stamp: item.value for item in items if item.stamp}


def lists() -> list[bytes]:
    return [parts(suite)[name] for suite in SUITES.values() for name in ("crl", "crl revoked")]


# --- parsers --------------------------------------------------------------------------------------


def records() -> list[bytes]:
    return [decompress(Container.from_bytes(batches()[0]).payload)]


def lengths() -> list[bytes]:
    return [Container.from_bytes(batches()[0]).lengths]


def schemas() -> list[bytes]:
    return [Container.from_bytes(batches()[0]).schema]


def statements() -> list[bytes]:
    return [Container.from_bytes(batch).statement for batch in batches()]


def heads() -> list[bytes]:
    return [
        SignedNote.from_bytes(checkpoint).checkpoint.head.to_bytes() for checkpoint in checkpoints()
    ]


def bundles() -> list[bytes]:
    return [vector("evidence/log/tile/entries/000")]


def log_entries() -> list[bytes]:
    return unpack(bundles()[0])[:8]


def tiles() -> list[bytes]:
    return [vector("evidence/log/tile/0/000")]


@cache
def to_signs() -> list[bytes]:
    """Return what a signature covers; made with keys of this run."""
    return [read_signature(own_signature()).signed]


@cache
def infos() -> list[bytes]:
    """Return what the maker signed of a seal."""
    return [read_seal(parties(ECDSA_P256_SHA256).eseal).signed]


@cache
def listed() -> list[bytes]:
    """Return what an authority signed of a list."""
    us = parties(ECDSA_P256_SHA256)
    revoked = Revoked(us.signer.certificate, NOW + DAY, "key_compromise", NOW + DAY)
    made = (a_list(us.ca), a_list(us.ca, revoked))
    return [split(item)[0] for item in made]


def all_hold(checks: Sequence[Check]) -> bool:
    return all(check.ok for check in checks)


def take_batch(data: bytes) -> bool:
    return verify_batch(data, trust=Trust(roots(*DEPARTMENTS))).ok


def take_records(data: bytes) -> bool:
    """Compress records anew: what is inside reaches those who read it."""
    return take_batch(_first(payload=compress(data)))


def take_lengths(data: bytes) -> bool:
    return take_batch(_first(lengths=data))


def take_schema(data: bytes) -> bool:
    return take_batch(_first(schema=data))


def _first(**changes: Any) -> bytes:
    """Put other parts into the first batch."""
    return replace(Container.from_bytes(batches()[0]), **changes).to_bytes()


def batch_bombs() -> list[bytes]:
    """Make batches that unfold to more than is read, or claim more records than there are."""
    large = compress(bytes(MAX_RECORDS + 1))
    return [
        _first(payload=large),
        _first(payload=compress(bytes(16 * MAX_RECORDS))),
        _first(payload=compress(bytes(MAX_RECORDS)), rows=MAX_COUNT, lengths=b"\0" * MAX_COUNT),
        _first(rows=2**62, lengths=b""),
    ]


def package_bombs() -> list[bytes]:
    return [wrap(bytes(MAX_PACKAGE + 1)), wrap(bytes(8 * MAX_PACKAGE)), wrap(b"[" * MAX_PACKAGE)]


def take_proof(data: bytes) -> bool:
    return verify_proof(data, trust=Trust(roots(*DEPARTMENTS))).ok


def take_receipt(data: bytes) -> bool:
    sent = receipts.SentBatch.of(statement())
    return receipts.check(data, trust=Trust(roots(PROVINCE)), batch=sent).ok


def take_package(data: bytes) -> bool:
    own, trust = Trust(roots(*OWN)), Trust(roots(PROVINCE))
    return verify_package(data, trust=own, province=trust).ok


def take_checkpoint(data: bytes) -> bool:
    items = [*package().certificates]
    signers = Signers(items, trust=Trust(roots(*OWN)), witnesses=Trust(roots(PROVINCE)))
    note = SignedNote.from_bytes(data)
    assert note.to_bytes() == data
    return all_hold(signers.check(note))


def take_signature(data: bytes) -> bool:
    return any(all_hold(_signature(data, suite)) for suite in SUITES.values())


def _signature(data: bytes, suite: Suite) -> list[Check]:
    result = parts(suite)
    return check_signature(
        data,
        result["content"],
        suite=suite,
        property_info=result["property_info"].decode(),
        chain=[result["chain"]],
        trust=Trust(
            [result["root"]], crls=[result["crl"], result["root crl"]], require_revocation=True
        ),
    )


def take_seal(data: bytes) -> bool:
    return any(
        verify_seal(data, trust=Trust([item["root"]]), chain=[item["chain"]], at=NOW).ok
        for item in map(parts, SUITES.values())
    )


def take_info(data: bytes) -> bool:
    """Sign the contents of a seal as a careless maker would, and seal with it."""
    us, suite = parties(ECDSA_P256_SHA256), ECDSA_P256_SHA256
    eseal = write_signed(data, us.maker.certificate, suite.signature_oid, us.maker.key.sign(data))
    to_sign = write_to_sign(eseal, NOW, suite.digest(CONTENT), URN)
    return take_signed(to_sign)


def take_signed(data: bytes) -> bool:
    """Sign what a signature covers as a careless department would."""
    us, suite = parties(ECDSA_P256_SHA256), ECDSA_P256_SHA256
    value = us.signer.key.sign(data)
    return _ours(write_signed(data, us.signer.certificate, suite.signature_oid, value))


def _ours(signature: bytes) -> bool:
    return all_hold(check(signature, ECDSA_P256_SHA256))


def own_signature() -> bytes:
    us = parties(ECDSA_P256_SHA256)
    return us.sealer.seal(CONTENT, property_info=URN, at=NOW)


def take_certificate(data: bytes) -> bool:
    """Let somebody sign whose certificate it is, and who has the key."""
    us, suite = parties(ECDSA_P256_SHA256), ECDSA_P256_SHA256
    eseal = make_seal(
        us.maker,
        (data,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + DAY,
        picture=Picture(b"x", 40, 40),
    )
    to_sign = write_to_sign(eseal, NOW, suite.digest(CONTENT), URN)
    signed = write_signed(to_sign, data, suite.signature_oid, us.signer.key.sign(to_sign))
    return _ours(signed)


def take_list(data: bytes) -> bool:
    """Ask a list about its issuer's certificate: it answers, or is of no use."""
    return any(_answer(data, parts(suite)) != "unknown" for suite in SUITES.values())


def _answer(data: bytes, given: Mapping[str, bytes]) -> str:
    signer = read_certificate(read_signature(given["signature v4"]).certificate)
    return revocation([read_crl(data)], signer, read_certificate(given["chain"]), NOW).standing


def take_listed(data: bytes) -> bool:
    """Sign the contents of a list as a careless authority would."""
    us, suite = parties(ECDSA_P256_SHA256), ECDSA_P256_SHA256
    value = core.OctetBitString(us.ca.key.sign(data)).dump()
    algorithm = sequence(core.ObjectIdentifier(suite.signature_oid).dump())
    crl = read_crl(sequence(data, algorithm, value))
    signer, ca = (read_certificate(item.certificate) for item in (us.signer, us.ca))
    return revocation([crl], signer, ca, NOW).standing != "unknown"


def take_stamp(data: bytes) -> bool:
    anchors = [parts(suite)["root"] for suite in SUITES.values()]
    chain = [parts(suite)["chain"] for suite in SUITES.values()]
    return any(
        check_stamp(
            "", data, stamped=value, checker=TrustChecker(Trust(anchors), chain), claimed=None
        )[1]
        is not None
        for value in stamps().values()
    )


def take_answer(data: bytes) -> bool:
    return read_answer(data) != b""


def answers() -> list[bytes]:
    return [sequence(sequence(core.Integer(0).dump()), token) for token in stamps()]


ROOT_OF_256: Final = bytes.fromhex(
    "d7133485d4a2a4e813c97b35d767206346daa4f28c2a330dfec5bf88bdc0605c"
)
"""As docs/evidence.md §9 has it."""


def take_tile(data: bytes) -> bool:
    """Read a full tile of a log: it has the root that the leaves make, or another."""
    hashes = Tiles(lambda _: data, WIDTH).tile(0, 0)
    return tree.root(SM2_SM3, hashes_of(hashes)) == ROOT_OF_256


def take_any(data: bytes) -> bool:
    """Verify a file of whatever kind, as the command does."""
    anchors = (*roots(*OWN), *(parts(suite)["root"] for suite in SUITES.values()))
    chain = (*package().certificates, *(parts(suite)["chain"] for suite in SUITES.values()))
    verifier = Verifier(
        Circumstances(trust=Trust(anchors), province=Trust(roots(PROVINCE)), at=NOW, chain=chain)
    )
    for batch in batches():
        verifier.learn(batch)
    verifier.learn(data)
    verdict = verifier.verify("", data)
    together = verifier.together()
    return verdict.ok and (together is None or together.ok)


def anything() -> list[bytes]:
    own = [vector("evidence/record.evidence"), package().receipt, *checkpoints()]
    return [*batches(), *proofs(), *own, *seals()]


def same(read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> Callable[[bytes], bool]:
    """Take what can be read, and hold that it is read to the byte."""

    def takes(data: bytes) -> bool:
        assert write(read(data)) == data
        return True

    return takes


def requests() -> list[bytes]:
    """Return what a node asks its witness."""
    values = {
        "certificates": [b64encode(certificate).decode() for certificate in package().certificates],
        "format": "exchange-witness-1",
        "note": checkpoints()[1].decode(),
        "old": 100,
        "proof": [b64encode(bytes(32)).decode()] * 3,
    }
    return [json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()]


def take_request(data: bytes) -> bool:
    return Asked.of(data).old >= 0


PARSERS: Final = (
    Parser("sealed batch", 60_000, batches, take_batch, hostile=batch_bombs, memory=256 * MIB),
    Parser("its records", 30_000, records, take_records),
    Parser("its table of lengths", 20_000, lengths, take_lengths),
    Parser("its schema", 30_000, schemas, take_schema),
    Parser(
        "statement",
        200_000,
        statements,
        same(Statement.from_bytes, Statement.to_bytes),
        bound=False,
        refuses=ValueError,
    ),
    Parser(
        "canonical JSON",
        200_000,
        statements,
        same(jcs.decode, jcs.encode),
        bound=False,
        refuses=ValueError,
    ),
    Parser("proof", 125_000, proofs, take_proof),
    Parser("receipt", 125_000, lambda: [package().receipt], take_receipt),
    Parser(
        "evidence package",
        50_000,
        lambda: [vector("evidence/record.evidence")],
        take_package,
        hostile=package_bombs,
    ),
    Parser(
        "evidence package, compressed anew",
        50_000,
        lambda: [unwrap(vector("evidence/record.evidence"))],
        lambda data: take_package(wrap(data)),
    ),
    Parser("checkpoint", 200_000, checkpoints, take_checkpoint, refuses=ValueError),
    Parser(
        "head of a log",
        200_000,
        heads,
        same(Head.from_bytes, Head.to_bytes),
        bound=False,
        refuses=ValueError,
    ),
    Parser(
        "entry of a log",
        200_000,
        log_entries,
        same(EvidenceEntry.from_bytes, EvidenceEntry.to_bytes),
        bound=False,
        refuses=ValueError,
    ),
    Parser(
        "bundle of entries", 200_000, bundles, same(unpack, pack), bound=False, refuses=ValueError
    ),
    Parser("tile", 100_000, tiles, take_tile, refuses=Integrity),
    Parser(
        "request to a witness", 200_000, requests, take_request, bound=False, refuses=ValueError
    ),
    Parser("seal signature", 125_000, signatures, take_signature),
    Parser("seal signature, signed anew", 40_000, to_signs, take_signed, bound=False),
    Parser("electronic seal", 125_000, seals, take_seal),
    Parser("electronic seal, signed anew", 40_000, infos, take_info, bound=False),
    Parser(
        "certificate",
        30_000,
        lambda: [parties(ECDSA_P256_SHA256).signer.certificate],
        take_certificate,
    ),
    Parser("revocation list", 125_000, lists, take_list, refuses=Integrity),
    Parser(
        "revocation list, signed anew", 125_000, listed, take_listed, bound=False, refuses=Integrity
    ),
    Parser("time stamp", 125_000, lambda: list(stamps()), take_stamp),
    Parser(
        "answer of a time-stamping authority",
        200_000,
        answers,
        take_answer,
        bound=False,
        refuses=ExchangeError,
    ),
    Parser("file of any kind", 100_000, anything, take_any, refuses=Rejected),
)
"""In the order of the files that come from outside, and of what is in them."""
