"""Certificate revocation lists (证书撤销列表, CRL): whether a certificate was revoked by then.

In: CRLs as DER (RFC 5280 §5, GB/T 20518), a certificate with its issuer's, a time. Out: a
``Status``: good, revoked, or unknown, and why. ``read_crl`` raises Integrity for bytes that are
no CRL. Nothing is fetched: whoever verifies brings the lists along.

A list answers for the time of signing when it was current then, or was issued later, but not
after the certificate had expired (expired certificates drop out of the lists). A revocation
counts from the earlier of its date and the day the key was lost (invalidityDate). Lists for a
part of the certificates (issuingDistributionPoint) are used within their part; delta and
indirect lists are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from asn1crypto import core, crl, x509

from exchange.errors import Integrity
from exchange.seal.crypto import der
from exchange.seal.pki.x509 import Certificate, verify_lasting
from exchange.text import Text

MAX_CRL_BYTES: Final = 16 * 1024 * 1024
MAX_CRLS: Final = 64
_WHAT: Final = Text("证书撤销列表", "revocation list")
_INTEGER, _SEQUENCE, _TAG_0 = 0x02, 0x30, 0xA0
_TIMES: Final = frozenset({core.UTCTime.tag, core.GeneralizedTime.tag})
_PROCESSED: Final = frozenset({"issuing_distribution_point"})
_DELTA: Final = "delta_crl_indicator"
_COMPROMISED: Final = frozenset({"key_compromise", "ca_compromise", "aa_compromise"})

Standing = Literal["good", "revoked", "unknown"]


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a certificate was revoked; ``found`` is what the lists say, for people."""

    standing: Standing
    found: str
    compromised: bool = False
    """Revoked later because the key was lost: only a time stamp proves an earlier signature."""


@dataclass(frozen=True, slots=True)
class Crl:
    """One list; ``problem`` says why it can answer for no certificate at all."""

    issuer: bytes
    title: str
    this_update: datetime
    next_update: datetime | None
    entries: Mapping[int, Sequence[bytes]] = field(repr=False)
    """Received entries by serial number."""
    points: frozenset[bytes] | None
    """Names of the distribution point it is for; None: for all of the issuer's."""
    only: Literal["users", "authorities"] | None
    problem: str
    algorithm: str
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def covers(self, certificate: Certificate) -> bool:
        """Whether the list is meant for ``certificate``, by its issuer's name and its part."""
        return (
            self.issuer == certificate.issuer
            and (self.points is None or bool(self.points & certificate.crl_points))
            and (self.only is None or (self.only == "authorities") == certificate.ca)
        )


@lru_cache(maxsize=16)
def read_crl(data: bytes) -> Crl:
    """Read one DER list; raises Integrity. Remembered: many batches are judged by one list."""
    with der.reading(_WHAT):
        der.check_der(data, MAX_CRL_BYTES)
        signed, algorithm, value = der.split(data)
        bits = core.OctetBitString.load(value, strict=True)
        if data != der.sequence(signed, algorithm, core.OctetBitString(bytes(bits)).dump()):
            msg = "the outer part is not canonical"
            raise ValueError(msg)
        parts = der.split(signed)
        if parts[0][0] == _INTEGER:
            parts.pop(0)
        inner, issuer, this_update, *rest = parts
        if inner != algorithm:
            msg = "the two algorithms differ"
            raise ValueError(msg)
        next_update = _moment(rest.pop(0)) if rest and rest[0][0] in _TIMES else None
        revoked = rest.pop(0) if rest and rest[0][0] == _SEQUENCE else b"\x30\x00"
        extensions = rest.pop(0) if rest and rest[0][0] == _TAG_0 else None
        if rest:
            msg = f"{len(rest)} parts too many"
            raise ValueError(msg)
        points, only, problem = _scope(extensions)
        return Crl(
            issuer=issuer,
            title=x509.Name.load(issuer, strict=True).human_friendly,
            this_update=_moment(this_update),
            next_update=next_update,
            entries=_entries(revoked),
            points=points,
            only=only,
            problem=problem,
            algorithm=core.ObjectIdentifier.load(der.split(algorithm)[0], strict=True).dotted,
            signed=signed,
            signature=bytes(bits),
        )


def _moment(data: bytes) -> datetime:
    return der.moment_of(data[0], der.contents(data))


def _entries(revoked: bytes) -> dict[int, list[bytes]]:
    """Index the entries by serial number; a list may have a hundred thousand."""
    entries: dict[int, list[bytes]] = {}
    for entry in der.split(revoked):
        serial, at, *rest = der.split(entry)
        if serial[0] != _INTEGER or len(rest) > 1:
            msg = "an entry is malformed"
            raise ValueError(msg)
        _moment(at)
        number = int.from_bytes(der.contents(serial), signed=True)
        entries.setdefault(number, []).append(entry)
    return entries


def _scope(
    extensions: bytes | None,
) -> tuple[frozenset[bytes] | None, Literal["users", "authorities"] | None, str]:
    """Read which certificates the list is for, and why it may not be used."""
    points: frozenset[bytes] | None = None
    only: Literal["users", "authorities"] | None = None
    problem = ""
    listed = (
        crl.TBSCertListExtensions.load(der.contents(extensions), strict=True)
        if (extensions)
        else ()
    )
    for each in listed:
        name = each["extn_id"].native
        if name == _DELTA:
            problem = "a delta list, without its base"
        elif each["critical"].native and name not in _PROCESSED:
            problem = f"a critical extension is not understood: {name}"
        if name != "issuing_distribution_point":
            continue
        point = each["extn_value"].parsed
        if any(
            point[flag].native
            for flag in ("only_some_reasons", "indirect_crl", "only_contains_attribute_certs")
        ):
            problem = "an indirect list, or one for some reasons only"
        if point["only_contains_user_certs"].native:
            only = "users"
        if point["only_contains_ca_certs"].native:
            only = "authorities"
        names = point["distribution_point"]
        if isinstance(names, core.Choice):
            if names.name != "full_name":
                problem = "its distribution point has no full name"
            else:
                points = frozenset(each.dump() for each in names.chosen)
    return points, only, problem


def read_crls(data: Sequence[bytes]) -> tuple[list[Crl], int]:
    """Read what can be read of at most ``MAX_CRLS`` lists; also returns how many cannot."""
    found = []
    for each in data[:MAX_CRLS]:
        try:
            found.append(read_crl(each))
        except Integrity:
            continue
    return found, len(data) - len(found)


def revocation(
    crls: Iterable[Crl], certificate: Certificate, issuer: Certificate, at: datetime
) -> Status:
    """Judge ``certificate`` at the time ``at`` by the lists that ``issuer`` signed."""
    reasons: list[str] = []
    good: Status | None = None
    for each in crls:
        if not each.covers(certificate):
            continue
        problem = each.problem or _unsigned(each, issuer)
        if problem:
            reasons.append(f"{each.title}: {problem}")
            continue
        status = _listed(each, certificate.serial, at)
        if status and status.standing == "revoked":
            return status
        current = _current(each, certificate, at)
        if current:
            reasons.append(f"{each.title}: {current}")
        elif good is None or (status and status.compromised):
            good = status or Status("good", f"not in the list of {each.this_update.isoformat()}")
    if good:
        return good
    return Status("unknown", "; ".join(reasons[:3]) or f"no list of {certificate.issuer_title}")


def _unsigned(each: Crl, issuer: Certificate) -> str:
    if issuer.usage is not None and "crl_sign" not in issuer.usage:
        return "its issuer's certificate may not sign lists"
    if not verify_lasting(issuer, each.algorithm, each.signed, each.signature):
        return "its signature is wrong"
    return ""


def _current(each: Crl, certificate: Certificate, at: datetime) -> str:
    """Say why the list knows nothing of the time ``at``; empty when it does."""
    if each.this_update >= at:
        if each.this_update <= certificate.not_after:
            return ""
        return f"made {each.this_update.isoformat()}, after the certificate had expired"
    if each.next_update is not None and at <= each.next_update:
        return ""
    until = each.next_update.isoformat() if each.next_update else "no next update"
    return f"out of date: {each.this_update.isoformat()} .. {until}"


def _listed(each: Crl, serial: int, at: datetime) -> Status | None:
    """Look a serial number up; revoked after ``at`` is good, with what came later told."""
    told: Status | None = None
    for entry in each.entries.get(serial, ()):
        _, date, *extensions = der.split(entry)
        since, reason = _details(_moment(date), extensions)
        found = f"revoked {since.isoformat()} ({reason})"
        if since <= at:
            return Status("revoked", found)
        told = Status("good", f"{found}, later", reason in _COMPROMISED)
    return told


def _details(date: datetime, extensions: Sequence[bytes]) -> tuple[datetime, str]:
    """Return since when and why; extensions that cannot be read leave the date as it is."""
    since, reason = date, "unspecified"
    try:
        with der.reading(_WHAT):
            for raw in extensions:
                for each in crl.CRLEntryExtensions.load(raw, strict=True):
                    name, value = each["extn_id"].native, each["extn_value"].parsed
                    if name == "crl_reason":
                        reason = value.native
                    elif name == "invalidity_date":
                        since = min(since, der.moment(value))
    except Integrity:
        pass
    return since, reason
