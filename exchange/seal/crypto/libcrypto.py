"""SM2 through the system's OpenSSL 3 (libcrypto), by ctypes: no wheel needed.

In: keys as DER, data as bytes. Out: signatures as DER ``SEQUENCE { r, s }`` (GB/T 32918.2,
with the default user id of GM/T 0009 §10). Raises Misconfigured where the library is missing
or was built without SM2 and SM3, Rejected for keys that cannot be read.

A key is an immutable handle and every operation makes and frees its own contexts, so that
threads may share keys. ctypes lets go of the interpreter lock during each call.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from ctypes.util import find_library
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, Self

from exchange.errors import Misconfigured, Rejected
from exchange.text import Text

USER_ID: Final = b"1234567812345678"
"""The signer's distinguishing id (可辨别标识) when nobody agreed on another: GM/T 0009 §10."""

PBKDF2_ITERATIONS: Final = 100_000
RANDOM_ITERATIONS: Final = 1_000
"""For a password of 128 random bits or more: nobody guesses it, however fast (RFC 8018 §4.2)."""
_PBES2: Final = -1
"""For PKCS8_encrypt: take PBES2 (RFC 8018 §6.2) with PBKDF2 and HMAC-SHA-256."""

_OUT = ctypes.POINTER(c_void_p)
_SIZE_OUT = ctypes.POINTER(c_size_t)

# name: (result, arguments), from the OpenSSL 3.0 manual pages of the same names.
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ERR_clear_error": (None, []),
    "EVP_sm3": (c_void_p, []),
    "EVP_aes_256_cbc": (c_void_p, []),
    "EVP_aes_128_ctr": (c_void_p, []),
    "EVP_sm4_ctr": (c_void_p, []),
    "EVP_CIPHER_CTX_new": (c_void_p, []),
    "EVP_CIPHER_CTX_free": (None, [c_void_p]),
    "EVP_EncryptInit_ex": (c_int, [c_void_p, c_void_p, c_void_p, c_char_p, c_char_p]),
    "EVP_EncryptUpdate": (c_int, [c_void_p, c_char_p, ctypes.POINTER(c_int), c_char_p, c_int]),
    "EVP_get_digestbyname": (c_void_p, [c_char_p]),
    "EVP_PKEY_get_bits": (c_int, [c_void_p]),
    "EVP_PKEY_get_group_name": (c_int, [c_void_p, c_char_p, c_size_t, _SIZE_OUT]),
    "EVP_MD_CTX_new": (c_void_p, []),
    "EVP_MD_CTX_free": (None, [c_void_p]),
    "EVP_PKEY_up_ref": (c_int, [c_void_p]),
    "EVP_PKEY_free": (None, [c_void_p]),
    "EVP_PKEY_is_a": (c_int, [c_void_p, c_char_p]),
    "EVP_PKEY_CTX_new_from_name": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "EVP_PKEY_CTX_free": (None, [c_void_p]),
    "EVP_PKEY_CTX_set1_id": (c_int, [c_void_p, c_char_p, c_int]),
    "EVP_PKEY_keygen_init": (c_int, [c_void_p]),
    "EVP_PKEY_generate": (c_int, [c_void_p, _OUT]),
    "EVP_DigestSignInit": (c_int, [c_void_p, _OUT, c_void_p, c_void_p, c_void_p]),
    "EVP_DigestSign": (c_int, [c_void_p, c_char_p, _SIZE_OUT, c_char_p, c_size_t]),
    "EVP_DigestVerifyInit": (c_int, [c_void_p, _OUT, c_void_p, c_void_p, c_void_p]),
    "EVP_DigestVerify": (c_int, [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t]),
    "d2i_PUBKEY": (c_void_p, [c_void_p, _OUT, ctypes.c_long]),
    "i2d_PUBKEY": (c_int, [c_void_p, _OUT]),
    "d2i_PKCS8_PRIV_KEY_INFO": (c_void_p, [c_void_p, _OUT, ctypes.c_long]),
    "i2d_PKCS8_PRIV_KEY_INFO": (c_int, [c_void_p, _OUT]),
    "PKCS8_PRIV_KEY_INFO_free": (None, [c_void_p]),
    "EVP_PKCS82PKEY": (c_void_p, [c_void_p]),
    "EVP_PKEY2PKCS8": (c_void_p, [c_void_p]),
    "d2i_X509_SIG": (c_void_p, [c_void_p, _OUT, ctypes.c_long]),
    "i2d_X509_SIG": (c_int, [c_void_p, _OUT]),
    "X509_SIG_free": (None, [c_void_p]),
    "PKCS8_decrypt": (c_void_p, [c_void_p, c_char_p, c_int]),
    "PKCS8_encrypt": (
        c_void_p,
        [c_int, c_void_p, c_char_p, c_int, c_char_p, c_int, c_int, c_void_p],
    ),
}

_CHINESE: Final = frozenset({"EVP_sm3", "EVP_sm4_ctr"})
"""A library without these still serves ``ecdsa-p256-sha256``, see :func:`load_plain`."""


class LibcryptoError(Rejected):
    """A libcrypto call said no; its error queue is already cleared."""

    def __init__(self, name: str) -> None:
        super().__init__(
            Text(f"libcrypto 拒绝了 {name}", f"libcrypto refused {name}"),
            hint=Text("请检查密钥和 OpenSSL 的安装", "check the key and the OpenSSL installation"),
        )


class Library:
    """The functions we use, with declared argument and result types."""

    def __init__(self, handle: ctypes.CDLL) -> None:
        """Bind the functions; raises AttributeError when one is missing."""
        for name, (result, arguments) in _FUNCTIONS.items():
            if name in _CHINESE and not hasattr(handle, name):
                continue
            function = getattr(handle, name)
            function.restype, function.argtypes = result, arguments
        self._handle = handle

    def call(self, name: str, *arguments: Any) -> Any:
        """Call by name; raises LibcryptoError unless the result is a pointer or positive."""
        result = getattr(self._handle, name)(*arguments)
        if _FUNCTIONS[name][0] is None or (result is not None and result > 0):
            return result
        self._handle.ERR_clear_error()
        raise LibcryptoError(name)

    @contextmanager
    def owned(self, name: str, *arguments: Any) -> Iterator[int]:
        """Call a function that returns a new object; free the object when the block ends."""
        pointer = self.call(name, *arguments)
        try:
            yield pointer
        finally:
            self.call(_DESTRUCTORS[name], pointer)

    def der(self, name: str, pointer: int) -> bytes:
        """Encode an object with its ``i2d_`` function."""
        buffer = ctypes.create_string_buffer(self.call(name, pointer, None))
        self.call(name, pointer, ctypes.byref(c_void_p(ctypes.addressof(buffer))))
        return buffer.raw

    @contextmanager
    def read(self, name: str, data: bytes) -> Iterator[int]:
        """Decode DER with a ``d2i_`` function; all of ``data`` must be used."""
        start = ctypes.cast(c_char_p(data), c_void_p)
        end = c_void_p(start.value)
        with self.owned(name, None, ctypes.byref(end), len(data)) as pointer:
            if (end.value or 0) - (start.value or 0) != len(data):
                raise LibcryptoError(name)
            yield pointer

    @contextmanager
    def digest_context(self, init: str, key: int) -> Iterator[int]:
        """Prepare SM3 with Z_A of the key and the default user id (GB/T 32918.2 §5.5)."""
        with self.owned("EVP_MD_CTX_new") as context:
            # The inner context belongs to the outer one: it is not freed here.
            inner = c_void_p()
            self.call(init, context, ctypes.byref(inner), self.call("EVP_sm3"), None, key)
            self.call("EVP_PKEY_CTX_set1_id", inner, USER_ID, len(USER_ID))
            yield context


_DESTRUCTORS: Final = {
    "EVP_MD_CTX_new": "EVP_MD_CTX_free",
    "EVP_CIPHER_CTX_new": "EVP_CIPHER_CTX_free",
    "EVP_PKEY_CTX_new_from_name": "EVP_PKEY_CTX_free",
    "d2i_PUBKEY": "EVP_PKEY_free",
    "EVP_PKCS82PKEY": "EVP_PKEY_free",
    "d2i_PKCS8_PRIV_KEY_INFO": "PKCS8_PRIV_KEY_INFO_free",
    "EVP_PKEY2PKCS8": "PKCS8_PRIV_KEY_INFO_free",
    "PKCS8_decrypt": "PKCS8_PRIV_KEY_INFO_free",
    "d2i_X509_SIG": "X509_SIG_free",
    "PKCS8_encrypt": "X509_SIG_free",
}


def _probe(handle: ctypes.CDLL) -> Library:
    """Bind the library and let it sign once: some are built, or configured, without SM2."""
    library = Library(handle)
    Sm2PrivateKey.generate(library).sign(b"")
    return library


def find(places: Sequence[str], probe: Callable[[ctypes.CDLL], Library] = _probe) -> Library:
    """Open the first of ``places`` that has SM2 and SM3; raises Misconfigured."""
    reasons = []
    for place in places:
        try:
            return probe(ctypes.CDLL(place))
        except (OSError, AttributeError, LibcryptoError) as error:
            reasons.append(f"{place}: {error}")
    tried = "; ".join(reasons) or "-"
    raise Misconfigured(
        Text(
            f"找不到支持 SM2 和 SM3 的 OpenSSL 3 库（已尝试：{tried}）",
            f"no OpenSSL 3 library with SM2 and SM3 was found (tried: {tried})",
        ),
        hint=Text(
            "请安装完整的 OpenSSL 3（Debian/Ubuntu：libssl3；openEuler/麒麟：openssl-libs 3.x），"
            "或改用 ecdsa-p256-sha256 套件",
            "install a full OpenSSL 3 (Debian/Ubuntu: libssl3, openEuler: openssl-libs 3.x), "
            "or use the suite ecdsa-p256-sha256",
        ),
    )


@cache
def load() -> Library:
    """Find libcrypto once per process; raises Misconfigured when there is none with SM2.

    The one that Python's own ``hashlib`` is linked to comes first (the dynamic linker looks
    a symbol up in a library's dependencies too), then the system's.
    """
    return find(_places())


def _places() -> list[str]:
    spec = find_spec("_hashlib")
    own = spec.origin if spec and spec.has_location else None
    return [place for place in (own, find_library("crypto")) if place]


@cache
def load_plain() -> Library:
    """Find libcrypto for what is not Chinese; raises Misconfigured when there is none.

    The one of :func:`load` if there is one, else any OpenSSL 3.
    """
    try:
        return load()
    except Misconfigured:
        return find(_places(), probe=Library)


class _Key:
    """A share of an ``EVP_PKEY``, given back when the object is collected."""

    def __init__(self, library: Library, pointer: int) -> None:
        if library.call("EVP_PKEY_is_a", pointer, b"SM2") != 1:  # pragma: no cover
            raise LibcryptoError("EVP_PKEY_is_a")
        library.call("EVP_PKEY_up_ref", pointer)
        weakref.finalize(self, library.call, "EVP_PKEY_free", pointer)
        self._library = library
        self._pointer = pointer

    def public_der(self) -> bytes:
        """Return the SubjectPublicKeyInfo (RFC 5280 §4.1.2.7)."""
        return self._library.der("i2d_PUBKEY", self._pointer)


class Sm2PublicKey(_Key):
    """An SM2 public key (公钥)."""

    @classmethod
    def from_der(cls, data: bytes) -> Self:
        """Read a SubjectPublicKeyInfo; raises Rejected when it is no SM2 key."""
        library = load()
        try:
            with library.read("d2i_PUBKEY", data) as pointer:
                return cls(library, pointer)
        except LibcryptoError as error:
            raise Rejected(
                Text("证书中的公钥不是可用的 SM2 公钥", "the public key is no usable SM2 key"),
                hint=Text("请检查证书", "check the certificate"),
            ) from error

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Verify a DER signature over ``data`` (GB/T 32918.2 §7)."""
        library = self._library
        try:
            with library.digest_context("EVP_DigestVerifyInit", self._pointer) as context:
                library.call(
                    "EVP_DigestVerify", context, signature, len(signature), data, len(data)
                )
        except LibcryptoError:
            return False
        return True


class Sm2PrivateKey(_Key):
    """An SM2 private key (私钥) held by libcrypto; ``repr`` shows nothing of it."""

    @classmethod
    def generate(cls, library: Library | None = None) -> Self:
        """Make a new key from libcrypto's own random generator."""
        library = library or load()
        with library.owned("EVP_PKEY_CTX_new_from_name", None, b"SM2", None) as context:
            library.call("EVP_PKEY_keygen_init", context)
            key = c_void_p()
            library.call("EVP_PKEY_generate", context, ctypes.byref(key))
        try:
            return cls(library, key.value or 0)
        finally:
            library.call("EVP_PKEY_free", key)

    @classmethod
    def from_pkcs8(cls, data: bytes, password: bytes | None = None) -> Self:
        """Read PKCS#8 DER, encrypted when a password is given (RFC 5208).

        Raises Rejected when the password is wrong or the key is no SM2 key; which of both
        cannot be told apart.
        """
        library = load()
        try:
            if password is None:
                with library.read("d2i_PKCS8_PRIV_KEY_INFO", data) as info:
                    return cls._from_info(library, info)
            with (
                library.read("d2i_X509_SIG", data) as sealed,
                library.owned("PKCS8_decrypt", sealed, password, len(password)) as info,
            ):
                return cls._from_info(library, info)
        except LibcryptoError as error:
            raise Rejected(
                Text(
                    "SM2 私钥无法读取：口令不对，或文件不是 PKCS#8 格式的 SM2 私钥",
                    "the SM2 key cannot be read: wrong password, or no SM2 key in PKCS#8",
                ),
                hint=Text("请检查密钥文件和口令引用", "check the key file and its password"),
            ) from error

    @classmethod
    def _from_info(cls, library: Library, info: int) -> Self:
        with library.owned("EVP_PKCS82PKEY", info) as pointer:
            return cls(library, pointer)

    def to_pkcs8(self, password: bytes | None = None, *, random: bool = False) -> bytes:
        """Write PKCS#8 DER; with a password, encrypted by PBES2 (AES-256-CBC)."""
        iterations = RANDOM_ITERATIONS if random else PBKDF2_ITERATIONS
        library = self._library
        with library.owned("EVP_PKEY2PKCS8", self._pointer) as info:
            if password is None:
                return library.der("i2d_PKCS8_PRIV_KEY_INFO", info)
            cipher = library.call("EVP_aes_256_cbc")
            with library.owned(
                "PKCS8_encrypt",
                *(_PBES2, cipher, password, len(password)),
                *(None, 0, iterations, info),
            ) as sealed:
                return library.der("i2d_X509_SIG", sealed)

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }`` (GB/T 32918.2 §6)."""
        library = self._library
        # 72 bytes hold every DER signature of two 256-bit numbers.
        buffer, size = ctypes.create_string_buffer(72), c_size_t(72)
        with library.digest_context("EVP_DigestSignInit", self._pointer) as context:
            library.call("EVP_DigestSign", context, buffer, ctypes.byref(size), data, len(data))
        return buffer.raw[: size.value]
