"""An authority of one's own (测试 CA), for tests, the demonstration and pilots.

Makes root, certificates, revocation lists and electronic seals in both suites. Nothing here is
fit for production: there, certificates come from a licensed authority and seals from a filed
maker.
Serial numbers come from ``entropy`` (such as :func:`os.urandom`), keys from the libraries.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from asn1crypto import core, crl, keys, x509

from exchange.seal.crypto.der import sequence
from exchange.seal.crypto.keys import PrivateKey, generate_key
from exchange.seal.crypto.suites import Suite
from exchange.seal.eseal.structures import (
    WRITTEN_VERSION,
    Picture,
    SealInfo,
    write_seal_info,
    write_signed,
)
from exchange.seal.pki.signers import SoftwareSigner

Entropy = Callable[[int], bytes]

SIGNING: Final = frozenset({"digital_signature", "non_repudiation"})
ISSUING: Final = frozenset({"key_cert_sign", "crl_sign"})
STAMPING: Final = frozenset({"time_stamping"})
_YEAR: Final = timedelta(days=365)
_SERIAL_BYTES: Final = 16
_MILLIMETRES: Final = 40
"""Edge of the picture."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Somebody with a certificate and its key; issues certificates when it is a CA."""

    suite: Suite
    certificate: bytes = field(repr=False)
    key: PrivateKey = field(repr=False)

    @property
    def signer(self) -> SoftwareSigner:
        """Its key as a Signer."""
        return SoftwareSigner(self.suite, self.certificate, self.key)


def make_authority(
    name: str, suite: Suite, *, now: datetime, entropy: Entropy, years: int = 10
) -> Authority:
    """Make a self-signed root (根证书), valid from a day before ``now``."""
    key = generate_key(suite)
    subject = _name(name)
    certificate = _certificate(
        suite,
        key,
        issuer=subject,
        issuer_spki=key.public_der(),
        subject=subject,
        spki=key.public_der(),
        usage=ISSUING,
        ca=True,
        period=(now - timedelta(days=1), now + years * _YEAR),
        serial=entropy(_SERIAL_BYTES),
    )
    return Authority(suite, certificate, key)


def issue(
    authority: Authority,
    name: str,
    *,
    now: datetime,
    entropy: Entropy,
    usage: frozenset[str] = SIGNING,
    ca: bool = False,
    years: int = 5,
    suite: Suite | None = None,
    purposes: frozenset[str] = frozenset(),
    crl_url: str = "",
    unit: str = "",
) -> Authority:
    """Issue a certificate with a new key, of the authority's suite unless another is given.

    ``usage`` are key usage (密钥用途) names of RFC 5280 §4.2.1.3 in asn1crypto's spelling,
    ``purposes`` those of §4.2.1.12, written as critical (``STAMPING`` for a TSA); ``crl_url``
    says where the authority's revocation lists are; ``unit`` is the holder's 统一社会信用代码.
    """
    suite = suite or authority.suite
    key = generate_key(suite)
    issuer = x509.Certificate.load(authority.certificate)
    certificate = _certificate(
        authority.suite,
        authority.key,
        issuer=issuer.subject,
        issuer_spki=issuer.public_key.dump(),
        subject=_name(name, unit),
        spki=key.public_der(),
        usage=usage,
        ca=ca,
        period=(now - timedelta(days=1), now + years * _YEAR),
        serial=entropy(_SERIAL_BYTES),
        purposes=purposes,
        crl_url=crl_url,
    )
    return Authority(suite, certificate, key)


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry of a revocation list; ``reason`` as in RFC 5280 §5.3.1, asn1crypto's spelling."""

    certificate: bytes = field(repr=False)
    at: datetime
    reason: str = "unspecified"
    invalid_since: datetime | None = None


def make_crl(
    authority: Authority,
    revoked: Sequence[Revoked],
    *,
    this_update: datetime,
    next_update: datetime,
    number: int = 1,
    point: str = "",
) -> bytes:
    """Make a revocation list (证书撤销列表) of certificates that ``authority`` issued; DER.

    With ``point`` it is for the certificates of that distribution point only.
    """
    issuer = x509.Certificate.load(authority.certificate)
    algorithm = sequence(core.ObjectIdentifier(authority.suite.signature_oid).dump())
    extensions: list[dict[str, object]] = [
        {
            "extn_id": "authority_key_identifier",
            "extn_value": x509.AuthorityKeyIdentifier(
                {"key_identifier": _key_id(issuer.public_key.dump())}
            ),
        },
        {"extn_id": "crl_number", "extn_value": core.Integer(number)},
    ]
    if point:
        scope = crl.IssuingDistributionPoint({"distribution_point": _point(point)})
        extensions.append(
            {"extn_id": "issuing_distribution_point", "critical": True, "extn_value": scope}
        )
    fields: dict[str, object] = {
        "version": "v2",
        "signature": x509.SignedDigestAlgorithm.load(algorithm),
        "issuer": issuer.subject,
        "this_update": _utc(this_update),
        "next_update": _utc(next_update),
        "crl_extensions": extensions,
    }
    if revoked:
        fields["revoked_certificates"] = [_entry(each) for each in revoked]
    tbs = crl.TbsCertList(fields).dump()
    return sequence(tbs, algorithm, core.OctetBitString(authority.key.sign(tbs)).dump())


def _entry(revoked: Revoked) -> dict[str, object]:
    extensions: list[dict[str, object]] = [
        {"extn_id": "crl_reason", "extn_value": crl.CRLReason(revoked.reason)}
    ]
    if revoked.invalid_since:
        since = core.GeneralizedTime(revoked.invalid_since.replace(microsecond=0))
        extensions.append({"extn_id": "invalidity_date", "extn_value": since})
    return {
        "user_certificate": x509.Certificate.load(revoked.certificate).serial_number,
        "revocation_date": _utc(revoked.at),
        "crl_entry_extensions": extensions,
    }


def _utc(at: datetime) -> x509.Time:
    return x509.Time({"utc_time": at.replace(microsecond=0)})


def _point(url: str) -> x509.DistributionPointName:
    name = x509.GeneralName("uniform_resource_identifier", url)
    return x509.DistributionPointName("full_name", [name])


def make_seal(
    maker: Authority,
    certificates: tuple[bytes, ...],
    *,
    name: str,
    es_id: str,
    created: datetime,
    valid_until: datetime,
    picture: Picture | None = None,
    version: int = WRITTEN_VERSION,
    by_digest: bool = False,
    stamp: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Make an electronic seal (GB/T 38540 v4) for the signers' ``certificates``; DER SESeal.

    ``name`` is the seal's Chinese name, ``es_id`` its ASCII number, ``maker`` the 制章者.
    It is valid from ``created`` on. ``version`` 5 is GM/T 0031-2025: such a seal may carry a
    time stamp, which ``stamp`` gets. With ``by_digest`` it lists digests of the certificates.
    """
    digests = [(maker.suite.hash_oid, maker.suite.digest(each)) for each in certificates]
    signed = write_seal_info(
        SealInfo(
            es_id=es_id,
            vendor="gov-exchange",
            kind=1,
            name=name,
            certificates=certificates,
            created=created,
            valid_from=created,
            valid_until=valid_until,
            picture=picture or Picture(draw_picture(), _MILLIMETRES, _MILLIMETRES),
        ),
        version=version,
        digests=digests if by_digest else (),
    )
    value = maker.key.sign(signed)
    return write_signed(
        signed,
        maker.certificate,
        maker.suite.signature_oid,
        value,
        stamp(value) if stamp else None,
    )


def draw_picture(size: int = 160) -> bytes:
    """Draw a red ring with a five-pointed star as a palette PNG of ``size`` pixels square."""
    centre = (size - 1) / 2
    y, x = (np.mgrid[0:size, 0:size] - centre) / centre
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    ring = (radius <= 1) & (radius >= 0.94)  # noqa: PLR2004 - stroke of 1.2 mm
    # Between two tips the edge of the star is a straight line from tip to notch.
    tip, notch = 0.38, 0.38 * np.sin(np.pi / 10) / np.sin(3 * np.pi / 10)
    turn = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    edge = tip * notch * np.sin(np.pi / 5)
    star = radius * (tip * np.sin(turn) + notch * np.sin(np.pi / 5 - turn)) <= edge
    bits = np.packbits(ring | star, axis=1)
    rows = np.hstack([np.zeros((size, 1), np.uint8), bits])  # filter type 0 before each row
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 1, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes([255, 255, 255, 221, 31, 31])),
            _chunk(b"tRNS", bytes([0, 255])),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _name(name: str, unit: str = "") -> x509.Name:
    parts = {"country_name": "CN", "common_name": name}
    return x509.Name.build(parts | ({"organization_identifier": unit} if unit else {}))


def _key_id(spki: bytes) -> bytes:
    """Return method 1 of RFC 7093 §2: the leftmost 160 bits of SHA-256 of the key."""
    return hashlib.sha256(bytes(keys.PublicKeyInfo.load(spki)["public_key"])).digest()[:20]


def _certificate(
    suite: Suite,
    issuer_key: PrivateKey,
    *,
    issuer: x509.Name,
    issuer_spki: bytes,
    subject: x509.Name,
    spki: bytes,
    usage: frozenset[str],
    ca: bool,
    period: tuple[datetime, datetime],
    serial: bytes,
    purposes: frozenset[str] = frozenset(),
    crl_url: str = "",
) -> bytes:
    """Build and sign a certificate (RFC 5280 §4.1); ``cryptography`` cannot sign with SM2."""
    # asn1crypto's own algorithm class would write NULL parameters; RFC 5758 §3.2 has none.
    algorithm = sequence(core.ObjectIdentifier(suite.signature_oid).dump())
    extensions: list[tuple[str, bool, core.Asn1Value]] = [
        ("basic_constraints", True, x509.BasicConstraints({"ca": ca})),
        ("key_usage", True, x509.KeyUsage(set(usage))),
        ("key_identifier", False, core.OctetString(_key_id(spki))),
        (
            "authority_key_identifier",
            False,
            x509.AuthorityKeyIdentifier({"key_identifier": _key_id(issuer_spki)}),
        ),
    ]
    if purposes:
        extensions.append(("extended_key_usage", True, x509.ExtKeyUsageSyntax(sorted(purposes))))
    if crl_url:
        points = x509.CRLDistributionPoints([{"distribution_point": _point(crl_url)}])
        extensions.append(("crl_distribution_points", False, points))
    # A first bit of 0 keeps the serial positive, a second of 1 keeps its length.
    number = int.from_bytes(serial) >> 2 | 1 << 8 * _SERIAL_BYTES - 2
    not_before, not_after = (each.replace(microsecond=0) for each in period)
    tbs = x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": number,
            "signature": x509.SignedDigestAlgorithm.load(algorithm),
            "issuer": issuer,
            "validity": {
                "not_before": x509.Time({"utc_time": not_before}),
                "not_after": x509.Time({"utc_time": not_after}),
            },
            "subject": subject,
            "subject_public_key_info": keys.PublicKeyInfo.load(spki),
            "extensions": [
                {"extn_id": kind, "critical": critical, "extn_value": value}
                for kind, critical, value in extensions
            ],
        }
    ).dump()
    return sequence(tbs, algorithm, core.OctetBitString(issuer_key.sign(tbs)).dump())
