"""Cipher suites (密码套件): which hash and which signature go together, in one table.

``sm2-sm3`` is GB/T 32918 with GB/T 32905, ``ecdsa-p256-sha256`` is FIPS 186-5 with FIPS 180-4.
Both hashes are 32 bytes long and both signatures are DER ``SEQUENCE { r, s }``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, Self

from exchange.errors import Misconfigured, Rejected
from exchange.text import Text


class Hasher(Protocol):
    """A running hash, as :mod:`hashlib` makes them."""

    def update(self, data: bytes, /) -> None:
        """Take more input."""

    def digest(self) -> bytes:
        """Return the 32 bytes of the hash."""

    def hexdigest(self) -> str:
        """Return the hash as lower-case hexadecimal digits."""

    def copy(self) -> Self:
        """Fork the state."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One row of the table; object identifiers (OID) are dotted text."""

    id: str
    hash_name: str
    """Name for :func:`hashlib.new`."""
    hash_oid: str
    signature_oid: str
    curve_oid: str

    def new(self, data: bytes = b"") -> Hasher:
        """Start a hash; raises Misconfigured where Python's OpenSSL lacks it."""
        try:
            return hashlib.new(self.hash_name, data)
        except ValueError as error:
            raise Misconfigured(
                Text(
                    f"本机 Python 的 OpenSSL 没有 {self.hash_name.upper()} 算法",
                    f"the OpenSSL of this Python has no {self.hash_name.upper()}",
                ),
                hint=Text(
                    "请使用系统自带 OpenSSL 3 的 Python（如 Debian/Ubuntu 的 python3）",
                    "use a Python built on a full OpenSSL 3, such as the system's python3",
                ),
            ) from error

    def digest(self, data: bytes) -> bytes:
        """Hash ``data`` in one call (32 bytes)."""
        return self.new(data).digest()


SM2_SM3 = Suite(
    id="sm2-sm3",
    hash_name="sm3",
    hash_oid="1.2.156.10197.1.401",
    signature_oid="1.2.156.10197.1.501",
    curve_oid="1.2.156.10197.1.301",
)
ECDSA_P256_SHA256 = Suite(
    id="ecdsa-p256-sha256",
    hash_name="sha256",
    hash_oid="2.16.840.1.101.3.4.2.1",
    signature_oid="1.2.840.10045.4.3.2",
    curve_oid="1.2.840.10045.3.1.7",
)
SUITES: Mapping[str, Suite] = MappingProxyType(
    {each.id: each for each in (SM2_SM3, ECDSA_P256_SHA256)}
)


def suite(name: str) -> Suite:
    """Look a suite up by its id; raises Rejected for an id that is not in the table."""
    found = SUITES.get(name)
    if found is None:
        known = ", ".join(SUITES)
        raise Rejected(
            Text(f"未知的密码套件 {name[:64]!r}", f"unknown suite {name[:64]!r}"),
            hint=Text(f"可用的套件：{known}", f"known suites: {known}"),
        )
    return found


def suite_of_signature(oid: str) -> Suite | None:
    """Find the suite by the OID of its signature algorithm."""
    return next((each for each in SUITES.values() if each.signature_oid == oid), None)


def suite_of_curve(oid: str) -> Suite | None:
    """Find the suite by the OID of its curve."""
    return next((each for each in SUITES.values() if each.curve_oid == oid), None)
