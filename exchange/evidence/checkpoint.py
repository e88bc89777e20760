"""Checkpoints: the node signs how long its log is and what root it has; a witness signs along.

The text is that of C2SP tlog-checkpoint, as a signed note::

    <origin>
    <number of entries>
    <root, Base64>
    time 2026-11-23T01:02:03.004Z

    — <origin> <Base64 of key id (4 bytes), signature>
    — <witness> <Base64 of key id (4 bytes), Unix time (8 bytes), signature>

Signatures are those of the seal's own key (SM2 with SM3, or ECDSA), as DER. They need no
electronic seal around them: that would be 2 KB for each checkpoint, and whoever makes them is
already named by the certificate. What is signed begins with a printable name, a seal's TBS_Sign
and a certificate with a DER tag: neither can pass for the other.

Sources: c2sp.org/tlog-checkpoint, /signed-note, /tlog-cosignature; RFC 6962 §3.5.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self

from exchange.errors import Integrity, Misconfigured
from exchange.evidence.tiles import EMPTY, SUITE
from exchange.seal.batch import tree
from exchange.seal.batch.jcs import MAX_INTEGER
from exchange.seal.batch.statement import instant, moment
from exchange.seal.checks import Check
from exchange.seal.crypto.suites import Suite, suite_of_curve
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.trust import SigningCertificate, Trust, TrustChecker, printed
from exchange.seal.pki.x509 import Certificate, read_certificate, verify_with
from exchange.text import Text

MAX_NOTE: Final = 16 * 1024
MAX_SIGNATURES: Final = 16
CLOCK_SKEW: Final = timedelta(minutes=10)
"""How far two parties' clocks may be apart."""

Role = Literal["log", "witness"]

_NAME = re.compile(r"[!-*,-~]{1,128}")
"""Of a log or witness: printable ASCII without space and ``+`` (signed-note)."""
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_TIME = b"time "
_DASH: Final = "\N{EM DASH} "
_KEY_ID, _STAMP = 4, 8
_LABELS: Final[dict[Role, str]] = {"log": "exchange-log", "witness": "exchange-cosignature"}


@dataclass(frozen=True, slots=True)
class Head:
    """How long a log is, and the root of its tree; raises ValueError for what cannot be."""

    origin: str
    """Name of the log, unique: ``data.example.gov.cn/evidence``."""
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        if not _NAME.fullmatch(self.origin):
            raise ValueError(f"not a name: {self.origin[:140]!r}")
        if not 0 <= self.size <= MAX_INTEGER:
            raise ValueError(f"not a size: {self.size}")
        if len(self.root) != tree.HASH_SIZE:
            raise ValueError(f"a root of {len(self.root)} bytes")
        if self.size == 0 and self.root.hex() != EMPTY:
            raise ValueError("an empty tree with a root of its own")

    def to_bytes(self) -> bytes:
        """Return the three lines."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the three lines; raises ValueError for any other spelling of them."""
        if len(data) > MAX_NOTE:
            raise ValueError(f"more than {MAX_NOTE} bytes")
        match data.decode().split("\n"):
            case [origin, size, root, ""] if _SIZE.fullmatch(size):
                return cls(origin, int(size), binary(root))
        raise ValueError("not the lines origin, size, root")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says: the head of the log, and when; ``at`` is UTC as in statements."""

    head: Head
    at: str

    def __post_init__(self) -> None:
        """Refuse values that are not of the documented form."""
        moment(self.at)

    @property
    def time(self) -> datetime:
        """The time of signing, aware."""
        return moment(self.at)

    def to_bytes(self) -> bytes:
        """Return the four lines, which are what is signed."""
        return self.head.to_bytes() + f"time {self.at}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the four lines; raises ValueError for any other spelling of them."""
        head, newline, last = data.removesuffix(b"\n").rpartition(b"\n")
        if not last.startswith(_TIME) or not data.endswith(b"\n"):
            raise ValueError("the fourth line is not the time")
        return cls(Head.from_bytes(head + newline), last.removeprefix(_TIME).decode())


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature line of a note; ``at`` is there in a witness's only, in Unix seconds."""

    name: str
    key_id: bytes
    at: int | None
    value: bytes

    def message(self, checkpoint: Checkpoint) -> bytes:
        """Return the bytes that are signed."""
        text = checkpoint.to_bytes()
        return text if self.at is None else b"cosignature/v1\ntime %d\n%b" % (self.at, text)

    def to_bytes(self) -> bytes:
        """Return the line."""
        stamp = b"" if self.at is None else self.at.to_bytes(_STAMP)
        data = b64encode(self.key_id + stamp + self.value).decode()
        return f"{_DASH}{self.name} {data}\n".encode()

    @classmethod
    def from_bytes(cls, line: bytes, *, witness: bool) -> Self:
        """Read a line; raises ValueError for any other spelling of it."""
        text = line.decode()
        name, space, data = text.removeprefix(_DASH).removesuffix("\n").partition(" ")
        if not (text.startswith(_DASH) and text.endswith("\n") and space):
            raise ValueError("not a signature line")
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name: {name[:140]!r}")
        raw = binary(data)
        start = _KEY_ID + _STAMP * witness
        at = int.from_bytes(raw[_KEY_ID:start]) if witness else None
        if len(raw) <= start or (at or 0) > MAX_INTEGER:
            raise ValueError("a signature line is cut off or has no time")
        return cls(name, raw[:_KEY_ID], at, raw[start:])


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A checkpoint with the log's signature, then those of witnesses, each name once."""

    checkpoint: Checkpoint
    signature: Signed
    witnesses: tuple[Signed, ...] = ()

    def __post_init__(self) -> None:
        """Refuse signatures of the wrong name or kind."""
        names = [each.name for each in (self.signature, *self.witnesses)]
        if self.signature.name != self.checkpoint.head.origin or self.signature.at is not None:
            raise ValueError("the first signature is not that of the log")
        if len(set(names)) != len(names) or len(names) > MAX_SIGNATURES:
            raise ValueError(f"a name signs twice, or more than {MAX_SIGNATURES} sign")

    def to_bytes(self) -> bytes:
        """Return the signed note."""
        lines = [each.to_bytes() for each in (self.signature, *self.witnesses)]
        return b"".join([self.checkpoint.to_bytes(), b"\n", *lines])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a signed note; raises ValueError for any other spelling of it."""
        if len(data) > MAX_NOTE:
            raise ValueError(f"more than {MAX_NOTE} bytes")
        text, blank, rest = data.partition(b"\n\n")
        if not blank or not rest:
            raise ValueError("no signatures")
        first, *others = rest.splitlines(keepends=True)
        return cls(
            Checkpoint.from_bytes(text + b"\n"),
            Signed.from_bytes(first, witness=False),
            tuple(Signed.from_bytes(line, witness=True) for line in others),
        )

    def with_witness(self, line: bytes) -> SignedNote:
        """Return the note with a witness's line; one of the same name is replaced.

        Raises ValueError for a line that is none.
        """
        new = Signed.from_bytes(line, witness=True)
        others = tuple(each for each in self.witnesses if each.name != new.name)
        return SignedNote(self.checkpoint, self.signature, (*others, new))


def binary(text: str) -> bytes:
    """Read Base64 in its one canonical spelling (RFC 4648 §3.5); raises ValueError."""
    data = b64decode(text, validate=True)
    if b64encode(data).decode() != text:
        raise ValueError("Base64 in another spelling")
    return data


def read_note(data: bytes) -> SignedNote:
    """Read a note; raises Integrity when it cannot be read."""
    try:
        return SignedNote.from_bytes(data)
    except ValueError as error:
        raise Integrity(
            Text(f"检查点无法识别：原文：{error}", f"cannot read the checkpoint: {error}"),
            hint=Text("请向对方重新索取原始文件", "ask for the file as it was made"),
        ) from error


def key_id(role: Role, name: str, suite: Suite, spki: bytes) -> bytes:
    """Name a key in 4 bytes, by role and holder (signed-note, type ``ff`` with a label)."""
    label = f"{_LABELS[role]}/{suite.id}".encode()
    return hashlib.sha256(name.encode() + b"\n\xff" + label + b"\n" + spki).digest()[:_KEY_ID]


def sign(head: Head, sealer: Sealer, at: datetime) -> SignedNote:
    """Sign the head of a log with the key of the node's seal.

    Raises Misconfigured where the signer's certificate is not valid at that time.
    """
    checkpoint = Checkpoint(head, instant(at))
    own = _valid_certificate(sealer, at)
    key = key_id("log", head.origin, sealer.suite, own.public_key)
    value = sealer.signer.sign(checkpoint.to_bytes())
    return SignedNote(checkpoint, Signed(head.origin, key, None, value))


def holder(
    signed: Signed, role: Role, checkpoint: Checkpoint, certificates: Sequence[Certificate]
) -> Certificate | None:
    """Find the certificate whose key made a signature line, and verify it; None: nobody's.

    Trust in that certificate is a further question, see :class:`Signers`.
    """
    for each in certificates:
        suite = suite_of_curve(each.curve)
        if (
            suite is not None
            and key_id(role, signed.name, suite, each.public_key) == signed.key_id
            and verify_with(each, suite.signature_oid, signed.message(checkpoint), signed.value)
        ):
            return each
    return None


class Signers:
    """Who may sign: certificates that came along (DER), checked by the reader's trust.

    ``trust`` is that in the node, ``witnesses`` that in witnesses. Remembers whom it has met.
    """

    def __init__(self, certificates: Sequence[bytes], *, trust: Trust, witnesses: Trust) -> None:
        self._trust: dict[Role, Trust] = {"log": trust, "witness": witnesses}
        self._checkers: dict[tuple[Role, bytes], TrustChecker] = {}
        self.certificates: list[Certificate] = []
        self.unread = 0
        for each in certificates:
            try:
                self.certificates.append(read_certificate(each))
            except Integrity:
                self.unread += 1

    @property
    def used(self) -> set[bytes]:
        """The certificates that stood in a path so far."""
        return {each for checker in self._checkers.values() for each in checker.used}

    def check(self, note: SignedNote) -> list[Check]:
        """Check every signature of a note, and its holder by path, usage, time and revocation.

        ``checkpoint.*`` of the log, then ``witness.*`` of each witness; there has to be one.
        """
        checks = self.check_log(note)
        for each in note.witnesses:
            checks += self._check_witness(note.checkpoint, each)
        if not note.witnesses:
            checks.append(
                Check("witness.signature", ok=False, text=_WITNESSED, expected="a witness's line")
            )
        return checks

    def check_log(self, note: SignedNote) -> list[Check]:
        """Check the signature of the log alone, as a witness does before it signs along."""
        return self._check("log", note.signature, note.checkpoint)

    def check_witness(self, note: SignedNote, line: bytes) -> list[Check]:
        """Check a witness's line for a note; raises ValueError for a line that is none."""
        return self._check_witness(note.checkpoint, Signed.from_bytes(line, witness=True))

    def _check_witness(self, checkpoint: Checkpoint, signed: Signed) -> list[Check]:
        at = seconds(signed.at or 0)
        return [
            *self._check("witness", signed, checkpoint),
            Check(
                "witness.time",
                at is not None and at >= checkpoint.time - CLOCK_SKEW,
                Text("见证时间不早于检查点", "the witness signed after the checkpoint was made"),
                expected=f">= {instant(checkpoint.time - CLOCK_SKEW)}",
                found=printed(at),
            ),
        ]

    def _check(self, role: Role, signed: Signed, checkpoint: Checkpoint) -> list[Check]:
        prefix, text, what = _ROLES[role]
        found = holder(signed, role, checkpoint, self.certificates)
        first = Check(
            f"{prefix}signature",
            found is not None,
            text,
            expected=f"key {signed.key_id.hex()} of {signed.name}",
            found=found.title if found else "no certificate's signature",
        )
        if found is None:
            return [first]
        at = checkpoint.time if signed.at is None else seconds(signed.at)
        checker = self._checker_of(role, found)
        return [first, *checker.faults, *checker.check(SigningCertificate(prefix, what, found, at))]

    def _checker_of(self, role: Role, leaf: Certificate) -> TrustChecker:
        """Give a certificate those of the others that may stand above it."""
        checker = self._checkers.get((role, leaf.der))
        if checker is None:
            above = _above(leaf, self.certificates)
            checker = TrustChecker(self._trust[role], [each.der for each in above])
            self._checkers[role, leaf.der] = checker
        return checker


def needed(note: SignedNote, certificates: Sequence[bytes]) -> list[bytes]:
    """Choose the certificates that a note's signatures need, and those above them (DER)."""
    pool = [read_certificate(each) for each in certificates]
    found: list[Certificate] = []
    lines: list[tuple[Role, Signed]] = [("log", note.signature)]
    lines += [("witness", each) for each in note.witnesses]
    for role, signed in lines:
        leaf = holder(signed, role, note.checkpoint, pool)
        found += [leaf, *_above(leaf, pool)] if leaf else []
    return list(dict.fromkeys(each.der for each in found))


def _above(leaf: Certificate, pool: Sequence[Certificate]) -> list[Certificate]:
    """Return the certificates of a pool that may stand above one, by their names."""
    path = [leaf]
    for each in path:
        path += [one for one in pool if one.subject == each.issuer and one not in path]
    return path[1:]


_WITNESSED: Final = Text("见证方的签名正确", "the witness's signature is right")
_ROLES: Final[dict[Role, tuple[str, Text, Text]]] = {
    "log": (
        "checkpoint.",
        Text("检查点的签名正确", "the log's signature on the checkpoint is right"),
        Text("存证日志", "the log"),
    ),
    "witness": ("witness.", _WITNESSED, Text("见证方", "the witness")),
}


def consistent(old: Head, new: Head, proof: Sequence[bytes]) -> bool:
    """Whether ``new`` is ``old`` with nothing but appended entries, of the same log."""
    if old.origin != new.origin or old.size > new.size:
        return False
    if old.size == 0:
        return not proof  # everything continues the empty log
    return tree.verify_consistency(
        SUITE,
        first=old.size,
        first_root=old.root,
        second=new.size,
        second_root=new.root,
        path=proof,
    )


def cosign(
    previous: Checkpoint | None,
    checkpoint: Checkpoint,
    proof: Sequence[bytes],
    *,
    sealer: Sealer,
    name: str,
    at: datetime,
) -> bytes:
    """Sign a checkpoint as a witness (the province): return the line to append to its note.

    ``previous`` is the last checkpoint of this log that the witness signed, None for the first
    (the caller keeps it, durably, before the line is given away); ``proof`` leads from it to
    ``checkpoint``, whose own signature the caller has verified (:func:`holder`, and the path
    of that certificate). Raises Integrity, and signs nothing, when the log does not continue:
    another history (split view, rewrite), a cut tail, an older checkpoint; also when the
    checkpoint's time runs backwards or ahead of ``at``.
    """
    if previous is not None:
        old, new = previous.head, checkpoint.head
        if new.origin != old.origin:
            raise _refused(f"origin {old.origin}", new.origin)
        if new.size < old.size:
            raise _refused(f">= {old.size} entries", f"{new.size} entries: cut off, or stale")
        if not consistent(old, new, proof):
            raise _refused(
                f"continues root {old.root.hex()} of {old.size} entries",
                f"root {new.root.hex()} of {new.size} entries does not",
            )
        if checkpoint.time < previous.time:
            raise _refused(f"time >= {previous.at}", checkpoint.at)
    elif proof:
        raise _refused("no proof for the first checkpoint", f"{len(proof)} hashes")
    if checkpoint.time > at + CLOCK_SKEW:
        raise _refused(f"time <= {instant(at + CLOCK_SKEW)}", checkpoint.at)
    own = _valid_certificate(sealer, at)
    key = key_id("witness", name, sealer.suite, own.public_key)
    unsigned = Signed(name, key, int(at.timestamp()), b"")
    value = sealer.signer.sign(unsigned.message(checkpoint))
    return Signed(name, key, unsigned.at, value).to_bytes()


def seconds(at: int) -> datetime | None:
    """Return a Unix time as an aware one; None when no calendar has it."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _valid_certificate(sealer: Sealer, at: datetime) -> Certificate:
    certificate = read_certificate(sealer.signer.certificate)
    if not certificate.valid_at(at):
        raise Misconfigured(
            Text(
                f"签名证书在 {at.isoformat()} 不在有效期内（{certificate.period}）",
                f"the certificate is not valid at {at.isoformat()} ({certificate.period})",
            ),
            hint=Text("请检查系统时间，或更换证书", "check the clock, or renew the certificate"),
        )
    return certificate


def _refused(expected: str, found: str) -> Integrity:
    return Integrity(
        Text(
            f"见证拒绝：应为 {expected}，实为 {found}",
            f"the witness refuses: expected {expected}, found {found}",
        ),
        hint=Text(
            "请保留两份检查点，停止接收，并对该节点的存证日志做完整审计",
            "keep both checkpoints, stop receiving, and have the node's evidence log audited",
        ),
    )
