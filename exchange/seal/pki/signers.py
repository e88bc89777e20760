"""Signers by address: ``file:key.pem``, ``env:NAME``, ``pkcs11:…`` for devices.

In: an address, the certificate of its key, a password. Out: a Signer. Raises Misconfigured
when the key is missing, unreadable, readable by everybody, or not the certificate's.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from exchange.errors import Misconfigured, Rejected
from exchange.foreign import os_reason
from exchange.seal.crypto import der
from exchange.seal.crypto.keys import PrivateKey, private_key
from exchange.seal.crypto.suites import Suite, suite_of_curve
from exchange.seal.pki.x509 import read_certificate, verify_with
from exchange.secrets import read_secret
from exchange.text import Text

MAX_KEY_BYTES: Final = 64 * 1024

_LOGGER = logging.getLogger(__name__)

SOFTWARE_KEY_WARNING: Final = Text(
    "警告：正在使用软件密钥。生产环境的电子印章必须使用经检测认证的密码产品（服务器密码机、"
    "签名验签服务器）和已备案的印章；软件密钥只供测试和试点。",
    "WARNING: this is a software key. Seals in production need a certified cryptographic "
    "product and a filed seal; software keys are for tests and pilots only.",
)
"""For the command line to print where a software key seals in production."""


class Signer(Protocol):
    """Signs with one key; its certificate goes along. Safe to share between threads."""

    @property
    def suite(self) -> Suite:
        """The suite of the key."""

    @property
    def certificate(self) -> bytes:
        """The certificate of the key, DER."""

    @property
    def software(self) -> bool:
        """Whether the key lies in this process's memory instead of a certified device."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }``."""


@dataclass(frozen=True, slots=True)
class SoftwareSigner:
    """A signer whose key (软件密钥) is in memory: tests and pilots only."""

    suite: Suite
    certificate: bytes = field(repr=False)
    key: PrivateKey = field(repr=False)
    software: bool = True

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; returns DER ``SEQUENCE { r, s }``."""
        return self.key.sign(data)


@dataclass(frozen=True, slots=True)
class GuardedSigner:
    """A signer that asks before every signature: ``ready`` raises when it must not sign."""

    signer: Signer = field(repr=False)
    ready: Callable[[], None] = field(repr=False)

    @property
    def suite(self) -> Suite:
        """The suite of the key."""
        return self.signer.suite

    @property
    def certificate(self) -> bytes:
        """The certificate of the key, DER."""
        return self.signer.certificate

    @property
    def software(self) -> bool:
        """Whether the key lies in this process's memory."""
        return self.signer.software

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` when that is allowed; returns DER ``SEQUENCE { r, s }``."""
        self.ready()
        return self.signer.sign(data)


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where addresses are looked up: relative paths in ``folder``, names in ``environ``."""

    folder: Path
    environ: Mapping[str, str] = field(repr=False)


Opener = Callable[[str, bytes, KeyPlace, bytes | None], Signer]
"""Opens ``(rest of the address, certificate, place, password)``."""


def _open_file(rest: str, certificate: bytes, place: KeyPlace, password: bytes | None) -> Signer:
    path = place.folder / rest
    address = f"file:{rest}"
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = stream.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise _refused(address, os_reason(error)) from error
    if mode & 0o007:
        raise Misconfigured(
            Text(
                f"密钥文件 {rest} 的权限是 {mode:04o}：所有人都能访问",
                f"key file {rest} has mode {mode:04o}: everybody may use it",
            ),
            hint=Text(f"请运行 chmod 600 {rest}", f"run chmod 600 {rest}"),
        )
    return _software(address, data, certificate, password)


def _open_env(rest: str, certificate: bytes, place: KeyPlace, password: bytes | None) -> Signer:
    address = f"env:{rest}"
    if rest not in place.environ:
        raise _refused(address, Text("没有这个环境变量", "no such variable"))
    return _software(address, place.environ[rest].encode(), certificate, password)


def _software(address: str, data: bytes, certificate: bytes, password: bytes | None) -> Signer:
    found = read_certificate(certificate)
    suite = suite_of_curve(found.curve)
    if suite is None:
        raise _refused(address, Text("证书的算法不受支持", "the certificate's key is of no suite"))
    if len(data) > MAX_KEY_BYTES:
        raise _refused(address, Text("密钥文件过大", f"more than {MAX_KEY_BYTES} bytes"))
    try:
        (pkcs8,) = der.from_pem(data)
    except ValueError as error:
        raise _refused(address, Text("不是单个 PEM 密钥", "not one key in PEM")) from error
    try:
        key = private_key(suite, pkcs8, password)
    except Misconfigured:
        raise
    except Rejected as error:
        raise _refused(address, error.what) from error
    # A signature, because encodings of one public key may differ.
    probe = b"exchange"
    if not verify_with(found, suite.signature_oid, probe, key.sign(probe)):
        raise _refused(
            address, Text("密钥与证书不匹配", "the key is not the one of the certificate")
        )
    if not password:
        _LOGGER.warning(
            "!!! 私钥 %s 没有加密 · the private key at %s is not encrypted: use a password",
            address,
            address,
        )
    return SoftwareSigner(suite, certificate, key)


def _refused(address: str, why: Text) -> Misconfigured:
    return Misconfigured(
        Text(f"无法使用密钥 {address}：{why.zh}", f"cannot use the key at {address}: {why.en}"),
        hint=Text(
            "请检查密钥地址、口令引用和证书",
            "check the key's address, the reference of its password, and the certificate",
        ),
    )


def _open_pkcs11(rest: str, certificate: bytes, place: KeyPlace, password: bytes | None) -> Signer:
    from exchange.seal.crypto import pkcs11

    address = pkcs11.parse(rest)
    found = read_certificate(certificate)
    suite = suite_of_curve(found.curve)
    if suite is None:
        raise _refused(str(address), Text("证书的算法不受支持", "the certificate is of no suite"))
    pin = password
    if address.pin_source:
        pin = read_secret(address.pin_source, place.folder, place.environ).encode()
    if pin is None:
        raise _refused(str(address), Text("没有 pin-source", "there is no pin-source"))
    address = replace(address, module=pkcs11.resolve(address.module, place.folder))
    signer = pkcs11.DeviceSigner(suite, certificate, found.public_key, address, pin)
    probe = b"exchange"
    if not verify_with(found, suite.signature_oid, probe, signer.sign(probe)):
        raise _refused(
            str(address), Text("密钥与证书不匹配", "the key is not the one of the certificate")
        )
    return signer


OPENERS: Final[Mapping[str, Opener]] = {
    "file": _open_file,
    "env": _open_env,
    "pkcs11": _open_pkcs11,
}


def open_signer(
    address: str,
    certificate: bytes,
    *,
    place: KeyPlace,
    password: str | None = None,
    openers: Mapping[str, Opener] = OPENERS,
) -> Signer:
    """Open the key at ``address`` for ``certificate`` (DER); the suite is the certificate's.

    ``password`` is the password itself, already read from its reference.
    """
    scheme, _, rest = address.partition(":")
    opener = openers.get(scheme)
    if opener is None or not rest:
        known = ", ".join(f"{each}:" for each in openers)
        raise Misconfigured(
            Text(f"不支持的密钥地址 {scheme}：", f"no key address of this kind: {scheme}:"),
            hint=Text(f"可用的地址：{known}", f"known addresses: {known}"),
        )
    return opener(rest, certificate, place, password.encode() if password else None)
