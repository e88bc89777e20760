"""Signing with ECDSA on P-256 and SHA-256 (FIPS 186-5) through the package ``cryptography``.

The same class as in ``libcrypto``; ``openssl`` verifies.
Raises Rejected for keys that cannot be read.
"""

from __future__ import annotations

from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from exchange.errors import Rejected
from exchange.text import Text

_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


class EcdsaPrivateKey:
    """A P-256 private key (私钥); ``repr`` shows nothing of it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the library's own random generator."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pkcs8(cls, data: bytes, password: bytes | None = None) -> Self:
        """Read PKCS#8 DER, encrypted when a password is given; raises Rejected."""
        try:
            key = load_der_private_key(data, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unreadable() from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise _unreadable()
        return cls(key)

    def public_der(self) -> bytes:
        """Return the SubjectPublicKeyInfo (RFC 5280 §4.1.2.7)."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def to_pkcs8(self, password: bytes | None = None, *, random: bool = False) -> bytes:
        """Write PKCS#8 DER; with a password, encrypted by PBES2 (how slow, the library decides)."""
        del random
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }``."""
        return self._key.sign(data, _ALGORITHM)


def _unreadable() -> Rejected:
    return Rejected(
        Text(
            "P-256 私钥无法读取：口令不对，或文件不是 PKCS#8 格式的 P-256 私钥",
            "the P-256 key cannot be read: wrong password, or no P-256 key in PKCS#8",
        ),
        hint=Text("请检查密钥文件和口令引用", "check the key file and its password"),
    )
