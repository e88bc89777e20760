"""The ASN.1 of electronic seals and signatures, in the words of the standards.

v1 is GM/T 0031-2014, v4 is GB/T 38540-2020, v5 is GM/T 0031-2025. All three are read, v4 and
v5 are written. What a signature covers is handed out as the received bytes (domain: encoders differ
in details that DER would not allow, and a re-encoding would break their signatures).
Raises Integrity for everything that is not such a structure.
"""
# ruff: noqa: RUF012 - asn1crypto wants its fields as class attributes
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from asn1crypto import core

from exchange.seal.crypto import der
from exchange.text import Text

MAX_SEAL_BYTES: Final = 512 * 1024
MAX_SIGNATURE_BYTES: Final = 1024 * 1024
WRITTEN_VERSION: Final = 4

_SEAL: Final = Text("电子印章", "electronic seal")
_SIGNATURE: Final = Text("电子签章数据", "electronic seal signature")
_V1_PARTS, _PARTS = 2, 4
"""v4 and v5 may carry a time stamp as a fifth part."""
_TO_SIGN_PARTS: Final = 5
_SEAL_INFO_PARTS: Final = 4
"""Without extensions, which come last."""
_SEQUENCE, _TAG_0 = 0x30, 0xA0
_CERTIFICATES, _DIGESTS = 1, 2
"""certListType: whole certificates, or digests of them."""


class _Header(core.Sequence):
    _fields = [("ID", core.IA5String), ("version", core.Integer), ("Vid", core.IA5String)]


class _Listed(core.SequenceOf):
    _child_spec = core.Any


class _CertDigest(core.Sequence):
    _fields = [("type", core.PrintableString), ("value", core.OctetString)]


class _Property(core.Sequence):
    _fields = [
        ("type", core.Integer),
        ("name", core.UTF8String),
        ("certListType", core.Integer),
        ("certList", _Listed),
        ("createDate", core.GeneralizedTime),
        ("validStart", core.GeneralizedTime),
        ("validEnd", core.GeneralizedTime),
    ]


class _PropertyV1(core.Sequence):
    _fields = [
        ("type", core.Integer),
        ("name", core.UTF8String),
        ("certList", _Listed),
        ("createDate", core.UTCTime),
        ("validStart", core.UTCTime),
        ("validEnd", core.UTCTime),
    ]


class _Picture(core.Sequence):
    _fields = [
        ("type", core.IA5String),
        ("data", core.OctetString),
        ("width", core.Integer),
        ("height", core.Integer),
    ]


class _SealInfo(core.Sequence):
    _fields = [
        ("header", _Header),
        ("esID", core.IA5String),
        ("property", _Property),
        ("picture", _Picture),
        ("extDatas", core.Any, {"optional": True}),
    ]


class _SealInfoV1(core.Sequence):
    _fields = [
        ("header", _Header),
        ("esID", core.IA5String),
        ("property", _PropertyV1),
        ("picture", _Picture),
        ("extDatas", core.Any, {"optional": True}),
    ]


class _Seal(core.Sequence):
    _fields = [
        ("eSealInfo", _SealInfo),
        ("cert", core.OctetString),
        ("signAlgID", core.ObjectIdentifier),
        ("signedValue", core.OctetBitString),
        ("timeStamp", core.Any, {"optional": True}),
    ]


class _SignInfoV1(core.Sequence):
    _fields = [
        ("cert", core.OctetString),
        ("signatureAlgorithm", core.ObjectIdentifier),
        ("signData", core.OctetBitString),
    ]


class _SealV1(core.Sequence):
    _fields = [("eSealInfo", _SealInfoV1), ("signInfo", _SignInfoV1)]


class _ToSign(core.Sequence):
    _fields = [
        ("version", core.Integer),
        ("eseal", core.Any),
        ("timeInfo", core.GeneralizedTime),
        ("dataHash", core.OctetBitString),
        ("propertyInfo", core.IA5String),
        ("extDatas", core.Any, {"optional": True}),
    ]


class _Signature(core.Sequence):
    _fields = [
        ("toSign", _ToSign),
        ("cert", core.OctetString),
        ("signatureAlgID", core.ObjectIdentifier),
        ("signature", core.OctetBitString),
        ("timeStamp", core.Any, {"optional": True}),
    ]


class _ToSignV1(core.Sequence):
    _fields = [
        ("version", core.Integer),
        ("eseal", core.Any),
        ("timeInfo", core.OctetBitString),
        ("dataHash", core.OctetBitString),
        ("propertyInfo", core.IA5String),
        ("cert", core.OctetString),
        ("signatureAlgorithm", core.ObjectIdentifier),
    ]


class _SignatureV1(core.Sequence):
    _fields = [("toSign", _ToSignV1), ("signature", core.OctetBitString)]


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture (印章图像) of a seal; width and height in millimetres."""

    data: bytes
    width: int
    height: int
    type: str = "PNG"


@dataclass(frozen=True, slots=True)
class SealInfo:
    """What a maker vouches for; ``es_id``, ``vendor`` and the picture's type are ASCII.

    ``kind`` is free since v5; 1 is a unit's seal (单位印章), 2 a person's.
    """

    es_id: str
    vendor: str
    kind: int
    name: str
    certificates: tuple[bytes, ...]
    created: datetime
    valid_from: datetime
    valid_until: datetime
    picture: Picture


@dataclass(frozen=True, slots=True)
class Extension:
    """One entry of ExtensionDatas (自定义数据)."""

    id: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """An electronic seal (电子印章) as received; ``signed`` is what its maker signed.

    ``shape`` is the version that the structure has (1, or 4 for both later ones), ``version``
    the one it says; ``stamp`` is a time stamp token over ``signature``.
    """

    shape: int
    version: int
    info: SealInfo
    digests: tuple[tuple[str, bytes], ...]
    maker: bytes
    algorithm: str
    signature: bytes
    signed: bytes
    stamp: bytes | None
    extensions: tuple[Extension, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """An electronic seal signature (电子签章数据) as received.

    ``time`` is None where a v1 signature carries a time stamp token in its place; ``shape``
    and ``stamp`` as in a seal, the stamp being over ``value``.
    """

    shape: int
    version: int
    eseal: bytes
    time: datetime | None
    digest: bytes
    property_info: str
    certificate: bytes
    algorithm: str
    value: bytes
    signed: bytes
    stamp: bytes | None
    extensions: tuple[Extension, ...]


def _split(data: bytes, limit: int) -> list[bytes]:
    """Walk a structure and cut it into its received parts: two in v1, four or five later."""
    der.check_der(data, limit)
    parts = der.split(data)
    if len(parts) not in {_V1_PARTS, _PARTS, _PARTS + 1}:
        msg = f"{len(parts)} parts"
        raise ValueError(msg)
    return parts


def _canonical(parts: list[bytes], *values: core.Asn1Value) -> None:
    """Refuse parts that nobody signed in any but their one DER form."""
    if parts != [value.dump() for value in values]:
        msg = "the parts around what was signed are not canonical"
        raise ValueError(msg)


def _stamp(parts: list[bytes]) -> bytes | None:
    """Take the token out of ``timeStamp [0] BIT STRING``, tagged explicitly or not at all."""
    if len(parts) == _PARTS:
        return None
    part = parts[_PARTS]
    bits = der.contents(part) if part[0] == _TAG_0 else part
    value = core.OctetBitString.load(bits, strict=True)
    _canonical([bits], _bits(value))
    return bytes(value)


def _extensions(parts: list[bytes], before: int) -> tuple[Extension, ...]:
    """Read ExtensionDatas behind ``before`` parts: untagged, or [0] in either way of tagging."""
    if len(parts) == before:
        return ()
    (part,) = parts[before:]
    if part[0] not in {_SEQUENCE, _TAG_0}:
        msg = f"extensions with tag {part[0]:#x}"
        raise ValueError(msg)
    entries = der.split(part)
    if part[0] == _TAG_0 and len(entries) == 1:
        inner = der.split(entries[0])
        if all(each[0] == _SEQUENCE for each in inner):
            entries = inner
    return tuple(_extension(each) for each in entries)


def _extension(entry: bytes) -> Extension:
    name, *critical, value = der.split(entry)
    flags = [core.Boolean.load(each, strict=True).native for each in critical]
    if entry[0] != _SEQUENCE or len(flags) > 1:
        msg = "an extension is malformed"
        raise ValueError(msg)
    return Extension(
        id=core.ObjectIdentifier.load(name, strict=True).dotted,
        critical=any(flags),
        value=bytes(core.OctetString.load(value, strict=True)),
    )


def _octets(value: core.OctetString) -> core.OctetString:
    return core.OctetString(bytes(value))


def _oid(value: core.ObjectIdentifier) -> core.ObjectIdentifier:
    return core.ObjectIdentifier(value.dotted)


def _bits(value: core.OctetBitString) -> core.OctetBitString:
    return core.OctetBitString(bytes(value))


def _certificates(listed: core.SequenceOf) -> tuple[bytes, ...]:
    return tuple(bytes(each.parse(core.OctetString)) for each in listed)


@lru_cache(maxsize=16)
def read_seal(data: bytes) -> Seal:
    """Read a seal of version 1, 4 or 5; a seal of two parts is v1 (GM/T 0031-2014).

    Remembered, as a stream of batches brings the same seal every time.
    """
    with der.reading(_SEAL):
        parts = _split(data, MAX_SEAL_BYTES)
        if len(parts) == _V1_PARTS:
            return _read_seal_v1(data, parts)
        seal = _Seal.load(data, strict=True)
        info, about = seal["eSealInfo"], seal["eSealInfo"]["property"]
        maker, algorithm, value = (seal[name] for name in ("cert", "signAlgID", "signedValue"))
        _canonical(parts[1:_PARTS], _octets(maker), _oid(algorithm), _bits(value))
        kind = about["certListType"].native
        certificates: tuple[bytes, ...] = ()
        digests: tuple[tuple[str, bytes], ...] = ()
        if kind == _CERTIFICATES:
            certificates = _certificates(about["certList"])
        elif kind == _DIGESTS:
            listed = [each.parse(_CertDigest) for each in about["certList"]]
            digests = tuple((each["type"].native, bytes(each["value"])) for each in listed)
        else:
            msg = f"certListType {kind}"
            raise ValueError(msg)
        return Seal(
            shape=WRITTEN_VERSION,
            version=info["header"]["version"].native,
            info=_info(info, certificates),
            digests=digests,
            maker=bytes(maker),
            algorithm=algorithm.dotted,
            signature=bytes(value),
            signed=parts[0],
            stamp=_stamp(parts),
            extensions=_extensions(der.split(parts[0]), _SEAL_INFO_PARTS),
        )


def _read_seal_v1(data: bytes, parts: list[bytes]) -> Seal:
    """Read a seal whose maker signed his certificate and algorithm along."""
    seal = _SealV1.load(data, strict=True)
    info, sign = seal["eSealInfo"], seal["signInfo"]
    maker, algorithm, value = (sign[each] for each in ("cert", "signatureAlgorithm", "signData"))
    by_maker = der.split(parts[1])
    _canonical(by_maker, _octets(maker), _oid(algorithm), _bits(value))
    return Seal(
        shape=1,
        version=info["header"]["version"].native,
        info=_info(info, _certificates(info["property"]["certList"])),
        digests=(),
        maker=bytes(maker),
        algorithm=algorithm.dotted,
        signature=bytes(value),
        signed=der.sequence(parts[0], *by_maker[:2]),
        stamp=None,
        extensions=_extensions(der.split(parts[0]), _SEAL_INFO_PARTS),
    )


def _info(info: core.Sequence, certificates: tuple[bytes, ...]) -> SealInfo:
    about, picture = info["property"], info["picture"]
    if info["header"]["ID"].native != "ES":
        msg = "the header does not begin with ES"
        raise ValueError(msg)
    return SealInfo(
        es_id=info["esID"].native,
        vendor=info["header"]["Vid"].native,
        kind=about["type"].native,
        name=about["name"].native,
        certificates=certificates,
        created=der.moment(about["createDate"]),
        valid_from=der.moment(about["validStart"]),
        valid_until=der.moment(about["validEnd"]),
        picture=Picture(
            data=bytes(picture["data"]),
            width=picture["width"].native,
            height=picture["height"].native,
            type=picture["type"].native,
        ),
    )


def read_signature(data: bytes) -> Signature:
    """Read a signature of version 1, 4 or 5; the seal inside is handed out unread."""
    with der.reading(_SIGNATURE):
        parts = _split(data, MAX_SIGNATURE_BYTES)
        if len(parts) == _V1_PARTS:
            return _read_signature_v1(data, parts)
        outer = _Signature.load(data, strict=True)
        to_sign, certificate = outer["toSign"], outer["cert"]
        algorithm, value = outer["signatureAlgID"], outer["signature"]
        _canonical(parts[1:_PARTS], _octets(certificate), _oid(algorithm), _bits(value))
        return Signature(
            shape=WRITTEN_VERSION,
            version=to_sign["version"].native,
            eseal=der.split(parts[0])[1],
            time=der.moment(to_sign["timeInfo"]),
            digest=bytes(to_sign["dataHash"]),
            property_info=to_sign["propertyInfo"].native,
            certificate=bytes(certificate),
            algorithm=algorithm.dotted,
            value=bytes(value),
            signed=parts[0],
            stamp=_stamp(parts),
            extensions=_extensions(der.split(parts[0]), _TO_SIGN_PARTS),
        )


def _read_signature_v1(data: bytes, parts: list[bytes]) -> Signature:
    outer = _SignatureV1.load(data, strict=True)
    to_sign, value = outer["toSign"], outer["signature"]
    _canonical(parts[1:], _bits(value))
    return Signature(
        shape=1,
        version=to_sign["version"].native,
        eseal=der.split(parts[0])[1],
        time=_time_v1(bytes(to_sign["timeInfo"])),
        digest=bytes(to_sign["dataHash"]),
        property_info=to_sign["propertyInfo"].native,
        certificate=bytes(to_sign["cert"]),
        algorithm=to_sign["signatureAlgorithm"].dotted,
        value=bytes(value),
        signed=parts[0],
        stamp=None,
        extensions=(),
    )


def _time_v1(data: bytes) -> datetime | None:
    """Read the bit string of v1, a plain time in DER or a time stamp token."""
    try:
        der.check_der(data, MAX_SEAL_BYTES)
        return der.moment(core.load(data, strict=True))
    except ValueError:
        return None


def _time(at: datetime) -> core.GeneralizedTime:
    """Write a time of whole seconds in UTC (X.690 §11.7)."""
    return core.GeneralizedTime(at.astimezone(UTC).replace(microsecond=0))


def write_seal_info(
    info: SealInfo, *, version: int = WRITTEN_VERSION, digests: Sequence[tuple[str, bytes]] = ()
) -> bytes:
    """Encode SES_SealInfo of version 4 or 5: the bytes that a maker signs.

    With ``digests`` (OID of the hash, digest) the seal lists those instead of certificates.
    """
    listed: list[core.Asn1Value] = [core.OctetString(each) for each in info.certificates]
    if digests:
        listed = [_CertDigest({"type": kind, "value": value}) for kind, value in digests]
    return bytes(
        _SealInfo(
            {
                "header": {"ID": "ES", "version": version, "Vid": info.vendor},
                "esID": info.es_id,
                "property": {
                    "type": info.kind,
                    "name": info.name,
                    "certListType": _DIGESTS if digests else _CERTIFICATES,
                    "certList": listed,
                    "createDate": _time(info.created),
                    "validStart": _time(info.valid_from),
                    "validEnd": _time(info.valid_until),
                },
                "picture": {
                    "type": info.picture.type,
                    "data": info.picture.data,
                    "width": info.picture.width,
                    "height": info.picture.height,
                },
            }
        ).dump()
    )


def write_to_sign(
    eseal: bytes,
    at: datetime,
    digest: bytes,
    property_info: str,
    *,
    version: int = WRITTEN_VERSION,
) -> bytes:
    """Encode TBS_Sign of version 4 or 5: the bytes that the signer signs."""
    return der.sequence(
        core.Integer(version).dump(),
        eseal,
        _time(at).dump(),
        core.OctetBitString(digest).dump(),
        core.IA5String(property_info).dump(),
    )


def write_signed(
    signed: bytes, certificate: bytes, algorithm: str, value: bytes, stamp: bytes | None = None
) -> bytes:
    """Put SESeal or SES_Signature together: signed part, certificate, OID and signature.

    ``stamp`` is a time stamp token over ``value``, written with an explicit tag.
    """
    parts = [
        signed,
        core.OctetString(certificate).dump(),
        core.ObjectIdentifier(algorithm).dump(),
        core.OctetBitString(value).dump(),
    ]
    if stamp is not None:
        parts.append(core.OctetBitString(stamp, explicit=0).dump())
    return der.sequence(*parts)
