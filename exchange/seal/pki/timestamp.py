"""Time stamps of others (时间戳, RFC 3161, GB/T 20520): read, verify, request, and go without.

A token says when a signature existed at the latest: its imprint is the hash of the signature
value. In: tokens as DER. Out: checks and the time. ``read_token`` raises Integrity for bytes
that are no token; ``stamp`` asks an authority (时间戳服务机构, TSA) through a ``post`` that the
caller brings, and believes no answer that a verifier would not believe.

``TsaPatience`` is how long sealing may go on while the authority is away, as plain state that
the caller keeps on disk; a restart does not reset it, nor does a clock that is set back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from asn1crypto import cms, core, tsp

from exchange.errors import Integrity, Misconfigured, Transient
from exchange.seal.checks import Check, equal
from exchange.seal.crypto import der
from exchange.seal.crypto.suites import Suite
from exchange.seal.pki.trust import SigningCertificate, Trust, TrustChecker
from exchange.seal.pki.x509 import Certificate, read_certificate, verify_lasting
from exchange.text import Text

MAX_TOKEN_BYTES: Final = 64 * 1024
MAX_CERTIFICATES: Final = 8
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far a signer's clock may be ahead of the authority's."""

_WHAT: Final = Text("时间戳", "time stamp")
_ANSWER: Final = Text("时间戳服务的应答", "answer of the time-stamping authority")
_SIGNED_DATA: Final = frozenset({"1.2.840.113549.1.7.2", "1.2.156.10197.6.1.4.2.2"})
"""CMS (RFC 5652), and the same structure of GB/T 35275."""
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"
_SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
_SET, _TAG_0, _KEY_ID, _SEQUENCE = 0x31, 0xA0, 0x80, 0x30
_SIGNED_DATA_VERSION: Final = 3

HASHES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1.2.156.10197.1.401": "sm3",
        "2.16.840.1.101.3.4.2.1": "sha256",
        "2.16.840.1.101.3.4.2.2": "sha384",
        "2.16.840.1.101.3.4.2.3": "sha512",
    }
)
_KEY_ALGORITHMS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        # A key's own OID beside the signature: the hash is the one named before it.
        "1.2.156.10197.1.301": {"sm3": "1.2.156.10197.1.501"},
        "1.2.156.10197.1.301.1": {"sm3": "1.2.156.10197.1.501"},
        "1.2.840.10045.2.1": {
            "sm3": "1.2.156.10197.1.501",
            "sha256": "1.2.840.10045.4.3.2",
            "sha384": "1.2.840.10045.4.3.3",
            "sha512": "1.2.840.10045.4.3.4",
        },
        "1.2.840.113549.1.1.1": {
            "sha256": "1.2.840.113549.1.1.11",
            "sha384": "1.2.840.113549.1.1.12",
            "sha512": "1.2.840.113549.1.1.13",
        },
    }
)


@dataclass(frozen=True, slots=True)
class Token:
    """A TimeStampToken as received; ``attributes`` are the bytes under its signature."""

    time: datetime
    imprint_hash: str
    """OID of the hash of the imprint."""
    imprint: bytes
    serial: int
    nonce: int | None
    content: bytes = field(repr=False)
    attributes: bytes = field(repr=False)
    claims: Attributes = field(repr=False)
    digest: str = field(repr=False)
    algorithm: str = field(repr=False)
    value: bytes = field(repr=False)
    certificates: tuple[Certificate, ...] = field(repr=False)
    signer: Certificate | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the signed attributes say: type and hash of the content, and whose certificate."""

    content_type: str
    digest: bytes
    certificate_hash: str
    """Name of the hash for :mod:`hashlib`; empty when no certificate is named."""
    certificate: bytes


@lru_cache(maxsize=16)
def read_token(data: bytes) -> Token:
    """Read a token; raises Integrity.

    Remembered, as a stream of batches brings the stamp of the same seal every time.
    """
    with der.reading(_WHAT):
        der.check_der(data, MAX_TOKEN_BYTES)
        kind, wrapped = _split(data, _SEQUENCE)
        if der.oid(kind) not in _SIGNED_DATA:
            msg = "no signed data"
            raise ValueError(msg)
        (signed_data,) = _split(wrapped, _TAG_0)
        version, digests, content, *rest = _split(signed_data, _SEQUENCE)
        certificates = der.split(rest.pop(0)) if rest[0][0] == _TAG_0 else []
        (signers,) = rest
        (signer,) = _split(signers, _SET)
        return _token(version, digests, content, certificates, signer)


def _split(data: bytes, tag: int) -> list[bytes]:
    if data[0] != tag:
        msg = f"tag {data[0]:#x} instead of {tag:#x}"
        raise ValueError(msg)
    return der.split(data)


def _token(
    version: bytes, digests: bytes, content: bytes, certificates: list[bytes], signer: bytes
) -> Token:
    """Put the received parts together; only what is signed may be spelled freely."""
    by, who, digest, attributes, algorithm, value = _split(signer, _SEQUENCE)
    info = _content(content)
    octets = core.OctetString.load(value, strict=True)
    if (
        der.integer(version) != _SIGNED_DATA_VERSION
        or _split(digests, _SET) != [digest]
        or attributes[0] != _TAG_0
        or value != core.OctetString(bytes(octets)).dump()
        or len(certificates) > MAX_CERTIFICATES
    ):
        msg = "the parts around what was signed are not canonical"
        raise ValueError(msg)
    read = [read_certificate(each) for each in certificates]
    stamp = tsp.TSTInfo.load(info, strict=True)
    imprint = stamp["message_imprint"]
    signed = bytes([_SET]) + attributes[1:]
    return Token(
        time=der.moment(stamp["gen_time"]),
        imprint_hash=imprint["hash_algorithm"]["algorithm"].dotted,
        imprint=bytes(imprint["hashed_message"]),
        serial=stamp["serial_number"].native,
        nonce=stamp["nonce"].native,
        content=info,
        attributes=signed,
        claims=_claims(signed),
        digest=_algorithm(digest),
        algorithm=_algorithm(algorithm),
        value=bytes(octets),
        certificates=tuple(read),
        signer=_signer(by, who, read),
    )


def _content(content: bytes) -> bytes:
    kind, wrapped = _split(content, _SEQUENCE)
    if der.oid(kind) != _TST_INFO:
        msg = "the content is no time stamp"
        raise ValueError(msg)
    (octets,) = _split(wrapped, _TAG_0)
    return bytes(core.OctetString.load(octets, strict=True))


def _algorithm(data: bytes) -> str:
    """Read an AlgorithmIdentifier whose parameters are NULL or missing."""
    name, *parameters = _split(data, _SEQUENCE)
    if parameters not in ([], [core.Null().dump()]):
        msg = "an algorithm has parameters"
        raise ValueError(msg)
    return der.oid(name)


def _signer(by: bytes, who: bytes, certificates: Sequence[Certificate]) -> Certificate | None:
    """Find the signer's certificate by issuer and serial number, or by the id of its key."""
    version = der.integer(by)
    if who[0] == _SEQUENCE and version == 1:
        issuer, serial = der.split(who)
        number = der.integer(serial)
        return next((c for c in certificates if (c.issuer, c.serial) == (issuer, number)), None)
    if who[0] == _KEY_ID and version == _SIGNED_DATA_VERSION:
        return next((c for c in certificates if c.key_id == der.contents(who)), None)
    msg = "the signer is not named"
    raise ValueError(msg)


def _claims(signed: bytes) -> Attributes:
    found: dict[str, Any] = {}
    for each in cms.CMSAttributes.load(signed, strict=True):
        name = each["type"].dotted
        if name in found or len(each["values"]) != 1:
            msg = "an attribute stands twice"
            raise ValueError(msg)
        found[name] = each["values"][0]
    certificate_hash, certificate = "", b""
    if _SIGNING_CERTIFICATE_V2 in found:
        entry = found[_SIGNING_CERTIFICATE_V2]["certs"][0]
        certificate_hash = HASHES.get(entry["hash_algorithm"]["algorithm"].dotted, "")
        certificate = bytes(entry["cert_hash"])
    elif _SIGNING_CERTIFICATE in found:
        certificate_hash = "sha1"
        certificate = bytes(found[_SIGNING_CERTIFICATE]["certs"][0]["cert_hash"])
    return Attributes(
        content_type=found[_CONTENT_TYPE].dotted,
        digest=bytes(found[_MESSAGE_DIGEST]),
        certificate_hash=certificate_hash,
        certificate=certificate,
    )


def digest_of(name: str, data: bytes) -> bytes:
    """Hash with an algorithm of the table ``HASHES``, or SHA-1 where RFC 3161 prescribes it."""
    return hashlib.new(name, data, usedforsecurity=False).digest()


def check_stamp(
    prefix: str, data: bytes, *, stamped: bytes, checker: TrustChecker, claimed: datetime | None
) -> tuple[list[Check], datetime | None]:
    """Check a token over the signature value ``stamped``; the time is None unless all holds.

    ``claimed`` is the earliest time it may have: when the signature says that it was made.
    """
    text = Text("时间戳格式", "format of the time stamp")
    try:
        token = read_token(data)
    except Integrity as error:
        broken = Check(
            prefix, ok=False, text=error.what, expected=text.en, found=error.what.en[:400]
        )
        return [broken], None
    checks = [
        Check(prefix, ok=True, text=text, found=token.time.isoformat()),
        _check_imprint(prefix, token, stamped),
        _check_attributes(prefix, token),
        Check(
            f"{prefix}_signature",
            token.signer is not None and _verified(token, token.signer),
            Text("时间戳服务机构的签名正确", "the time-stamping authority's signature is right"),
            expected=f"signature of {token.signer.title if token.signer else 'its certificate'}",
            found=token.value.hex(),
        ),
    ]
    if token.signer is not None:
        who = SigningCertificate(
            f"{prefix}_",
            Text("时间戳服务机构", "the time-stamping authority"),
            token.signer,
            token.time,
            stamping=True,
            witnessed=True,
        )
        checks += checker.check(who, token.certificates)
    unused = [each for each in token.certificates if each.der not in checker.used]
    checks += [
        equal(
            f"{prefix}_certificates",
            Text("时间戳中的每张证书都在证书链中", "every certificate of the token is in a path"),
            expected=str(len(token.certificates)),
            found=str(len({each.der for each in token.certificates}) - len(unused)),
        ),
        Check(
            f"{prefix}_time",
            claimed is None or claimed <= token.time,
            Text("时间戳不早于所称的签署时间", "the stamp is not older than what it stamps"),
            expected=f">= {claimed.isoformat() if claimed else 'any'}",
            found=token.time.isoformat(),
        ),
    ]
    return checks, token.time if all(each.ok for each in checks) else None


def _check_imprint(prefix: str, token: Token, stamped: bytes) -> Check:
    name = HASHES.get(token.imprint_hash)
    return equal(
        f"{prefix}_imprint",
        Text("时间戳盖在签名值上", "the time stamp is for this signature value"),
        expected=digest_of(name, stamped).hex() if name else " / ".join(HASHES.values()),
        found=token.imprint.hex() if name else token.imprint_hash,
    )


def _check_attributes(prefix: str, token: Token) -> Check:
    """Compare the signed attributes with the content and with the signer's certificate."""
    claims, name = token.claims, HASHES.get(token.digest)
    expected = [_TST_INFO, digest_of(name, token.content).hex() if name else "a known hash", ""]
    if token.signer is not None:
        kind = claims.certificate_hash
        expected[2] = digest_of(kind, token.signer.der).hex() if kind else "signing certificate"
    return equal(
        f"{prefix}_attributes",
        Text(
            "签名属性与时间戳内容、签名证书一致",
            "the signed attributes name this content and this certificate",
        ),
        expected=", ".join(expected),
        found=f"{claims.content_type}, {claims.digest.hex()}, {claims.certificate.hex()}",
    )


def _verified(token: Token, signer: Certificate) -> bool:
    by_hash = _KEY_ALGORITHMS.get(token.algorithm)
    algorithm = token.algorithm
    if by_hash is not None:
        algorithm = by_hash.get(HASHES.get(token.digest, ""), "")
    return verify_lasting(signer, algorithm, token.attributes, token.value)


# Asking for a stamp


def write_request(value: bytes, suite: Suite, nonce: int) -> bytes:
    """Encode TimeStampReq for a signature value; asks for the authority's certificate too."""
    return bytes(
        tsp.TimeStampReq(
            {
                "version": "v1",
                "message_imprint": {
                    "hash_algorithm": {"algorithm": suite.hash_oid},
                    "hashed_message": suite.digest(value),
                },
                "nonce": nonce,
                "cert_req": True,
            }
        ).dump()
    )


def stamp(
    value: bytes,
    *,
    suite: Suite,
    post: Callable[[bytes], bytes],
    nonce: int,
    trust: Trust,
    chain: Sequence[bytes] = (),
) -> bytes:
    """Get a token for a signature value; ``nonce`` is a fresh random number of 64 bits.

    ``post`` sends ``application/timestamp-query`` and returns the body of the answer; it raises
    Transient when nobody answers. Raises Transient when the authority cannot stamp just now,
    Misconfigured when it refuses, Integrity for an answer that is wrong or not trusted.
    """
    data = read_answer(post(write_request(value, suite, nonce)))
    token = read_token(data)
    if token.nonce != nonce:
        raise _wrong(Text("随机数不是所发的", "its nonce is not the one that was sent"))
    checker = TrustChecker(trust, chain)
    checks, at = check_stamp("stamp", data, stamped=value, checker=checker, claimed=None)
    checks += checker.faults
    bad = next((each for each in checks if not each.ok), None)
    if bad is not None or at is None:
        name = f"{bad.name}: " if bad else ""
        why = bad.text if bad else _WHAT
        raise _wrong(Text(f"{name}{why.zh}", f"{name}{why.en}"))
    return data


def read_answer(data: bytes) -> bytes:
    """Take the token out of TimeStampResp; raises as :func:`stamp` does."""
    with der.reading(_ANSWER):
        der.check_der(data, MAX_TOKEN_BYTES)
        parts = der.split(data)
        status = tsp.PKIStatusInfo.load(parts[0], strict=True)
        granted = str(status["status"].native)
        why = " ".join(
            [*map(str, status["status_string"].native or ()), *(status["fail_info"].native or ())]
        )[:200]
        if granted in {"granted", "granted_with_mods"}:
            (token,) = parts[1:]
            return token
    said = Text(
        f"时间戳服务没有盖时间戳：{granted} {why}", f"the TSA did not stamp: {granted} {why}"
    )
    if granted == "waiting" or {"system_failure", "time_not_available"} & set(why.split()):
        raise Transient(said, hint=Text("稍后会重试", "it will be asked again"))
    raise Misconfigured(
        said, hint=Text("请检查时间戳服务的地址和策略", "check the address and policy of the TSA")
    )


def _wrong(why: Text) -> Integrity:
    return Integrity(
        Text(f"时间戳服务的应答不可信：{why.zh}", f"the answer of the TSA is wrong: {why.en}"),
        hint=Text(
            "请检查时间戳服务的地址和它的信任根", "check the address of the TSA and its anchors"
        ),
    )


# Going without


class Decision(StrEnum):
    """What to do while the authority is away."""

    PROCEED = "proceed"
    """Seal without a time stamp."""
    HOLD = "hold"
    """Seal nothing until it answers."""


@dataclass(frozen=True, slots=True)
class TsaPatience:
    """How long the authority has been away; keep it on disk before acting on a decision.

    ``since`` is the first failure, ``seen`` the latest one, ``spent`` the time that went by
    between them as far as the clock went forward. None and zero: the last answer was a stamp.
    """

    since: datetime | None = None
    seen: datetime | None = None
    spent: timedelta = timedelta()

    def to_json(self) -> str:
        """Write the state; times are UTC, ``spent`` is in microseconds."""
        return json.dumps(
            {
                "since": self.since.astimezone(UTC).isoformat() if self.since else None,
                "seen": self.seen.astimezone(UTC).isoformat() if self.seen else None,
                "spent": self.spent // timedelta(microseconds=1),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TsaPatience:
        """Read the state; raises Integrity, for starting afresh would give more time."""
        with der.reading(Text("时间戳等待状态", "state of waiting for the TSA")):
            found = json.loads(text)
            since, seen = (
                datetime.fromisoformat(found[name]) if found[name] is not None else None
                for name in ("since", "seen")
            )
            spent = timedelta(microseconds=found["spent"])
            if (
                found.keys() != {"since", "seen", "spent"}
                or (since is None) != (seen is None)
                or any(each is not None and each.tzinfo is None for each in (since, seen))
                or spent < timedelta()
                or (spent and since is None)
            ):
                msg = "contradicts itself"
                raise ValueError(msg)
            return cls(since, seen, spent)


def decide(state: TsaPatience, now: datetime, allowed: timedelta) -> tuple[TsaPatience, Decision]:
    """Judge a failure at ``now``: sealing may go on without stamps for ``allowed`` in all.

    Returns the state to keep. After a stamp the state is ``TsaPatience()`` again. A clock that
    is set back adds nothing and gives nothing back; one that jumps ahead uses patience up.
    """
    gone = now - state.seen if state.seen is not None else timedelta()
    spent = state.spent + max(gone, timedelta())
    after = TsaPatience(state.since or now, now, spent)
    return after, Decision.PROCEED if spent < allowed else Decision.HOLD
