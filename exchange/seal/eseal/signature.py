"""Seal content with an electronic seal (电子签章) and check such a signature.

The structure is SES_Signature in both suites: GB/T 38540-2020 (version 4), or GM/T 0031-2025
(version 5) where the seal is one of version 5; version 1 is read as well. In: content and what
it is called. Out: DER, or numbered checks. Sealing raises Misconfigured outside the seal's
validity; checking raises only Misconfigured, where this machine lacks an algorithm: whatever
is wrong with the bytes becomes a failed check.

Checking works offline: revocation lists and trust anchors are brought along (``Trust``). What
no list answers for is said, as a note or a failure. A time stamp that holds is the signing
time, otherwise the signer's own word is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from exchange.errors import Integrity, Misconfigured
from exchange.seal.checks import Check, equal
from exchange.seal.crypto.suites import SUITES, Suite, suite_of_curve, suite_of_signature
from exchange.seal.eseal.structures import (
    WRITTEN_VERSION,
    Extension,
    Seal,
    Signature,
    read_seal,
    read_signature,
    write_signed,
    write_to_sign,
)
from exchange.seal.pki.signers import Signer
from exchange.seal.pki.timestamp import CLOCK_SKEW, check_stamp
from exchange.seal.pki.trust import MAX_CHAIN, SigningCertificate, Trust, TrustChecker, printed
from exchange.seal.pki.x509 import (
    Certificate,
    read_certificate,
    verify_lasting,
    verify_with,
)
from exchange.text import Text

__all__ = ["MAX_CHAIN", "Sealer", "check_seal", "check_signature"]

_VERSIONS: Final = {1: (1,), WRITTEN_VERSION: (4, 5)}
"""The versions that each shape of the structures may have."""
_SIGNER: Final = Text("签章者", "the signer")
_MAKER: Final = Text("制章者", "the seal's maker")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sealer:
    """A department's electronic seal, ready to use.

    ``eseal`` is the DER SESeal, ``chain`` the certificates between signer, maker and root
    (DER, without the root). Signatures have the version of the seal, 4 or 5. ``stamp`` gets a
    time stamp for each signature value, or None to go without. Raises Misconfigured when the
    seal does not list the signer, or is one of version 1.
    """

    signer: Signer
    eseal: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    stamp: Callable[[bytes], bytes | None] | None = field(default=None, repr=False, compare=False)
    details: Seal = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the seal once."""
        details = read_seal(self.eseal)
        if not _admits(details, self.signer.certificate):
            raise Misconfigured(
                Text(
                    f"签章者证书不在印章“{details.info.name}”的证书列表中",
                    f"the seal {details.info.name!r} does not list the signer's certificate",
                ),
                hint=Text("请更换证书，或申请新的印章", "use its certificate, or get a new seal"),
            )
        if details.version not in _VERSIONS[WRITTEN_VERSION]:
            raise Misconfigured(
                Text(
                    f"印章“{details.info.name}”是第 {details.version} 版，只能用于验章",
                    f"the seal {details.info.name!r} has version {details.version}: "
                    "such seals are only verified",
                ),
                hint=Text("请申请新版印章", "get a seal of version 4 or 5"),
            )
        object.__setattr__(self, "details", details)

    @property
    def suite(self) -> Suite:
        """The suite of the signer's key."""
        return self.signer.suite

    def seal(
        self,
        content: bytes,
        *,
        property_info: str,
        at: datetime,
        stamp: Callable[[bytes], bytes | None] | None = None,
    ) -> bytes:
        """Seal ``content``; returns DER SES_Signature with dataHash = H(content).

        ``property_info`` (ASCII) names the content, ``at`` is the signing time (aware; whole
        seconds are kept), ``stamp`` gets a time stamp token for the signature value
        (:func:`exchange.seal.pki.timestamp.stamp`; what it raises passes through); without it the
        sealer's own is asked. Raises
        Misconfigured outside the seal's validity, or for another name.
        """
        if not property_info.isascii():
            raise Misconfigured(
                Text("签名保护范围只能用 ASCII 字符", "the name of the content must be ASCII"),
                hint=Text("请使用 urn:gds:… 形式的名称", "use a name such as urn:gds:…"),
            )
        info = self.details.info
        if not info.valid_from <= at.replace(microsecond=0) <= info.valid_until:
            raise Misconfigured(
                Text(
                    f"印章“{info.name}”在 {at.isoformat()} 不在有效期内"
                    f"（{info.valid_from.isoformat()} 至 {info.valid_until.isoformat()}）",
                    f"the seal {info.name!r} is not valid at {at.isoformat()} "
                    f"({info.valid_from.isoformat()} to {info.valid_until.isoformat()})",
                ),
                hint=Text("请检查系统时间，或更换印章", "check the clock, or renew the seal"),
            )
        to_sign = write_to_sign(
            self.eseal,
            at,
            self.suite.digest(content),
            property_info,
            version=self.details.version,
        )
        value = self.signer.sign(to_sign)
        stamp = stamp or self.stamp
        return write_signed(
            to_sign,
            self.signer.certificate,
            self.suite.signature_oid,
            value,
            stamp(value) if stamp else None,
        )


def check_signature(
    data: bytes,
    content: bytes,
    *,
    suite: Suite,
    property_info: str,
    chain: Sequence[bytes],
    trust: Trust,
    now: datetime | None = None,
) -> list[Check]:
    """Check a signature (DER) in the standard's order (GB/T 38540-2020, validation of a signature).

    ``suite`` and ``property_info`` are what the surrounding file claims; ``chain`` travelled
    with it and need not be trusted. ``trust`` and the clock ``now`` are the reader's own.
    The numbers below are the steps of the standard.
    """
    checks: list[Check] = []
    signature = _read(
        checks,
        "signature.format",
        Text("电子签章数据格式", "format of the signature"),
        lambda: read_signature(data),
    )  # (1)
    if signature is None:
        return checks
    checker = TrustChecker(trust, chain)
    checks += checker.faults
    checks += _check_version("signature", signature.shape, signature.version)
    checks += _check_extensions("signature", signature.extensions)
    found = suite_of_signature(signature.algorithm)
    checks.append(
        equal(
            "suite",
            Text("签名算法属于声明的密码套件", "the algorithm is of the suite that was claimed"),
            expected=suite.id,
            found=found.id if found else signature.algorithm,
        )
    )
    signer = _read(
        checks,
        "signer.certificate",
        Text("签章者证书格式", "format of the signer's certificate"),
        lambda: read_certificate(signature.certificate),
    )
    stamped: list[Check] = []
    at, witnessed = signature.time, False
    if signature.stamp is not None:
        stamped, genuine = check_stamp(
            "signature.stamp",
            signature.stamp,
            stamped=signature.value,
            checker=checker,
            claimed=at - CLOCK_SKEW if at else None,
        )
        at, witnessed = genuine or at, genuine is not None
    if signer is not None:
        checks.append(_check_value(signature, signer))  # (2)
        who = SigningCertificate("signer.", _SIGNER, signer, at, witnessed=witnessed)
        checks += checker.check(who)  # (3), (4)
    seal = _read(
        checks,
        "seal.format",
        Text("电子印章格式", "format of the seal"),
        lambda: read_seal(signature.eseal),
    )
    if seal is not None:
        checks.append(_check_listed(seal, signature))  # (5)
    of_key = suite_of_curve(signer.curve) if signer else None
    checks += [
        equal(
            "signature.digest",
            Text("原文的杂凑值等于签章中的杂凑值", "the content has the digest that was signed"),
            expected=signature.digest.hex(),
            found=(of_key or found or suite).digest(content).hex(),
        ),  # (6)
        equal(
            "signature.range",
            Text("签章保护的就是这份原文", "the signature names this content"),
            expected=property_info,
            found=signature.property_info,
        ),
    ]
    if seal is not None:
        checks += _check_seal(seal, checker, within=signature.version, used=at)  # (7)
        checks.append(_check_time("signature.time", seal, at, "签章时间", "the signing time"))
    if now is not None:
        checks.append(_check_clock(signature.time, at, now))
    return [*checks, *stamped, checker.check_used()]


def check_seal(
    eseal: bytes,
    *,
    chain: Sequence[bytes],
    trust: Trust,
    at: datetime | None = None,
) -> list[Check]:
    """Check a seal that stands alone (GB/T 38540-2020, validation of a seal).

    With ``at``, also whether it may be used then. For the rest see :func:`check_signature`.
    """
    checks: list[Check] = []
    seal = _read(
        checks, "seal.format", Text("电子印章格式", "format of the seal"), lambda: read_seal(eseal)
    )
    if seal is None:
        return checks
    checker = TrustChecker(trust, chain)
    checks += checker.faults
    checks += _check_seal(seal, checker, within=None, used=at)
    if at is not None:
        checks.append(_check_time("seal.time", seal, at, "所问时间", "the time asked about"))
    return checks


def _read(checks: list[Check], name: str, text: Text, read: Callable[[], _T]) -> _T | None:
    """Note whether a part can be read; returns None when it cannot."""
    try:
        value = read()
    except Integrity as error:
        checks.append(Check(name, ok=False, text=error.what, expected="DER", found=error.what.en))
        return None
    checks.append(Check(name, ok=True, text=text))
    return value


def _check_version(part: str, shape: int, version: int, within: int | None = None) -> list[Check]:
    """Compare a version with its structure, and a seal's with that of the signature around it."""
    allowed = [each for each in _VERSIONS[shape] if within is None or each <= within]
    if within is not None and within > 1:
        allowed = [each for each in allowed if each > 1]
    return [
        Check(
            f"{part}.version",
            version in allowed,
            Text("版本号与结构相符", "the version is the one of the structure"),
            expected=" or ".join(map(str, allowed)) or "another structure",
            found=str(version),
        )
    ]


def _check_extensions(part: str, extensions: Sequence[Extension]) -> list[Check]:
    """Refuse what must be understood and is not (自定义数据); the rest is only listed."""
    if not extensions:
        return []
    critical = [each.id for each in extensions if each.critical]
    return [
        Check(
            f"{part}.extensions",
            not critical,
            Text("没有无法处理的关键自定义数据", "no critical extension that is not understood"),
            expected="none critical",
            found=", ".join(critical or [each.id for each in extensions])[:400],
        )
    ]


def _check_value(signature: Signature, signer: Certificate) -> Check:
    return Check(
        "signature.value",
        suite_of_signature(signature.algorithm) is not None
        and verify_with(signer, signature.algorithm, signature.signed, signature.value),
        Text("签章者的签名正确", "the signer's signature is right"),
        expected=f"signature of {signer.title}",
        found=signature.value.hex(),
    )


def _check_listed(seal: Seal, signature: Signature) -> Check:
    return Check(
        "signer.in_seal",
        _admits(seal, signature.certificate),
        Text("签章者证书在印章的证书列表中", "the seal lists the signer's certificate"),
        expected=seal.info.name,
        found=SUITES["ecdsa-p256-sha256"].digest(signature.certificate).hex(),
    )


def _check_seal(
    seal: Seal, checker: TrustChecker, *, within: int | None, used: datetime | None
) -> list[Check]:
    """Check steps 2 to 6 of a seal; its maker is judged by the day the seal was made.

    ``within`` is the version of the signature around it, ``used`` when the seal was used.
    """
    info = seal.info
    checks = _check_version("seal", seal.shape, seal.version, within)
    checks += _check_extensions("seal", seal.extensions)
    stamped: list[Check] = []
    witnessed = False
    if seal.stamp is not None:
        stamped, genuine = check_stamp(
            "seal.stamp",
            seal.stamp,
            stamped=seal.signature,
            checker=checker,
            claimed=info.created,
        )
        witnessed = genuine is not None
    maker = _read(
        checks,
        "seal.maker",
        Text("制章者证书格式", "format of the maker's certificate"),
        lambda: read_certificate(seal.maker),
    )
    if maker is not None:
        checks.append(
            Check(
                "seal.signature",
                suite_of_signature(seal.algorithm) is not None
                and verify_lasting(maker, seal.algorithm, seal.signed, seal.signature),
                Text("制章者的签名正确", "the maker's signature is right"),
                expected=f"signature of {maker.title}",
                found=seal.signature.hex(),
            )
        )  # (2)
    checks.append(
        Check(
            "seal.created",
            info.created <= info.valid_until
            and not (used is not None and info.valid_from <= used < info.created),
            Text("印章先制作后使用", "the seal was made before it was used, and before its end"),
            expected=f"<= {printed(used)}, {info.valid_until.isoformat()}",
            found=info.created.isoformat(),
        )
    )  # (3)
    if maker is not None:
        who = SigningCertificate("seal.maker_", _MAKER, maker, info.created, witnessed=witnessed)
        checks += checker.check(who)  # (4)
    return [
        *checks,
        Check(
            "seal.validity",
            info.valid_from <= info.valid_until,
            Text("印章有效期的起止合理", "the seal's validity begins before it ends"),
            expected="start <= end",
            found=_period(seal),
        ),  # (5)
        *stamped,  # (6)
    ]


def _check_time(name: str, seal: Seal, at: datetime | None, zh: str, en: str) -> Check:
    return Check(
        name,
        at is not None and seal.info.valid_from <= at <= seal.info.valid_until,
        Text(f"{zh}在印章有效期内", f"{en} lies within the seal's validity"),
        expected=_period(seal),
        found=printed(at),
    )


def _check_clock(claimed: datetime | None, at: datetime | None, now: datetime) -> Check:
    """Nothing is signed in the future; a stamp may come after the signature, not before."""
    latest = max((each for each in (claimed, at) if each is not None), default=None)
    return Check(
        "signature.clock",
        latest is not None and latest <= now + CLOCK_SKEW,
        Text("签章时间不在未来", "the signing time is not in the future"),
        expected=f"<= {now.isoformat()}",
        found=printed(latest),
    )


def _admits(seal: Seal, certificate: bytes) -> bool:
    """Whether a certificate equals an entry of the seal's list, byte for byte or by digest."""
    if certificate in seal.info.certificates:
        return True
    names = {
        name: suite
        for suite in SUITES.values()
        for name in (suite.hash_oid, suite.hash_name, suite.hash_name.replace("sha", "sha-"))
    }
    return any(
        kind.lower() in names and names[kind.lower()].digest(certificate) == value
        for kind, value in seal.digests
    )


def _period(seal: Seal) -> str:
    return f"{seal.info.valid_from.isoformat()} .. {seal.info.valid_until.isoformat()}"
