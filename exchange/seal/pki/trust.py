"""Certificates of one verification: each is checked by path, usage, validity and revocation.

In: the certificates that travelled with a file (never trusted), the reader's ``Trust``. Out:
checks named ``<prefix>chain``, ``<prefix>usage``, ``<prefix>validity``, ``<prefix>revocation``.
Raises nothing but Misconfigured, where this machine lacks an algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final

from exchange.errors import Integrity
from exchange.seal.checks import Check, equal
from exchange.seal.pki import crl
from exchange.seal.pki.x509 import (
    Certificate,
    CertificatePath,
    PathBuilder,
    read_certificate,
    usage_problem,
)
from exchange.text import Text

MAX_CHAIN: Final = 8
MAX_ANCHORS: Final = 64
_REVOKED: Final = Text("证书在签章之前已被撤销", "a certificate had been revoked before it signed")
_UNKNOWN: Final = Text("撤销状态未知", "nobody can tell whether it was revoked")
_LATER: Final = Text(
    "密钥后来失密：没有时间戳，签章时间只是签章者自己的说法",
    "the key was lost later: without a time stamp the signing time is only the signer's word",
)


@dataclass(frozen=True, slots=True)
class Delegation:
    """One unit's seal may seal for another department (委托代章), until then, for this reason."""

    seal: str
    """印章标识: the number of the seal."""
    department: str
    """统一社会信用代码 of the department that it may seal for."""
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Trust:
    """What the reader brings along; all of it DER, none of it fetched.

    ``anchors`` are root certificates, ``tsa_anchors`` those of time-stamping authorities (None:
    the same), ``crls`` revocation lists. Where no list answers for a certificate, its
    revocation is noted as unknown, and with ``require_revocation`` it fails. ``delegations`` let
    a seal seal for a department that does not own it; a seal whose owner nobody can tell is
    noted, and with ``require_owner`` it fails.
    """

    anchors: Sequence[bytes]
    crls: Sequence[bytes] = ()
    tsa_anchors: Sequence[bytes] | None = None
    require_revocation: bool = False
    delegations: Sequence[Delegation] = ()
    require_owner: bool = False


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A certificate to check: ``what`` names its holder, ``at`` is the time when it signed."""

    prefix: str
    what: Text
    certificate: Certificate
    at: datetime | None
    stamping: bool = False
    witnessed: bool = False
    """``at`` is the time of a time stamp, not the signer's own word."""


@dataclass(slots=True)
class TrustChecker:
    """Checks certificates by what the reader trusts; notes which of the file's own were of use."""

    trust: Trust
    travelling: Sequence[bytes]
    pool: list[Certificate] = field(init=False)
    used: set[bytes] = field(init=False, default_factory=set)
    crls: list[crl.Crl] = field(init=False)
    faults: list[Check] = field(init=False, default_factory=list)
    """What the reader brought and nobody can read."""

    def __post_init__(self) -> None:
        """Read everything once."""
        self.pool = _certificates(self.travelling[:MAX_CHAIN])
        anchors = self._anchors("anchors", self.trust.anchors)
        self._builder = PathBuilder(self.pool, anchors)
        if self.trust.tsa_anchors is not None:
            anchors = self._anchors("tsa_anchors", self.trust.tsa_anchors)
        self._stampers = anchors
        self.crls, broken = crl.read_crls(self.trust.crls)
        if broken:
            text = Text("有的证书撤销列表无法读取", "some revocation lists cannot be read")
            self.faults.append(
                equal(
                    "crls",
                    text,
                    expected=str(len(self.trust.crls)),
                    found=str(len(self.trust.crls) - broken),
                )
            )

    _builder: PathBuilder = field(init=False)
    _stampers: list[Certificate] = field(init=False)

    def _anchors(self, name: str, given: Sequence[bytes]) -> list[Certificate]:
        anchors = _certificates(given[:MAX_ANCHORS])
        if len(anchors) < len(given):
            text = Text("有的信任根无法读取", "some trust anchors cannot be read")
            self.faults.append(equal(name, text, expected=str(len(given)), found=str(len(anchors))))
        return anchors

    def check(self, who: SigningCertificate, extra: Sequence[Certificate] = ()) -> list[Check]:
        """Make the checks of one certificate; ``extra`` are certificates of a time stamp."""
        leaf = who.certificate
        at = who.at or leaf.not_before
        builder = self._builder
        if who.stamping:
            builder = PathBuilder([*extra, *self.pool], self._stampers)
        path = builder.build(leaf, at)
        self.used.update(each.der for each in path.certificates)
        return [
            _chain(who, path),
            _usage(who),
            Check(
                f"{who.prefix}validity",
                who.at is not None and leaf.valid_at(who.at),
                Text(
                    f"签署时{who.what.zh}证书在有效期内",
                    f"{who.what.en}'s certificate was valid when it signed",
                ),
                expected=leaf.period,
                found=printed(who.at),
            ),
            self._revocation(who, path, at),
        ]

    def _revocation(self, who: SigningCertificate, path: CertificatePath, at: datetime) -> Check:
        """Ask for every certificate of the path but the anchor, which nobody can revoke."""
        name = f"{who.prefix}revocation"
        certificates = path.certificates
        statuses = [
            (each, crl.revocation(self.crls, each, issuer, at))
            for each, issuer in pairwise(certificates)
        ]
        if path.problem is not None and not statuses:
            tip = certificates[-1]
            statuses.append((tip, crl.Status("unknown", f"no issuer of {tip.title}")))
        expected = "revoked nowhere"
        for standing, text in (("revoked", _REVOKED), ("unknown", _UNKNOWN)):
            found = [f"{one.title}: {s.found}" for one, s in statuses if s.standing == standing]
            if found:
                good = standing == "unknown" and not self.trust.require_revocation
                return Check(name, good, text, expected, "; ".join(found), note=good)
        told = "; ".join(f"{one.title}: {status.found}" for one, status in statuses)
        if any(status.compromised for _, status in statuses) and not who.witnessed:
            return Check(name, ok=True, text=_LATER, expected=expected, found=told, note=True)
        text = Text(
            f"签署时{who.what.zh}证书链未被撤销",
            f"{who.what.en}'s path had not been revoked when it signed",
        )
        return Check(name, ok=True, text=text, expected=expected, found=told or "an anchor itself")

    def check_used(self) -> Check:
        """Nothing may travel along unverified: every certificate belongs to a path, once."""
        ders = [each.der for each in self.pool]
        return equal(
            "chain",
            Text("随附的每张证书都在证书链中", "every certificate that came along is in a path"),
            expected=str(len(self.travelling)),
            found=str(len(set(ders) & self.used)),
        )


def printed(at: datetime | None) -> str:
    """Return a time for people."""
    return at.isoformat() if at else "no readable time"


def _certificates(given: Sequence[bytes]) -> list[Certificate]:
    found = []
    for each in given:
        try:
            found.append(read_certificate(each))
        except Integrity:
            continue
    return found


def _chain(who: SigningCertificate, path: CertificatePath) -> Check:
    name = f"{who.prefix}chain"
    if path.problem is not None:
        problem = path.problem
        return Check(name, False, problem.text, problem.expected, problem.found)  # noqa: FBT003
    text = Text(f"{who.what.zh}证书链可信", f"{who.what.en}'s path is trusted")
    reached = " < ".join(each.title for each in path.certificates)
    return Check(name, ok=True, text=text, found=reached)


def _usage(who: SigningCertificate) -> Check:
    name = f"{who.prefix}usage"
    problem = usage_problem(who.certificate, stamping=who.stamping)
    if problem is not None:
        return Check(name, False, problem.text, problem.expected, problem.found)  # noqa: FBT003
    text = Text(
        f"{who.what.zh}证书的密钥用途允许签署", f"{who.what.en}'s certificate is for signing"
    )
    usage = ", ".join(sorted(who.certificate.usage or ())) or "any"
    return Check(name, ok=True, text=text, found=usage)
