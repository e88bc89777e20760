"""Verify files of evidence as a stranger has them: told apart by their content, never by name.

In: the bytes of a sealed batch, receipt, proof, evidence package, checkpoint, seal or detached
signature, and what the reader trusts. Out: a ``FileVerdict`` for each, and one for what several
files say of each other: the chain of statements, the history of a log. Nothing is fetched, no
file is opened. Raises Rejected for a file that is none of these; whatever is wrong with one of
them is a failed check.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal, TypeVar

from exchange import receipt as receipts
from exchange.errors import ExchangeError, Rejected
from exchange.evidence.audit_report import ENVELOPE as AUDIT
from exchange.evidence.audit_report import verify_report
from exchange.evidence.checkpoint import SignedNote, Signers, consistent
from exchange.evidence.package import Package, unwrap, verify_package
from exchange.seal.batch import jcs
from exchange.seal.batch.container import MAGIC, Container
from exchange.seal.batch.prove import FORMAT as PROOF
from exchange.seal.batch.prove import Proof
from exchange.seal.batch.schema import OPERATION
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import verify_batch, verify_proof
from exchange.seal.checks import Check, Verification, equal
from exchange.seal.crypto.suites import SM2_SM3, SUITES, suite, suite_of_signature
from exchange.seal.eseal.signature import check_signature
from exchange.seal.eseal.stamp_file import verify_seal
from exchange.seal.eseal.structures import read_signature
from exchange.seal.pki.trust import Trust
from exchange.text import Text

FileKind = Literal[
    "batch",
    "receipt",
    "proof",
    "package",
    "checkpoint",
    "seal",
    "signature",
    "audit",
    "together",
    "log",
    "node",
]
T = TypeVar("T")

KINDS: Final[Mapping[FileKind, Text]] = {
    "batch": Text("封签批次", "sealed batch"),
    "receipt": Text("回执", "receipt"),
    "proof": Text("单条证明", "proof of a record"),
    "package": Text("存证包", "evidence package"),
    "checkpoint": Text("存证日志检查点", "checkpoint of an evidence log"),
    "seal": Text("电子印章", "electronic seal"),
    "signature": Text("电子签章", "electronic seal signature"),
    "audit": Text("审计报告", "report of an audit"),
    "together": Text("各文件之间", "the files together"),
    "log": Text("存证日志", "evidence log"),
    "node": Text("节点", "node"),
}
_NO_FILES: Final = frozenset({"together", "log", "node"})
_NEEDS_BATCH: Final = frozenset({"batch", "statement", "root", "counts", "time"})
"""Checks of a receipt that compare it with what was sent."""
_AUDIT: Final = f'"format":"{AUDIT}"'.encode()
_GZIP: Final = b"\x1f\x8b"
_SIGNED_BY: Final = b"\n\n\xe2\x80\x94 "
"""What a signed note has behind its text: an empty line, and an em dash."""
_SEAL_HEADER: Final = b"\x16\x02ES"
"""``ES``, an IA5String, near the beginning of every seal, and of what was signed with it."""
_INTEGER, _SEQUENCE = b"\x02", b"\x30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the reader brings along, besides the files.

    ``trust`` is that in departments and the node, ``province`` that in the province, which
    seals receipts and witnesses checkpoints. ``chain`` are certificates on the way (DER, not
    trusted), ``content`` is what a detached signature was put on, ``consistency`` proofs that
    lead from one checkpoint to a later one, ``at`` the time that seals are asked about.
    """

    trust: Trust
    province: Trust
    at: datetime
    chain: tuple[bytes, ...] = ()
    content: bytes | None = None
    consistency: tuple[tuple[bytes, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """One seal signature of a file, or a seal that stands alone: DER, and certificates beside."""

    role: Text
    signature: bytes
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What was found out about one file; the rest of its fields serve the report."""

    name: str
    kind: FileKind
    verification: Verification
    marks: tuple[Mark, ...] = ()
    statement: Statement | None = None
    note: SignedNote | None = None
    schema: str = ""
    size: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the whole file (hex), by name."""
    veiled: bool = False
    """Whether the values of its record are hidden."""

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return self.verification.ok

    @property
    def record(self) -> Mapping[str, object] | None:
        """The one record that the file is about, by field."""
        found = self.verification.facts.get("record")
        return found if isinstance(found, Mapping) else None

    def veil(self) -> FileVerdict:
        """Hide the record's values: no catalog tells here which of them are personal data."""
        if self.record is None:
            return self
        hidden = {name: veil(name, value) for name, value in self.record.items()}
        facts = {**self.verification.facts, "record": hidden}
        return replace(self, verification=replace(self.verification, facts=facts), veiled=True)


def veil(name: str, value: object) -> object:
    """Hide a value of the field ``name``: texts as 张*, and 张** for three or more, others all."""
    if name == OPERATION or value is None:
        return value
    if not isinstance(value, str):
        return "***"
    return value[:1] + "*" * min(len(value) - 1, 2) if len(value) > 1 else "*" * len(value)


def recognise(data: bytes) -> FileKind:
    """Tell what a file is, by its content; raises Rejected for anything unknown."""
    head = data[:64]
    kind: FileKind | None = None
    if data.startswith(MAGIC) or b"exchange.statement" in data[: 1024 * 1024]:
        kind = "batch"
    elif data.startswith(_GZIP):
        kind = "package"
    elif data.lstrip()[:1] == b"{" and _AUDIT in data:
        kind = "audit"  # first, for its text may name the others
    elif data.lstrip()[:1] == b"{" and receipts.ENVELOPE.encode() in data:
        kind = "receipt"
    elif data.lstrip()[:1] == b"{" and PROOF.encode() in data:
        kind = "proof"
    elif _SIGNED_BY in data:
        kind = "checkpoint"
    elif data[:1] == _SEQUENCE and _SEAL_HEADER in head:
        kind = "signature" if _inside(_inside(head))[:1] == _INTEGER else "seal"
    if kind is None:
        raise Rejected(
            Text(
                f"无法识别的文件（开头字节 {data[:16].hex() or '无'}）",
                f"a file of no known kind (it begins with {data[:16].hex() or 'nothing'})",
            ),
            hint=Text(
                "可验证："
                + "、".join(text.zh for key, text in KINDS.items() if key not in _NO_FILES),
                "what can be verified: "
                + ", ".join(text.en for key, text in KINDS.items() if key not in _NO_FILES),
            ),
        )
    return kind


def _inside(data: bytes) -> bytes:
    """Return what follows the tag and the length of a DER value."""
    length = int.from_bytes(data[1:2])
    return data[2 + (length & 0x7F if length & 0x80 else 0) :]


class Verifier:
    """Verifies one file after the other, and at the end what they say of each other."""

    def __init__(self, circumstances: Circumstances) -> None:
        self.given = circumstances
        self.statements: dict[str, tuple[str, Statement]] = {}
        """Every statement met so far with the file's name, by its digest."""
        self.notes: list[tuple[str, SignedNote]] = []
        self.pool: dict[bytes, None] = dict.fromkeys(circumstances.chain)
        """Certificates that came along with any file: of use to others, trusted by none."""

    def learn(self, data: bytes) -> None:
        """Look at a file before any is verified: another one may be about it."""
        parts = _read(lambda: _parts(recognise(data), data))
        if parts is None:
            return
        for mark in parts.marks:
            self.pool.update(dict.fromkeys(mark.chain))
        self.pool.update(dict.fromkeys(parts.certificates))
        if parts.statement is not None:
            self.statements.setdefault(parts.statement.digest, ("", parts.statement))

    def verify(self, name: str, data: bytes, batch: bytes | None = None) -> FileVerdict:
        """Verify one file; raises Rejected for one of no known kind.

        ``batch`` is the file that a receipt is about, where it is not among those learnt.
        """
        kind = recognise(data)
        parts = _read(lambda: _parts(kind, data)) or _Parts()
        found = self._verify(kind, data, parts, batch)
        if parts.statement is not None and kind == "batch":
            self.statements[parts.statement.digest] = (name, parts.statement)
        if parts.note is not None:
            self.notes.append((name, parts.note))
        return FileVerdict(
            name,
            kind,
            found,
            marks=parts.marks,
            statement=parts.statement,
            note=parts.note,
            schema=parts.schema,
            size=len(data),
            digests={each.hash_name: each.digest(data).hex() for each in SUITES.values()},
        )

    def _verify(  # noqa: PLR0911 - a line for each kind
        self, kind: FileKind, data: bytes, parts: _Parts, batch: bytes | None
    ) -> Verification:
        given = self.given
        match kind:
            case "batch":
                return verify_batch(data, trust=given.trust)
            case "proof":
                return verify_proof(data, trust=given.trust)
            case "receipt":
                return self._receipt(data, batch)
            case "package":
                return verify_package(data, trust=given.trust, province=given.province)
            case "checkpoint":
                return self._checkpoint(parts.note)
            case "audit":
                return verify_report(data, trust=given.trust)
            case "seal":
                return verify_seal(data, trust=given.trust, at=given.at, chain=given.chain)
        return self._signature(data)

    def _receipt(self, data: bytes, batch: bytes | None) -> Verification:
        """Check a receipt; without its batch the checks that need it fail, the others are made."""
        trust = self.given.province
        said = _read(lambda: receipts.read(data))
        sent: receipts.SentBatch | None = None
        why = "no batch given: name it with --batch, or among the files"
        if batch is not None:
            statement = _read(lambda: _parts("batch", batch).statement)
            sent = receipts.SentBatch.of(statement) if statement else None
            why = "the batch cannot be read"
        elif said is not None:
            sent = self._sent(said)
        if sent is not None or said is None:
            return receipts.check(data, batch=sent or _NOTHING, trust=trust)
        found = receipts.check(data, batch=_echo(said), trust=trust)
        checks = (
            replace(check, ok=False, expected="", found=why)
            if check.name in _NEEDS_BATCH
            else check
            for check in found.checks
        )
        return replace(found, checks=tuple(checks))

    def _sent(self, said: receipts.Receipt) -> receipts.SentBatch | None:
        """Find the batch of a receipt: the very one, or the one that it should be about."""
        if said.statement in self.statements:
            return receipts.SentBatch.of(self.statements[said.statement][1])
        alike = (
            receipts.SentBatch.of(statement)
            for _, statement in self.statements.values()
            if (statement.resource, statement.batch_no) == (said.resource, said.batch_no)
        )
        return next(alike, None)

    def _checkpoint(self, note: SignedNote | None) -> Verification:
        text = Text("检查点是规范的签名文本", "the checkpoint is a signed note of the known form")
        if note is None:
            return Verification((Check("checkpoint", ok=False, text=text, expected=text.en),))
        given = self.given
        known = [*self.pool, *given.trust.anchors, *given.province.anchors]
        signers = Signers(list(dict.fromkeys(known)), trust=given.trust, witnesses=given.province)
        checks = [Check("checkpoint", ok=True, text=text), *signers.check(note)]
        if not note.witnesses:
            alone = Text(
                "没有外部见证：只有节点自己为这段历史作证",
                "nobody outside has signed along: only the node vouches for this history",
            )
            checks[-1] = Check("witness.signature", ok=True, text=alone, note=True)
        head = note.checkpoint.head
        facts = {
            "log": head.origin,
            "log_size": head.size,
            "root": head.root.hex(),
            "checkpoint_at": note.checkpoint.at,
            "witnesses": [each.name for each in note.witnesses],
        }
        return Verification(tuple(checks), facts=facts)

    def _signature(self, data: bytes) -> Verification:
        """Check a signature over content that the reader brings; its name is what it says."""
        given = self.given
        read = _read(lambda: read_signature(data))
        own = suite_of_signature(read.algorithm) if read else None
        checks = check_signature(
            data,
            given.content or b"",
            suite=own or SM2_SM3,
            property_info=read.property_info if read else "",
            chain=given.chain,
            trust=given.trust,
        )
        # What the reader brings did not come along with the signature: it may be of no use.
        checks = [each for each in checks if each.name != "chain"]
        if given.content is None:
            missing = "no content given: name it with --content"
            checks = [
                replace(each, ok=False, found=missing) if each.name == "signature.digest" else each
                for each in checks
            ]
        facts = {"names": read.property_info} if read else {}
        return Verification(tuple(checks), facts=facts)

    # --- what several files say of each other ---------------------------------------------------

    def together(self) -> FileVerdict | None:
        """Check the chain of statements and the history of logs; None for lonely files."""
        checks = [*self._chains(), *self._histories()]
        return FileVerdict("", "together", Verification(tuple(checks))) if checks else None

    def _chains(self) -> Iterator[Check]:
        """Each batch names the one before it: a gap between two of a partition is one left out."""
        chains = defaultdict(list)
        for digest, (name, statement) in self.statements.items():
            if name:
                chains[statement.department, statement.resource, statement.lane].append(
                    (statement.batch_no, digest, statement.previous)
                )
        for (_, resource, partition), batches in sorted(chains.items()):
            batches.sort()
            for (before, digest, _), (after, _, previous) in pairwise(batches):
                where = f"{resource} ({partition}): {before} → {after}"
                text = Text(f"{where} 前后相接", f"{where} follow each other")
                if before == after:
                    text = Text(
                        f"{resource} {after}：同一批次号有两份不同的批次",
                        f"{resource} {after}: two different batches have this number",
                    )
                elif previous != digest:
                    text = Text(
                        f"{where} 之间缺少批次，或其一被替换",
                        f"{where}: a batch between them is left out, or one was replaced",
                    )
                yield equal("batches.previous", text, expected=digest, found=previous)

    def _histories(self) -> Iterator[Check]:
        """Two checkpoints of one log: the longer one continues the shorter one."""
        logs = defaultdict(list)
        for name, note in self.notes:
            logs[note.checkpoint.head.origin].append((note.checkpoint.head.size, name, note))
        for origin, notes in sorted(logs.items()):
            notes.sort(key=lambda each: each[:2])
            for (_, _, older), (_, _, newer) in pairwise(notes):
                yield from self._history(origin, older, newer)

    def _history(self, origin: str, older: SignedNote, newer: SignedNote) -> Iterator[Check]:
        old, new = older.checkpoint, newer.checkpoint
        where = f"{origin} {old.head.size} → {new.head.size}"
        name = "log.consistent"
        told = f"{old.head.size}: {old.head.root.hex()}; {new.head.size}: {new.head.root.hex()}"
        if old.head.size == new.head.size:
            text = Text(
                f"{where}：两份检查点是同一段历史", f"{where}: both checkpoints are one history"
            )
            yield equal(name, text, expected=old.head.root.hex(), found=new.head.root.hex())
        elif not self.given.consistency:
            text = Text(
                f"{where}：没有一致性证明（--proof），未检查是否同一段历史",
                f"{where}: not checked to be one history, as no proof was given (--proof)",
            )
            yield Check(name, ok=True, text=text, found=told, note=True)
        else:
            text = Text(f"{where}：后者延续前者", f"{where}: the later continues the earlier")
            good = any(consistent(old.head, new.head, each) for each in self.given.consistency)
            yield Check(name, good, text, expected="the second continues the first", found=told)
        if old.head.size < new.head.size:
            text = Text(
                f"{where}：较长的检查点不早于较短的",
                f"{where}: the longer one is not the older one",
            )
            yield Check("log.order", old.at <= new.at, text, expected=f">= {old.at}", found=new.at)


# --- taking files apart -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    marks: tuple[Mark, ...] = ()
    statement: Statement | None = None
    note: SignedNote | None = None
    schema: str = ""
    certificates: tuple[bytes, ...] = field(default=())


_BY_DEPARTMENT: Final = Text("部门电子签章", "the department's seal")
_BY_PROVINCE: Final = Text("省级电子签章", "the province's seal")
_BY_NODE: Final = Text("节点电子签章", "the node's seal")


def _parts(kind: FileKind, data: bytes) -> _Parts:  # noqa: PLR0911 - a line for each kind
    """Take a file apart for others to use; raises ValueError or one of our errors."""
    match kind:
        case "batch":
            batch = Container.from_bytes(data)
            return _Parts(
                (Mark(_BY_DEPARTMENT, batch.seal, batch.chain),),
                _statement(batch.statement),
                schema=batch.schema.decode(),
            )
        case "proof":
            return _of_proof(Proof.from_bytes(data))
        case "package":
            package = Package.from_bytes(unwrap(data))
            return replace(
                own := _of_proof(package.proof),
                marks=(*own.marks, _of_envelope(package.receipt, _BY_PROVINCE)),
                note=package.note,
                certificates=package.certificates,
            )
        case "receipt":
            return _Parts((_of_envelope(data, _BY_PROVINCE),))
        case "audit":
            return _Parts((_of_envelope(data, _BY_NODE),))
        case "checkpoint":
            return _Parts(note=SignedNote.from_bytes(data))
    return _Parts((Mark(KINDS[kind], data),))


def _of_proof(proof: Proof) -> _Parts:
    mark = Mark(_BY_DEPARTMENT, proof.seal, proof.chain)
    return _Parts((mark,), _statement(proof.statement), schema=proof.schema)


def _statement(data: bytes) -> Statement:
    statement = Statement.from_bytes(data)
    suite(statement.suite)  # raises Rejected: without its suite it has no digest
    return statement


def _of_envelope(data: bytes, role: Text) -> Mark:
    match jcs.decode(data):
        case {"seal": str(seal), "chain": [*chain]}:
            return Mark(role, b64decode(seal), tuple(b64decode(str(each)) for each in chain))
    raise ValueError("not an envelope")


def _read(read: Callable[[], T]) -> T | None:
    """Read what a check names the faults of."""
    try:
        return read()
    except (ValueError, ExchangeError):
        return None


_NOTHING: Final = receipts.SentBatch(
    batch_no="", resource="", resource_code="", statement="", root="", rows=0, sealed_at=""
)


def _echo(said: receipts.Receipt) -> receipts.SentBatch:
    """Take what was sent from the receipt itself: its other checks can be made then."""
    return receipts.SentBatch(
        batch_no=said.batch_no,
        resource=said.resource,
        resource_code=said.resource_code,
        statement=said.statement,
        root=said.root,
        rows=said.rows_sent,
        sealed_at=said.received_at,
    )
