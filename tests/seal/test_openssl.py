"""Keys other than SM2, and keystreams, by libcrypto: what `cryptography` makes and says."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES128, SM4
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto import libcrypto, openssl

DATA = b"what is signed"
HASHES: dict[str, Any] = {"1": hashes.SHA256(), "2": hashes.SHA384(), "3": hashes.SHA512()}


def spki(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ecdsa_of_every_curve_and_hash(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    for number, oid in (("1", "2"), ("2", "3"), ("3", "4")):
        signature = key.sign(DATA, ec.ECDSA(HASHES[number]))
        name = f"1.2.840.10045.4.3.{oid}"
        assert openssl.verify(spki(key), name, DATA, signature)
        assert not openssl.verify(spki(key), name, DATA + b".", signature)
        assert not openssl.verify(spki(key), name, DATA, signature[:-1])
        assert not openssl.verify(spki(key), "1.2.840.113549.1.1.11", DATA, signature)
        assert not openssl.verify(spki(key), "1.2.3", DATA, signature)
    assert not openssl.verify(b"", "1.2.840.10045.4.3.2", DATA, b"")


@pytest.mark.parametrize(("bits", "good"), [(2048, True), (1024, False)])
def test_rsa_of_enough_bits(bits: int, good: bool) -> None:  # noqa: FBT001
    key = rsa.generate_private_key(65537, bits)
    for number, oid in (("1", "11"), ("2", "12"), ("3", "13")):
        signature = key.sign(DATA, padding.PKCS1v15(), HASHES[number])
        name = f"1.2.840.113549.1.1.{oid}"
        assert openssl.verify(spki(key), name, DATA, signature) is good
        assert not openssl.verify(spki(key), name, b"", signature)
        assert not openssl.verify(spki(key), "1.2.840.10045.4.3.2", DATA, signature)


def test_other_curves_are_not_taken() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    signature = key.sign(DATA, ec.ECDSA(hashes.SHA256()))
    assert not openssl.verify(spki(key), "1.2.840.10045.4.3.2", DATA, signature)
    for data in (spki(key), spki(ec.generate_private_key(ec.SECP384R1())), b"", b"0"):
        with pytest.raises(Rejected):
            openssl.OpensslPublicKey.from_der(data)


@settings(max_examples=50)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 5000))
def test_keystreams(key: bytes, size: int) -> None:
    for name, cipher in (("sm4", SM4(key)), ("aes-128", AES128(key))):
        expected = Cipher(cipher, modes.CTR(bytes(16))).encryptor().update(bytes(size))
        assert openssl.keystream(name, key, size) == expected


def test_a_key_of_another_length() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        openssl.keystream("sm4", bytes(15), 16)


def test_a_library_without_sm2_serves_what_is_not_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> libcrypto.Library:
        return libcrypto.find([])

    monkeypatch.setattr(libcrypto, "load", none)
    libcrypto.load_plain.cache_clear()
    try:
        with libcrypto.load_plain().owned("EVP_MD_CTX_new") as context:
            assert context
    finally:
        libcrypto.load_plain.cache_clear()
    with pytest.raises(Misconfigured):
        none()
