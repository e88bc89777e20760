"""SM2 through libcrypto against the standard's own vectors, and against misuse."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from typing import Any

import pytest
from asn1crypto import core
from asn1crypto.keys import EncryptedPrivateKeyInfo
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto import libcrypto
from exchange.seal.crypto.libcrypto import Library, Sm2PrivateKey, Sm2PublicKey

# GB/T 32918.5 annex A: key pair, message, signature.
D = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
P = bytes.fromhex(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
MESSAGE = b"message digest"
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
Z_A = "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
E = "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640"
CURVE = (
    "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC"
    "28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"
    "32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"
    "BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"
)
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d03420004") + P
PKCS8 = (
    bytes.fromhex(
        "3041020100301306072a8648ce3d020106082a811ccf5501822d0427302502010104 20".replace(" ", "")
    )
    + D
)


class _Pair(core.Sequence):  # type: ignore[misc]
    _fields = [("r", core.Integer), ("s", core.Integer)]  # noqa: RUF012


def signature(r: int, s: int) -> bytes:
    return bytes(_Pair({"r": r, "s": s}).dump())


def test_signature_of_the_standard_verifies() -> None:
    key = Sm2PublicKey.from_der(SPKI)
    assert key.verify(MESSAGE, signature(R, S))
    assert not key.verify(MESSAGE, signature(R, S ^ 1))
    assert not key.verify(MESSAGE, signature(R ^ 1, S))
    assert not key.verify(b"message digesT", signature(R, S))


def test_what_is_signed_is_the_digest_of_the_standard() -> None:
    """Say once, beside the code that leaves it to libcrypto, what Z_A and e are."""
    z = hashlib.new("sm3", b"\x00\x80" + libcrypto.USER_ID + bytes.fromhex(CURVE) + P)
    assert z.hexdigest() == Z_A
    assert hashlib.new("sm3", z.digest() + MESSAGE).hexdigest() == E


def test_private_key_of_the_standard_has_its_public_key() -> None:
    key = Sm2PrivateKey.from_pkcs8(PKCS8)
    assert key.public_der() == SPKI
    assert Sm2PublicKey.from_der(SPKI).verify(MESSAGE, key.sign(MESSAGE))


@given(st.binary(max_size=300))
def test_signs_and_verifies(data: bytes) -> None:
    key = Sm2PrivateKey.from_pkcs8(PKCS8)
    result = key.sign(data)
    assert Sm2PublicKey.from_der(SPKI).verify(data, result)
    assert not Sm2PublicKey.from_der(SPKI).verify(data + b"\x00", result)


@pytest.mark.parametrize("spoiled", ["empty", "garbage", "trailing", "long form", "raw r and s"])
def test_signature_must_be_der(spoiled: str) -> None:
    result = signature(R, S)
    forms = {
        "empty": b"",
        "garbage": b"\x30\x80",
        "trailing": result + b"\x00",
        "long form": b"\x30\x81" + result[1:],
        "raw r and s": R.to_bytes(32) + S.to_bytes(32),
    }
    assert not Sm2PublicKey.from_der(SPKI).verify(MESSAGE, forms[spoiled])


def test_pkcs8_round_trip() -> None:
    key = Sm2PrivateKey.generate()
    for password in (None, b"correct horse", "口令".encode()):
        again = Sm2PrivateKey.from_pkcs8(key.to_pkcs8(password), password)
        assert again.public_der() == key.public_der()


def test_a_password_that_somebody_chose_is_slow_to_try() -> None:
    key = Sm2PrivateKey.generate()
    sealed = {random: key.to_pkcs8(b"password", random=random) for random in (False, True)}
    derivations = {
        random: EncryptedPrivateKeyInfo.load(data)["encryption_algorithm"].kdf_iterations
        for random, data in sealed.items()
    }
    assert derivations == {False: 100_000, True: 1_000}
    for data in sealed.values():
        assert Sm2PrivateKey.from_pkcs8(data, b"password").public_der() == key.public_der()


def test_wrong_password_is_refused() -> None:
    sealed = Sm2PrivateKey.generate().to_pkcs8(b"right")
    for password in (b"wrong", b"", None):
        with pytest.raises(Rejected, match="wrong password"):
            Sm2PrivateKey.from_pkcs8(sealed, password)


# 67 bytes could be a key: any 32 bytes are.
@given(st.binary(max_size=66) | st.binary(max_size=28).map(lambda tail: PKCS8[:38] + tail))
def test_bytes_that_are_no_key_are_refused(data: bytes) -> None:
    for read in (Sm2PrivateKey.from_pkcs8, Sm2PublicKey.from_der):
        with pytest.raises(Rejected):
            read(data)
    with pytest.raises(Rejected):
        Sm2PrivateKey.from_pkcs8(data, b"password")


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Rejected):
        Sm2PublicKey.from_der(SPKI + b"\x00")
    with pytest.raises(Rejected):
        Sm2PrivateKey.from_pkcs8(PKCS8 + b"\x00")


def test_other_curve_is_refused() -> None:
    p256 = SPKI.replace(
        bytes.fromhex("06082a811ccf5501822d"), bytes.fromhex("06082a8648ce3d030107")
    )
    with pytest.raises(Rejected):
        Sm2PublicKey.from_der(p256)


def test_repr_shows_no_key() -> None:
    key = Sm2PrivateKey.from_pkcs8(PKCS8)
    assert D.hex() not in repr(key).lower()
    assert str(int.from_bytes(D)) not in repr(key)


def test_threads_share_a_key() -> None:
    private, public = Sm2PrivateKey.from_pkcs8(PKCS8), Sm2PublicKey.from_der(SPKI)

    def work(number: int) -> bool:
        data = number.to_bytes(4) * 100
        return public.verify(data, private.sign(data))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))


class CountingLibrary(Library):
    """The real library, counting its calls."""

    def __init__(self, like: Library) -> None:
        super().__init__(like._handle)
        self.calls: Counter[str] = Counter()

    def call(self, name: str, *arguments: Any) -> Any:
        result = super().call(name, *arguments)
        self.calls[name] += 1
        return result


def test_everything_made_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = CountingLibrary(libcrypto.load())
    monkeypatch.setattr(libcrypto, "load", lambda: library)
    key = Sm2PrivateKey.generate()
    public = Sm2PublicKey.from_der(key.public_der())
    assert public.verify(b"a", key.sign(b"a"))
    assert not public.verify(b"a", b"not a signature")
    again = Sm2PrivateKey.from_pkcs8(key.to_pkcs8(b"x"), b"x")
    for data, password in ((b"junk", None), (key.to_pkcs8(b"x"), b"y"), (key.to_pkcs8(), b"y")):
        with pytest.raises(Rejected):
            Sm2PrivateKey.from_pkcs8(data, password)
    del key, public, again
    counter: Counter[str] = Counter()
    for name, destructor in libcrypto._DESTRUCTORS.items():
        counter[destructor] += library.calls[name]
    counter["EVP_PKEY_free"] += (
        library.calls["EVP_PKEY_generate"] + library.calls["EVP_PKEY_up_ref"]
    )
    assert {name: library.calls[name] for name in counter} == counter


def test_a_library_without_sm2_is_named() -> None:
    other = find_library("m") or "libm.so.6"
    with pytest.raises(Misconfigured, match=r"no OpenSSL 3 library with SM2.*libm") as caught:
        libcrypto.find(["/nowhere/libcrypto.so", other])
    assert "libssl3" in caught.value.hint.en


def test_speed() -> None:
    """Aim: 2,500 signatures a second on an idle core; a tenth here, because others work too."""
    key = Sm2PrivateKey.generate()
    start = time.perf_counter()
    for _ in range(250):
        key.sign(MESSAGE)
    assert time.perf_counter() - start < 1
