"""Signatures that seals never carry, but certificates and time stamps of others may.

RSA (RFC 8017, PKCS #1 v1.5, 2,048 bits or more) and ECDSA on P-256, P-384 and P-521 with the
SHA-2 family, through ``cryptography``. In: SubjectPublicKeyInfo, the OID of the signature
algorithm, data and signature. Out: whether it holds; an unknown algorithm does not.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

_MIN_RSA_BITS: Final = 2048
_HASHES: Final[dict[str, tuple[type[rsa.RSAPublicKey | ec.EllipticCurvePublicKey], type]]] = {
    "1.2.840.113549.1.1.11": (rsa.RSAPublicKey, hashes.SHA256),
    "1.2.840.113549.1.1.12": (rsa.RSAPublicKey, hashes.SHA384),
    "1.2.840.113549.1.1.13": (rsa.RSAPublicKey, hashes.SHA512),
    "1.2.840.10045.4.3.2": (ec.EllipticCurvePublicKey, hashes.SHA256),
    "1.2.840.10045.4.3.3": (ec.EllipticCurvePublicKey, hashes.SHA384),
    "1.2.840.10045.4.3.4": (ec.EllipticCurvePublicKey, hashes.SHA512),
}


def verify(spki: bytes, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Verify ``signature`` over ``data`` with a key of the algorithm's kind."""
    kind, digest = _HASHES.get(algorithm, (None, None))
    if kind is None or digest is None:
        return False
    try:
        key = load_der_public_key(spki)
        if not isinstance(key, kind):
            return False
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < _MIN_RSA_BITS:
                return False
            key.verify(signature, data, padding.PKCS1v15(), digest())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(digest()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
