"""Keys of both suites, in one table: libcrypto, but ``cryptography`` for private keys on P-256.

Libraries are imported when a key of their suite is first used: whoever only verifies needs no
``cryptography``, and the command line starts quickly.
"""

from __future__ import annotations

from functools import lru_cache
from pkgutil import resolve_name
from typing import Any, Final, Protocol, cast

from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, Suite


class PublicKey(Protocol):
    """Verifies signatures."""

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Verify a DER signature ``SEQUENCE { r, s }`` over ``data``."""


class PrivateKey(Protocol):
    """Makes signatures; ``repr`` shows nothing of the key."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }``."""

    def public_der(self) -> bytes:
        """Return the SubjectPublicKeyInfo."""

    def to_pkcs8(self, password: bytes | None = None, *, random: bool = False) -> bytes:
        """Write PKCS#8 DER, encrypted when a password is given.

        ``random``: the password has 128 random bits or more; it need not be slow to try.
        """


_PUBLIC: Final = {
    SM2_SM3.id: "exchange.seal.crypto.libcrypto:Sm2PublicKey",
    ECDSA_P256_SHA256.id: "exchange.seal.crypto.openssl:OpensslPublicKey",
}
_PRIVATE: Final = {
    SM2_SM3.id: "exchange.seal.crypto.libcrypto:Sm2PrivateKey",
    ECDSA_P256_SHA256.id: "exchange.seal.crypto.ecdsa:EcdsaPrivateKey",
}


def _private(suite: Suite) -> Any:
    return resolve_name(_PRIVATE[suite.id])


def generate_key(suite: Suite) -> PrivateKey:
    """Make a new key pair (密钥对) of the suite."""
    return cast("PrivateKey", _private(suite).generate())


def private_key(suite: Suite, pkcs8: bytes, password: bytes | None = None) -> PrivateKey:
    """Read a PKCS#8 key of the suite; raises Rejected."""
    return cast("PrivateKey", _private(suite).from_pkcs8(pkcs8, password))


@lru_cache(maxsize=64)
def public_key(suite: Suite, spki: bytes) -> PublicKey:
    """Read a SubjectPublicKeyInfo of the suite; raises Rejected.

    Remembered: reading a key costs as much as verifying with it.
    """
    return cast("PublicKey", resolve_name(_PUBLIC[suite.id]).from_der(spki))
