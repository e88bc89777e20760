"""Public keys other than SM2, and keystreams, through :mod:`exchange.seal.crypto.libcrypto`.

With it a verifier needs no wheel for cryptography, which is larger than all the rest together.
ECDSA on P-256 is the key of seals in ``ecdsa-p256-sha256``. What seals never carry, but
certificates and time stamps of others may: RSA (RFC 8017, PKCS #1 v1.5, 2,048 bits or more) and
ECDSA on P-256, P-384 and P-521 with the SHA-2 family. In: SubjectPublicKeyInfo, data, signature.
Out: whether it holds. Raises Misconfigured where this machine has no OpenSSL 3, Rejected for
keys that cannot be read.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_size_t
from typing import Final, Self

from exchange.errors import Rejected
from exchange.seal.crypto.libcrypto import LibcryptoError, load, load_plain
from exchange.text import Text

_MIN_RSA_BITS: Final = 2048
_P256: Final = "prime256v1"
_CURVES: Final = frozenset({_P256, "secp384r1", "secp521r1"})
_ALGORITHMS: Final[dict[str, tuple[bytes, bytes]]] = {
    "1.2.840.113549.1.1.11": (b"RSA", b"SHA256"),
    "1.2.840.113549.1.1.12": (b"RSA", b"SHA384"),
    "1.2.840.113549.1.1.13": (b"RSA", b"SHA512"),
    "1.2.840.10045.4.3.2": (b"EC", b"SHA256"),
    "1.2.840.10045.4.3.3": (b"EC", b"SHA384"),
    "1.2.840.10045.4.3.4": (b"EC", b"SHA512"),
}
_CTR: Final = {"sm4": ("EVP_sm4_ctr", load), "aes-128": ("EVP_aes_128_ctr", load_plain)}
"""GB/T 32907 and FIPS 197 in counter mode."""


class OpensslPublicKey:
    """A P-256 public key (公钥)."""

    def __init__(self, spki: bytes) -> None:
        self._spki = spki

    @classmethod
    def from_der(cls, data: bytes) -> Self:
        """Read a SubjectPublicKeyInfo; raises Rejected when it is no P-256 key."""
        try:
            with load_plain().read("d2i_PUBKEY", data) as pointer:
                curve = _curve(pointer)
        except LibcryptoError:
            curve = ""
        if curve != _P256:
            raise Rejected(
                Text("证书中的公钥不是可用的 P-256 公钥", "the public key is no usable P-256 key"),
                hint=Text("请检查证书", "check the certificate"),
            )
        return cls(data)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Verify a DER signature over ``data``."""
        return _verified(self._spki, b"EC", b"SHA256", data, signature)


def verify(spki: bytes, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Verify ``signature`` with a key of the algorithm's kind; an unknown one does not hold."""
    known = _ALGORITHMS.get(algorithm)
    return known is not None and _verified(spki, *known, data, signature)


def _verified(spki: bytes, kind: bytes, digest: bytes, data: bytes, signature: bytes) -> bool:
    library = load_plain()
    try:
        with (
            library.read("d2i_PUBKEY", spki) as key,
            library.owned("EVP_MD_CTX_new") as context,
        ):
            library.call("EVP_PKEY_is_a", key, kind)
            if kind == b"RSA":
                if library.call("EVP_PKEY_get_bits", key) < _MIN_RSA_BITS:
                    return False
            elif _curve(key) not in _CURVES:
                return False
            name = library.call("EVP_get_digestbyname", digest)
            library.call("EVP_DigestVerifyInit", context, None, name, None, key)
            library.call("EVP_DigestVerify", context, signature, len(signature), data, len(data))
    except LibcryptoError:
        return False
    return True


def _curve(key: int) -> str:
    """Name the curve of a key; raises Failed for one without."""
    name, size = ctypes.create_string_buffer(32), c_size_t()
    load_plain().call("EVP_PKEY_get_group_name", key, name, len(name), ctypes.byref(size))
    return name.value.decode("ascii", "replace")


def keystream(cipher: str, key: bytes, size: int) -> bytes:
    """Return ``size`` bytes of ``sm4`` or ``aes-128`` in counter mode, from a zero counter.

    Raises ValueError unless the key has 16 bytes.
    """
    if len(key) != 16:  # noqa: PLR2004 - the block and key size of both ciphers
        raise ValueError(f"a key of {len(key)} bytes")
    name, find = _CTR[cipher]
    library = find()
    out, written = ctypes.create_string_buffer(max(size, 1)), c_int()
    with library.owned("EVP_CIPHER_CTX_new") as context:
        library.call("EVP_EncryptInit_ex", context, library.call(name), None, key, bytes(16))
        library.call("EVP_EncryptUpdate", context, out, ctypes.byref(written), bytes(size), size)
    return out.raw[: written.value]
