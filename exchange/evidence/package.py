"""The evidence package (存证包) of one record: a single file that proves it offline, years later.

It shows that the record was in a batch that a department sealed, that the province confirmed
that batch, and that both facts were in the node's log when somebody outside the node signed it
along. In: the proof of the record, the receipt, the log. Out: canonical JSON of the form
``exchange-evidence-1``, compressed, see ``docs/evidence.md``; or a ``Verification``, whatever
the bytes.
"""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Final, Self, TypeVar

from exchange import receipt as receipts
from exchange.errors import Integrity, Rejected
from exchange.evidence.checkpoint import CLOCK_SKEW, SignedNote, Signers, binary, needed
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import LogReader
from exchange.evidence.tiles import SUITE, leaf_hash
from exchange.seal.batch import jcs, tree
from exchange.seal.batch.prove import Proof
from exchange.seal.batch.statement import Statement, instant, moment
from exchange.seal.batch.verify import verify_proof
from exchange.seal.checks import Check, Verification
from exchange.seal.crypto.suites import SUITES
from exchange.seal.pki import crl
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import Certificate, read_certificate, verify_lasting
from exchange.text import Text

FORMAT: Final = "exchange-evidence-1"
MAX_PACKAGE: Final = 8 * 1024 * 1024
"""Bytes of the JSON, decompressed."""
MAX_CERTIFICATES: Final = 32
MAX_LISTS: Final = 16
T = TypeVar("T")

_GZIP: Final = bytes.fromhex("1f8b08000000000002ff")
"""Header of every file (RFC 1952): deflate, no name, no time, no system."""

_TEXTS: Final[Mapping[str, Text]] = {
    "package": Text("存证包是规范的 JSON", "the package is canonical JSON of the known form"),
    "log.statement": Text("声明在存证日志中", "the statement is in the log"),
    "log.receipt": Text("回执在存证日志中", "the receipt is in the log"),
    "receipt": Text("省级回执", "the province's receipt"),
    "log.time": Text(
        "检查点不早于封签时间", "the checkpoint is no earlier than the seal on the statement"
    ),
    "certificates": Text("随附的每张证书都有用", "every certificate that came along is of use"),
    "revocation": Text(
        "随附的撤销列表由链上的签发者签发",
        "every revocation list is signed by an issuer known here",
    ),
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where an entry is in the log, and its audit path to the checkpoint's root."""

    index: int
    path: tuple[bytes, ...]

    def value(self, beside: Leaf | None = None) -> dict[str, jcs.Value]:
        """Return the JSON form; hashes that end the path ``beside`` as well are only counted.

        Two entries that are near each other have nearly the same path.
        """
        value: dict[str, jcs.Value] = {"index": self.index}
        path = self.path
        if beside is not None:
            pairs = zip(reversed(path), reversed(beside.path), strict=False)
            shared = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            value["shared"] = shared
            path = path[: len(path) - shared]
        return {**value, "path": _base64(b"".join(path))}

    @classmethod
    def of(cls, value: jcs.Value, beside: Leaf | None = None) -> Self:
        """Take a leaf from its JSON form; raises ValueError."""
        match value:
            case {"index": int(index), "path": str(path), **rest}:
                shared = rest.get("shared", 0)
                end: tuple[bytes, ...] = ()
                if beside is not None and isinstance(shared, int) and shared > 0:
                    end = beside.path[-shared:]
                return cls(index, (*tree.split(binary(path)), *end))
        raise ValueError("not a leaf with index and path")

    def leads(self, entry: EvidenceEntry, note: SignedNote) -> bool:
        """Whether the path leads from the entry to the root; raises ValueError."""
        head = note.checkpoint.head
        leaf = leaf_hash(entry.to_bytes())
        path = self.path
        return head.root == tree.root_from_path(
            SUITE, leaf, index=self.index, size=head.size, path=path
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The parts of a package, as they were made by others."""

    proof: Proof
    receipt: bytes
    """The receipt's file (its envelope)."""
    note: SignedNote
    statement_leaf: Leaf
    receipt_leaf: Leaf
    certificates: tuple[bytes, ...]
    """Those that the checkpoint needs; proof and receipt have their own."""
    revocation: tuple[bytes, ...]

    def envelope(self) -> tuple[dict[str, jcs.Value], list[str]]:
        """Return the receipt's envelope and the certificates of its chain, as they stand there.

        Raises ValueError for a receipt that is none.
        """
        envelope = jcs.decode(self.receipt)
        chain = envelope.get("chain") if isinstance(envelope, Mapping) else None
        if not isinstance(envelope, Mapping) or not isinstance(chain, list):
            raise ValueError("the receipt is not an envelope")  # noqa: TRY004
        return dict(envelope), [str(each) for each in chain]

    def to_bytes(self) -> bytes:
        """Write the package; raises ValueError for a receipt that is none."""
        proof = self.proof
        envelope, receipt_chain = self.envelope()
        own, log = ([_base64(each) for each in x] for x in (proof.chain, self.certificates))
        table = list(dict.fromkeys([*own, *receipt_chain, *log]))

        def places(chain: Sequence[str]) -> list[jcs.Value]:
            return [table.index(each) for each in chain]

        return jcs.encode(
            {
                "format": FORMAT,
                "proof": {
                    "record": _base64(proof.record),
                    "salt": proof.salt.hex(),
                    "index": proof.index,
                    "size": proof.size,
                    "path": _base64(b"".join(proof.path)),
                    "statement": jcs.decode(proof.statement),
                    "seal": _base64(proof.seal),
                    "chain": places(own),
                    "schema": proof.schema,
                },
                "receipt": {**envelope, "chain": places(receipt_chain)},
                "statement_leaf": self.statement_leaf.value(),
                "receipt_leaf": self.receipt_leaf.value(beside=self.statement_leaf),
                "checkpoint": self.note.to_bytes().decode(),
                "certificates": [*table],
                "checkpoint_chain": places(log),
                "revocation": [_base64(each) for each in self.revocation],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a package; raises ValueError unless ``data`` is what :meth:`to_bytes` writes."""
        match jcs.decode(data):
            case {
                "format": str(kind),
                "proof": dict(proof),
                "receipt": dict(receipt),
                "statement_leaf": statement_leaf,
                "receipt_leaf": receipt_leaf,
                "checkpoint": str(note),
                "certificates": [*certificates],
                "checkpoint_chain": [*chain],
                "revocation": [*revocation],
                **unknown,
            } if kind == FORMAT and not unknown:
                if len(certificates) > MAX_CERTIFICATES or len(revocation) > MAX_LISTS:
                    raise ValueError("too many certificates or lists")
                table = [str(each) for each in certificates]
                first = Leaf.of(statement_leaf)
                package = cls(
                    proof=_proof(proof, table),
                    receipt=jcs.encode({**receipt, "chain": [*_chosen(receipt, table)]}),
                    note=SignedNote.from_bytes(note.encode()),
                    statement_leaf=first,
                    receipt_leaf=Leaf.of(receipt_leaf, beside=first),
                    certificates=tuple(map(binary, _chosen({"chain": chain}, table))),
                    revocation=tuple(binary(str(each)) for each in revocation),
                )
            case _:
                raise ValueError(f"not an object of the form {FORMAT}")
        if package.to_bytes() != data:
            raise ValueError("a value is not in its canonical form")
        return package


def wrap(data: bytes) -> bytes:
    """Compress a package, as one gzip member; half of it is Base64 and names."""
    return _GZIP + gzip.compress(data, 9, mtime=0)[len(_GZIP) :]


def unwrap(data: bytes) -> bytes:
    """Decompress a package; raises ValueError unless it is one whole member within the limit."""
    if not data.startswith(_GZIP):
        raise ValueError("not a gzip member without name and time")
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = inflater.decompress(data, MAX_PACKAGE + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(found) > MAX_PACKAGE:
        raise ValueError(f"more than {MAX_PACKAGE} bytes")
    if not inflater.eof or inflater.unused_data:
        raise ValueError("not one whole gzip member")
    return found


def _chosen(part: Mapping[str, jcs.Value], table: Sequence[str]) -> list[str]:
    """Return the certificates that a part's ``chain`` names by their place in the table."""
    chain = part.get("chain")
    if not isinstance(chain, list):
        raise ValueError("no chain")  # noqa: TRY004
    found = []
    for each in chain:
        if not isinstance(each, int) or not 0 <= each < len(table):
            raise ValueError(f"no certificate {str(each)[:40]!r}")
        found.append(table[each])
    return found


def _proof(value: Mapping[str, jcs.Value], table: Sequence[str]) -> Proof:
    match value:
        case {
            "record": str(record),
            "salt": str(salt),
            "index": int(index),
            "size": int(size),
            "path": str(path),
            "statement": statement,
            "seal": str(seal),
            "chain": _,
            "schema": str(schema),
            **unknown,
        } if not unknown:
            return Proof(
                record=binary(record),
                salt=bytes.fromhex(salt),
                index=index,
                size=size,
                path=tuple(tree.split(binary(path))),
                statement=jcs.encode(statement),
                seal=binary(seal),
                chain=tuple(map(binary, _chosen(value, table))),
                schema=schema,
            )
    raise ValueError("not a proof")


def make_package(
    log: LogReader, *, proof: bytes, receipt: bytes, revocation: Sequence[bytes] = ()
) -> bytes:
    """Put the package of one record together; return its file.

    ``proof`` is that of :func:`exchange.seal.batch.prove.prove`, ``receipt`` the province's file
    for the batch, ``revocation`` CRLs (DER) of the time. The newest witnessed checkpoint is taken.
    Raises Rejected when statement or receipt are not in the log up to there (yet), or are not
    readable.
    """
    try:
        parts = Proof.from_bytes(proof)
        statement = Statement.from_bytes(parts.statement)
        note = log.witnessed()
        if note is None:
            raise _not_yet("no checkpoint has been witnessed")
        package = Package(
            proof=parts,
            receipt=receipt,
            note=note,
            statement_leaf=_leaf(log, note, EvidenceEntry.of_statement(statement)),
            receipt_leaf=_leaf(log, note, EvidenceEntry.of_receipt(receipt, statement)),
            certificates=tuple(needed(note, log.certificates())),
            revocation=tuple(revocation),
        )
        return wrap(package.to_bytes())
    except ValueError as error:
        raise Rejected(
            Text(f"无法制作存证包：原文：{error}", f"cannot make the package: {error}"),
            hint=Text("请检查证明和回执文件", "check the proof's and the receipt's file"),
        ) from error


def _leaf(log: LogReader, note: SignedNote, entry: EvidenceEntry) -> Leaf:
    size = note.checkpoint.head.size
    index = log.find(entry.to_bytes())
    if index is None or index >= size:
        raise _not_yet(f"the {entry.type} of {entry.resource}/{entry.batch_no} is not witnessed")
    return Leaf(index, tuple(log.inclusion(index, size)))


def _not_yet(why: str) -> Rejected:
    return Rejected(
        Text(f"还不能出具存证包：{why}", f"no package yet: {why}"),
        hint=Text(
            "请等待下一次省级回执带来见证，再导出",
            "wait for the next receipt that brings the province's line, then export again",
        ),
    )


def verify_package(data: bytes, *, trust: Trust, province: Trust | None = None) -> Verification:
    """Make all checks of a package, offline.

    ``trust`` is that in departments and the node, ``province`` that in the province, which
    seals receipts and is the witness (None: the same). The reader's lists and those of the
    package are used alike. Checks: ``package``; those of the proof and the department's seal
    (:func:`exchange.seal.batch.verify.verify_proof`); ``log.*``; ``checkpoint.*``, ``witness.*``;
    ``receipt.*`` (:func:`exchange.receipt.check`); ``certificates``, ``revocation``.
    """
    checks: list[Check] = []
    package = _read(checks, "package", lambda: Package.from_bytes(unwrap(data)))
    if package is None:
        return Verification(tuple(checks))
    own = replace(trust, crls=[*package.revocation, *trust.crls])
    theirs = province or trust
    theirs = replace(theirs, crls=[*package.revocation, *theirs.crls])
    proof = verify_proof(package.proof.to_bytes(), trust=own)
    checks += proof.checks
    facts: dict[str, object] = {**proof.facts, **_facts(package)}
    statement = _quiet(lambda: _statement(package))
    if statement is None:
        reason = "not reached because the statement cannot be read"
        names = ("log.statement", "log.receipt", "log.time", "receipt")
        checks += [Check(name, ok=False, text=_TEXTS[name], found=reason) for name in names]
    else:
        checks += _check_log(package, statement)
        sent = receipts.SentBatch.of(statement)
        receipt = receipts.check(package.receipt, trust=theirs, batch=sent)
        checks += [replace(each, name=f"receipt.{each.name}") for each in receipt.checks]
        facts["receipt"] = dict(receipt.facts)
    signers = Signers(package.certificates, trust=own, witnesses=theirs)
    checks += signers.check(package.note)
    checks += [
        _check_certificates(package, signers),
        _check_revocation(package, [*own.anchors, *theirs.anchors]),
    ]
    return Verification(tuple(checks), rows=1, facts=facts)


def _statement(package: Package) -> Statement:
    """Read the statement; raises ValueError also for a suite that nobody knows."""
    statement = Statement.from_bytes(package.proof.statement)
    if statement.suite not in SUITES:
        raise ValueError(f"unknown suite {statement.suite}")
    return statement


def _check_log(package: Package, statement: Statement) -> list[Check]:
    checks: list[Check] = []
    entries = (
        ("log.statement", package.statement_leaf, EvidenceEntry.of_statement(statement)),
        ("log.receipt", package.receipt_leaf, EvidenceEntry.of_receipt(package.receipt, statement)),
    )
    head = package.note.checkpoint.head
    for name, leaf, entry in entries:
        try:
            ok, found = leaf.leads(entry, package.note), f"leaf {leaf.index}"
        except ValueError as error:
            ok, found = False, str(error)
        expected = f"root {head.root.hex()} of {head.size} entries"
        checks.append(Check(name, ok, _TEXTS[name], expected, found))
    earliest = instant(moment(statement.sealed_at) - CLOCK_SKEW)
    at = package.note.checkpoint.at
    ok = at >= earliest  # both are UTC in one form: their order is that of the times
    checks.append(Check("log.time", ok, _TEXTS["log.time"], f">= {earliest}", at))
    return checks


def _check_certificates(package: Package, signers: Signers) -> Check:
    """Nothing may travel along unverified; proof and receipt see to their own chains."""
    holders = {each.der for each in signers.certificates}
    good = holders & signers.used
    return Check(
        "certificates",
        len(good) == len(package.certificates),
        _TEXTS["certificates"],
        expected=str(len(package.certificates)),
        found=str(len(good)),
    )


def _check_revocation(package: Package, anchors: Sequence[bytes]) -> Check:
    chains = [*package.certificates, *package.proof.chain, *anchors]
    chains += _quiet(lambda: list(map(binary, package.envelope()[1]))) or []
    issuers = [_quiet(partial(read_certificate, each)) for each in chains]
    good = sum(_signed(each, filter(None, issuers)) for each in package.revocation)
    return Check(
        "revocation",
        good == len(package.revocation),
        _TEXTS["revocation"],
        expected=str(len(package.revocation)),
        found=str(good),
    )


def _signed(data: bytes, issuers: Iterable[Certificate]) -> bool:
    found = _quiet(lambda: crl.read_crl(data))
    return found is not None and any(
        each.subject == found.issuer
        and verify_lasting(each, found.algorithm, found.signed, found.signature)
        for each in issuers
    )


def _facts(package: Package) -> dict[str, object]:
    head = package.note.checkpoint.head
    return {
        "log": head.origin,
        "log_size": head.size,
        "checkpoint_at": package.note.checkpoint.at,
        "witnesses": [each.name for each in package.note.witnesses],
    }


def _read(checks: list[Check], name: str, read: Callable[[], T]) -> T | None:
    try:
        value = read()
    except ValueError as error:
        text = _TEXTS[name]
        checks.append(Check(name, ok=False, text=text, expected=text.en, found=str(error)[:400]))
        return None
    checks.append(Check(name, ok=True, text=_TEXTS[name]))
    return value


def _quiet(read: Callable[[], T]) -> T | None:
    """Read a part whose faults another check names."""
    try:
        return read()
    except (ValueError, Integrity):
        return None


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
