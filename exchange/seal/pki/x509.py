"""X.509 certificates (数字证书) of both suites, and paths from a certificate to a trust anchor.

``cryptography`` cannot load SM2 keys, so certificates are read with asn1crypto and verified
over the received bytes. In: DER. Out: frozen values and problems as data. Raises Integrity
for bytes that are no certificate. Revocation is judged in :mod:`exchange.seal.pki.crl`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from asn1crypto import core, x509

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto import der
from exchange.seal.crypto.keys import public_key
from exchange.seal.crypto.openssl import verify as verify_other
from exchange.seal.crypto.suites import suite_of_curve, suite_of_signature
from exchange.text import Text

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_PATH: Final = 6
_WHAT: Final = Text("证书", "certificate")
_PROCESSED: Final = frozenset({"key_usage", "basic_constraints"})
_PURPOSES: Final = "extended_key_usage"
_STAMPING: Final = frozenset({"time_stamping"})
_ORGANISATION_ID: Final = "2.5.4.97"
_ORGANISATION_CODE: Final = "1.2.156.10260.4.1.3"
"""GM/T 0015-2012, 企业组织机构代码."""
_TEXTS: Final = frozenset({0x0C, 0x13, 0x16})
"""UTF8String, PrintableString, IA5String."""
_UNIT: Final = re.compile(r"(?:NTRCN-)?([0-9A-Z]{18})")
_SIGNING: Final = frozenset({"digital_signature", "non_repudiation"})


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What we use of a certificate; names are DER, compared byte for byte."""

    der: bytes
    serial: int
    subject: bytes
    issuer: bytes
    title: str
    """The subject for people, such as ``Common Name: 市数据局``."""
    issuer_title: str
    unit: str
    """统一社会信用代码 of the unit that holds it, as the certificate says; empty: it says none."""
    not_before: datetime
    not_after: datetime
    public_key: bytes
    curve: str
    algorithm: str
    signed: bytes
    signature: bytes
    ca: bool
    path_length: int | None
    usage: frozenset[str] | None
    """Key usage (密钥用途); None: not restricted."""
    purposes: frozenset[str] | None
    """Extended key usage (扩展密钥用途); None: not restricted."""
    critical: frozenset[str]
    """The extensions that whoever uses the certificate must understand."""
    key_id: bytes | None
    crl_points: frozenset[bytes]
    """Where its issuer's CRLs are published: names (GeneralName) in DER."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, as ``openssl x509 -fingerprint -sha256`` prints it."""
        return hashlib.sha256(self.der).hexdigest().upper()

    def valid_at(self, at: datetime) -> bool:
        """Whether ``at`` lies within the period of validity, both ends included."""
        return self.not_before <= at <= self.not_after

    @property
    def period(self) -> str:
        """The period of validity for people."""
        return f"{self.not_before.isoformat()} .. {self.not_after.isoformat()}"


@lru_cache(maxsize=64)
def read_certificate(data: bytes) -> Certificate:
    """Read one DER certificate; raises Integrity.

    Remembered, because a stream of batches brings the same few certificates every time.
    """
    with der.reading(_WHAT):
        der.check_der(data, MAX_CERTIFICATE_BYTES)
        outer = x509.Certificate.load(data, strict=True)
        tbs = outer["tbs_certificate"]
        algorithm = outer["signature_algorithm"].dump()
        signature = bytes(outer["signature_value"])
        # The outer wrapping is not signed: it must be what DER makes of its parts.
        if algorithm != tbs["signature"].dump() or data != der.sequence(
            tbs.dump(), algorithm, core.OctetBitString(signature).dump()
        ):
            msg = "the outer part is not canonical"
            raise ValueError(msg)
        spki = tbs["subject_public_key_info"]
        parameters = spki["algorithm"]["parameters"]
        curve = parameters.chosen.dotted if isinstance(parameters, core.Choice) else ""
        constraints, usage = outer.basic_constraints_value, outer.key_usage_value
        purposes = outer.extended_key_usage_value
        extensions = [each["extn_id"].dotted for each in tbs["extensions"] or ()]
        if len(extensions) != len(set(extensions)):
            msg = "an extension stands twice"
            raise ValueError(msg)
        return Certificate(
            der=data,
            serial=tbs["serial_number"].native,
            subject=tbs["subject"].dump(),
            issuer=tbs["issuer"].dump(),
            title=tbs["subject"].human_friendly,
            issuer_title=tbs["issuer"].human_friendly,
            unit=_unit(outer),
            not_before=der.moment(tbs["validity"]["not_before"].chosen),
            not_after=der.moment(tbs["validity"]["not_after"].chosen),
            public_key=spki.dump(),
            curve=curve,
            algorithm=outer["signature_algorithm"]["algorithm"].dotted,
            signed=tbs.dump(),
            signature=signature,
            ca=bool(constraints and constraints["ca"].native),
            path_length=constraints["path_len_constraint"].native if constraints else None,
            usage=frozenset(usage.native) if usage is not None else None,
            purposes=frozenset(purposes.native) if purposes is not None else None,
            critical=frozenset(outer.critical_extensions),
            key_id=outer.key_identifier,
            crl_points=frozenset(_crl_points(outer.crl_distribution_points_value)),
        )


def _unit(certificate: x509.Certificate) -> str:
    """Find the unit's code: organizationIdentifier (ETSI EN 319 412-1), or GM/T 0015's extension.

    Several different ones are none: nobody could say whose the seal is.
    """
    texts = [
        pair["value"].native
        for names in certificate.subject.chosen
        for pair in names
        if pair["type"].dotted == _ORGANISATION_ID
    ]
    for each in certificate["tbs_certificate"]["extensions"] or ():
        if each["extn_id"].dotted == _ORGANISATION_CODE:
            tag, length, *text = bytes(each["extn_value"])
            if tag in _TEXTS and length == len(text):
                texts.append(bytes(text).decode(errors="replace"))
    codes = {match[1] for each in texts if (match := _UNIT.fullmatch(str(each)))}
    return codes.pop() if len(codes) == 1 else ""


def _crl_points(points: core.SequenceOf | None) -> Iterator[bytes]:
    for point in points or ():
        names = point["distribution_point"]
        if isinstance(names, core.Choice) and names.name == "full_name":
            yield from (each.dump() for each in names.chosen)


def verify_with(certificate: Certificate, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Verify a signature made with the key of ``certificate``.

    ``algorithm`` is the OID that stands beside the signature: the key must be of its suite.
    Certificates and time stamps of others may use the algorithms of
    :mod:`exchange.seal.crypto.openssl`; seals may not (the check ``suite``, ``seal.signature``).
    Raises Misconfigured where this machine lacks the algorithm.
    """
    suite, own = suite_of_signature(algorithm), suite_of_curve(certificate.curve)
    if suite is None or own is None:
        return verify_other(certificate.public_key, algorithm, data, signature)
    if suite is not own:
        return False
    try:
        return public_key(suite, certificate.public_key).verify(data, signature)
    except Misconfigured:
        raise  # this machine lacks the algorithm: that says nothing about the signature
    except Rejected:
        return False


@lru_cache(maxsize=256)
def verify_lasting(certificate: Certificate, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Verify as :func:`verify_with` does, and remember the answer.

    For signatures of certificates and seals, which come again with every batch. What depends
    on time or trust is no part of the answer, and is judged anew each time.
    """
    return verify_with(certificate, algorithm, data, signature)


@dataclass(frozen=True, slots=True)
class PathProblem:
    """Why a path is not trusted."""

    text: Text
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class CertificatePath:
    """Certificates from the leaf upwards, as far as they could be linked.

    With ``problem`` None the last one is a trust anchor (信任根).
    """

    certificates: tuple[Certificate, ...]
    problem: PathProblem | None


class PathBuilder:
    """Links certificates of one file: ``pool`` travels with it, ``anchors`` are ours."""

    def __init__(self, pool: Sequence[Certificate], anchors: Sequence[Certificate]) -> None:
        self._pool = pool
        self._anchors = anchors

    def build(self, leaf: Certificate, at: datetime) -> CertificatePath:
        """Find a path and check it at the time ``at`` (RFC 5280 §6.1, without policies).

        The validity of the leaf itself is left to the caller.
        """
        paths, seen = [[leaf]], {leaf}
        for path in paths:  # shortest first; grows while it is walked
            found = self._anchored(path)
            if found:
                return CertificatePath(tuple(found), _first_problem(found, at))
            for each in self._pool if len(path) < MAX_PATH else ():
                if each not in seen and self._issued(each, path[-1]):
                    seen.add(each)
                    paths.append([*path, each])
        return CertificatePath(tuple(paths[-1]), self._no_anchor(paths[-1][-1]))

    def _anchored(self, path: list[Certificate]) -> list[Certificate] | None:
        """Return the path up to its anchor, if its tip is one or was issued by one."""
        tip = path[-1]
        if any(anchor.der == tip.der for anchor in self._anchors):
            return path
        return next(
            ([*path, anchor] for anchor in self._anchors if self._issued(anchor, tip)), None
        )

    def _issued(self, issuer: Certificate, subject: Certificate) -> bool:
        return issuer.subject == subject.issuer and verify_lasting(
            issuer, subject.algorithm, subject.signed, subject.signature
        )

    def _no_anchor(self, tip: Certificate) -> PathProblem:
        if self._anchors:
            text = Text(
                "证书链没有到达所给的任何信任根", "the path does not reach any trust anchor given"
            )
            expected = "; ".join(
                f"{anchor.title} (SHA-256 {anchor.fingerprint})" for anchor in self._anchors[:3]
            )
        else:
            text = Text(
                "没有给出信任根：请向签发机构索取根证书，核对其指纹后用 --trust 指定",
                "no trust anchor was given: get the root certificate from its authority, "
                "compare its fingerprint, and pass it with --trust",
            )
            expected = f"{tip.issuer_title} (--trust)"
        if tip.issuer == tip.subject:
            return PathProblem(text, expected, f"{tip.title} (SHA-256 {tip.fingerprint})")
        return PathProblem(text, expected, f"{tip.title}, issued by {tip.issuer_title}")


def usage_problem(leaf: Certificate, *, stamping: bool = False) -> PathProblem | None:
    """Say why a certificate may not sign (密钥用途), or not sign time stamps (RFC 3161 §2.3)."""
    if leaf.usage is not None and not leaf.usage & _SIGNING:
        return PathProblem(
            Text(
                "证书的密钥用途不含数字签名", "the certificate's key usage does not allow signing"
            ),
            " | ".join(sorted(_SIGNING)),
            ", ".join(sorted(leaf.usage)),
        )
    purposes = ", ".join(sorted(leaf.purposes or ())) or "any"
    if stamping and (leaf.purposes != _STAMPING or _PURPOSES not in leaf.critical):
        return PathProblem(
            Text(
                "时间戳证书的扩展密钥用途必须是且仅是时间戳，并标为关键",
                "a time-stamping certificate is for time stamping only, marked as critical",
            ),
            "critical, time_stamping",
            ("critical, " if _PURPOSES in leaf.critical else "") + purposes,
        )
    if not stamping and _PURPOSES in leaf.critical:
        return PathProblem(
            Text("证书只准用于其他用途", "the certificate is for other purposes only"),
            "no critical extended key usage",
            purposes,
        )
    return None


def _first_problem(path: Sequence[Certificate], at: datetime) -> PathProblem | None:
    leaf, *issuers = path
    for each in path:
        known = _PROCESSED | {_PURPOSES} if each is leaf else _PROCESSED
        if each.critical - known:
            return PathProblem(
                Text("证书含有无法处理的关键扩展", "a critical extension is not understood"),
                ", ".join(sorted(known)),
                f"{each.title}: {', '.join(sorted(each.critical - known))}",
            )
    for below, each in enumerate(issuers):
        problem = _issuer_problem(each, below, at)
        if problem:
            return problem
    return None


def _issuer_problem(issuer: Certificate, below: int, at: datetime) -> PathProblem | None:
    """Check a certificate that issued others; ``below`` counts the issuers under it."""
    if not issuer.ca or (issuer.usage is not None and "key_cert_sign" not in issuer.usage):
        return PathProblem(
            Text("签发者证书不允许签发证书", "an issuer's certificate may not issue certificates"),
            "CA, key_cert_sign",
            f"{issuer.title}: CA {issuer.ca}, {', '.join(sorted(issuer.usage or ()))}",
        )
    if issuer.path_length is not None and below > issuer.path_length:
        return PathProblem(
            Text("证书链比签发者允许的更长", "the path is longer than its issuer allows"),
            str(issuer.path_length),
            f"{issuer.title}: {below}",
        )
    if not issuer.valid_at(at):
        return PathProblem(
            Text(
                "签发者证书当时不在有效期内", "an issuer's certificate was not valid at that time"
            ),
            f"{issuer.title}: {issuer.period}",
            at.isoformat(),
        )
    return None
