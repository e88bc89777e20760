"""Seal content with an electronic seal (电子签章) and check such a signature.

The structure is SES_Signature of GB/T 38540-2020 (version 4) in both suites. In: content and
what it is called. Out: DER, or numbered checks. Sealing raises Misconfigured outside the
seal's validity; checking raises only Misconfigured, where this machine lacks an algorithm:
whatever is wrong with the bytes becomes a failed check.

Checking works offline, so two steps of the standard are left to whoever needs them: the
revocation of certificates, and time stamps (a stamped signature fails its check, rather than
letting pass what nobody verified).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from exchange.errors import Integrity, Misconfigured
from exchange.seal.checks import Check, equal
from exchange.seal.signers import Signer
from exchange.seal.structures import (
    Seal,
    Signature,
    read_seal,
    read_signature,
    write_signed,
    write_to_sign,
)
from exchange.seal.suites import SUITES, Suite, suite_of_signature
from exchange.seal.x509 import (
    Certificate,
    Path,
    PathBuilder,
    read_certificate,
    verify_lasting,
    verify_with,
)
from exchange.text import Text

MAX_CHAIN: Final = 8
MAX_ANCHORS: Final = 64
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sealer:
    """A department's electronic seal, ready to use.

    ``eseal`` is the DER SESeal, ``chain`` the certificates between signer, maker and root
    (DER, without the root). Raises Misconfigured when the seal does not list the signer.
    """

    signer: Signer
    eseal: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
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
        object.__setattr__(self, "details", details)

    @property
    def suite(self) -> Suite:
        """The suite of the signer's key."""
        return self.signer.suite

    def seal(self, content: bytes, *, property_info: str, at: datetime) -> bytes:
        """Seal ``content``; returns DER SES_Signature with dataHash = H(content).

        ``property_info`` (ASCII) names the content, ``at`` is the signing time (aware; whole
        seconds are kept). Raises Misconfigured outside the seal's validity, or for another name.
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
        to_sign = write_to_sign(self.eseal, at, self.suite.digest(content), property_info)
        signature = self.signer.sign(to_sign)
        return write_signed(to_sign, self.signer.certificate, self.suite.signature_oid, signature)


def check_signature(
    ses: bytes,
    content: bytes,
    *,
    suite: Suite,
    property_info: str,
    chain: Sequence[bytes],
    anchors: Sequence[bytes],
) -> list[Check]:
    """Check a signature in the standard's order (GB/T 38540-2020, validation of a signature).

    ``suite`` and ``property_info`` are what the surrounding file claims; ``chain`` travelled
    with it and need not be trusted, ``anchors`` are root certificates (DER) that the reader
    trusts. The numbers below are the steps of the standard.
    """
    checks: list[Check] = []
    signature = _read(
        checks,
        "signature.format",
        Text("电子签章数据格式", "format of the signature"),
        lambda: read_signature(ses),
    )  # (1)
    if signature is None:
        return checks
    links = _Links(checks, chain, anchors)
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
    if signer is not None:
        checks += _check_signer(signature, signer, links)  # (2) to (4)
    seal = _read(
        checks,
        "seal.format",
        Text("电子印章格式", "format of the seal"),
        lambda: read_seal(signature.eseal),
    )
    if seal is not None:
        checks.append(_check_listed(seal, signature))  # (5)
    checks += [
        equal(
            "signature.digest",
            Text("原文的杂凑值等于签章中的杂凑值", "the content has the digest that was signed"),
            expected=signature.digest.hex(),
            found=(found or suite).digest(content).hex(),
        ),  # (6)
        equal(
            "signature.range",
            Text("签章保护的就是这份原文", "the signature names this content"),
            expected=property_info,
            found=signature.property_info,
        ),
    ]
    if seal is not None:
        checks += _check_seal(seal, links)  # (7)
        checks.append(_check_time(seal, signature))
    checks += [*_check_stamp("signature.stamp", stamped=signature.stamped), links.check_used()]
    return checks


def check_seal(eseal: bytes, *, chain: Sequence[bytes], anchors: Sequence[bytes]) -> list[Check]:
    """Check a seal that stands alone (GB/T 38540-2020, validation of a seal)."""
    checks: list[Check] = []
    seal = _read(
        checks, "seal.format", Text("电子印章格式", "format of the seal"), lambda: read_seal(eseal)
    )
    if seal is not None:
        checks += _check_seal(seal, _Links(checks, chain, anchors))
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


class _Links:
    """The certificates that came along, and which of them were of use."""

    def __init__(
        self, checks: list[Check], chain: Sequence[bytes], anchors: Sequence[bytes]
    ) -> None:
        self._unread = 0
        self._pool = self._certificates(chain[:MAX_CHAIN])
        self._excess = len(chain) - len(self._pool)
        self._used: set[bytes] = set()
        trusted = self._certificates(anchors[:MAX_ANCHORS])
        if len(trusted) < len(anchors):
            checks.append(
                Check(
                    "anchors",
                    ok=False,
                    text=Text("有的信任根无法读取", "some trust anchors cannot be read"),
                    expected=str(len(anchors)),
                    found=str(len(trusted)),
                )
            )
        self._builder = PathBuilder(self._pool, trusted)

    @staticmethod
    def _certificates(chain: Sequence[bytes]) -> list[Certificate]:
        found = []
        for each in chain:
            try:
                found.append(read_certificate(each))
            except Integrity:
                continue
        return found

    def check(self, name: str, text: Text, leaf: Certificate, at: datetime) -> Check:
        path: Path = self._builder.build(leaf, at)
        self._used.update(each.der for each in path.certificates)
        reached = " < ".join(each.title for each in path.certificates)
        if path.problem is None:
            return Check(name, ok=True, text=text, found=reached)
        problem = path.problem
        return Check(
            name, ok=False, text=problem.text, expected=problem.expected, found=problem.found
        )

    def check_used(self) -> Check:
        """Nothing may travel along unverified: every certificate belongs to a path, once."""
        ders = [each.der for each in self._pool]
        good = len(set(ders) & self._used)
        return equal(
            "chain",
            Text("随附的每张证书都在证书链中", "every certificate that came along is in a path"),
            expected=str(len(ders) + self._excess),
            found=str(good),
        )


def _check_signer(signature: Signature, signer: Certificate, links: _Links) -> list[Check]:
    at = signature.time
    return [
        Check(
            "signature.value",
            verify_with(signer, signature.algorithm, signature.signed, signature.value),
            Text("签章者的签名正确", "the signer's signature is right"),
            expected=f"signature of {signer.title}",
            found=signature.value.hex(),
        ),
        links.check(
            "signer.chain",
            Text(
                "签章者证书链可信（未查询吊销）",
                "the signer's path is trusted (revocation not asked)",
            ),
            signer,
            at or signer.not_before,
        ),
        Check(
            "signer.validity",
            at is not None and signer.valid_at(at),
            Text("签章时签章者证书在有效期内", "the signer's certificate was valid when it signed"),
            expected=signer.period,
            found=_printed(at),
        ),
    ]


def _check_listed(seal: Seal, signature: Signature) -> Check:
    return Check(
        "signer.in_seal",
        _admits(seal, signature.certificate),
        Text("签章者证书在印章的证书列表中", "the seal lists the signer's certificate"),
        expected=seal.info.name,
        found=SUITES["ecdsa-p256-sha256"].digest(signature.certificate).hex(),
    )


def _check_seal(seal: Seal, links: _Links) -> list[Check]:
    """Check steps 2 to 5 of a seal; its maker is judged by the day the seal was made."""
    info = seal.info
    checks: list[Check] = []
    maker = _read(
        checks,
        "seal.maker",
        Text("制章者证书格式", "format of the maker's certificate"),
        lambda: read_certificate(seal.maker),
    )
    if maker is not None:
        checks += [
            Check(
                "seal.signature",
                verify_lasting(maker, seal.algorithm, seal.signed, seal.signature),
                Text("制章者的签名正确", "the maker's signature is right"),
                expected=f"signature of {maker.title}",
                found=seal.signature.hex(),
            ),
            links.check(
                "seal.maker_chain",
                Text(
                    "制章者证书链可信（未查询吊销）",
                    "the maker's path is trusted (revocation not asked)",
                ),
                maker,
                info.created,
            ),
        ]
    made = maker is None or maker.valid_at(info.created)
    return [
        *checks,
        Check(
            "seal.validity",
            made and info.valid_from <= info.valid_until,
            Text(
                "印章有效期合理，制作时制章者证书有效",
                "the seal's period makes sense, and its maker's certificate was valid",
            ),
            expected=f"{maker.period if maker else ''}; start <= end",
            found=f"{info.created.isoformat()}; {_period(seal)}",
        ),
        *_check_stamp("seal.stamp", stamped=seal.stamped),
    ]


def _check_time(seal: Seal, signature: Signature) -> Check:
    at = signature.time
    return Check(
        "signature.time",
        at is not None and seal.info.valid_from <= at <= seal.info.valid_until,
        Text("签章时间在印章有效期内", "the signing time lies within the seal's validity"),
        expected=_period(seal),
        found=_printed(at),
    )


def _check_stamp(name: str, *, stamped: bool) -> list[Check]:
    if not stamped:
        return []
    text = Text(
        "带有时间戳，本版本不能验证", "there is a time stamp, which cannot be verified here"
    )
    return [Check(name, ok=False, text=text, expected="no time stamp", found="time stamp")]


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


def _printed(at: datetime | None) -> str:
    return at.isoformat() if at else "no readable time"
