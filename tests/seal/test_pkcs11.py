"""Keys in a device, with SoftHSM2 as the device: sign, lose it, find it, keep the PIN quiet."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Denied, ExchangeError, Misconfigured, Transient
from exchange.seal.crypto import pkcs11
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.libcrypto import Sm2PublicKey
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3
from exchange.seal.eseal.folder import CERTIFICATE, CHAIN, ROOT, SEAL, open_sealer
from exchange.seal.pki.signers import KeyPlace, Signer, open_signer
from tests.seal.parties import CONTENT, NOW, URN, check, failed, parties, verify_signature

MODULES = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
]
MODULE = next((path for path in MODULES if Path(path).exists()), MODULES[0])
PIN = "8642-of-the-test"
LABEL = "印章令牌"


@dataclass
class Token:
    """A token with the signer's key under the label ``seal`` and the id a1."""

    folder: Path
    label: str

    def address(self, rest: str = "object=seal", **options: str) -> str:
        query = {"module-path": MODULE, **{k.replace("_", "-"): v for k, v in options.items()}}
        pairs = "&".join(f"{name}={quote(value, safe='/:')}" for name, value in query.items())
        return f"pkcs11:token={quote(self.label)};{rest}?{pairs}"

    def open(self, address: str = "", pin: str | None = PIN, **environ: str) -> Signer:
        certificate = parties(ECDSA_P256_SHA256).signer.certificate
        place = KeyPlace(self.folder, environ)
        return open_signer(address or self.address(), certificate, place=place, password=pin)

    def login(self, pin: str = PIN) -> None:
        """Log in by hand, as the device's own tool would."""
        module = pkcs11.Module(MODULE)
        slot = self.slot(module)
        session = ctypes.c_ulong()
        module.call("C_OpenSession", slot, 4, None, None, ctypes.byref(session))
        module.call("C_Login", session, 1, pin.encode(), len(pin), also=(0xA0, 0x100))
        module.call("C_CloseAllSessions", slot)

    def slot(self, module: pkcs11.Module) -> int:
        items = [s for s, info in module.tokens() if info.label.rstrip(b" ") == self.label.encode()]
        return items[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give SoftHSM a folder of its own; it reads its settings once per process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    yield folder
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def tool(*arguments: str) -> None:
    subprocess.run(
        ["softhsm2-util", *arguments], check=True, capture_output=True, timeout=60, text=True
    )


@pytest.fixture
def token(store: Path, tmp_path: Path) -> Iterator[Token]:
    label = f"{LABEL}{len(list(store.iterdir()))}"
    marker = store / f"{tmp_path.name}"
    marker.mkdir()
    key = tmp_path / "key.pem"
    key.write_bytes(to_pem("PRIVATE KEY", parties(ECDSA_P256_SHA256).signer.key.to_pkcs8()))
    tool("--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN)
    tool("--import", str(key), "--token", label, "--label", "seal", "--id", "a1", "--pin", PIN)
    finalize()
    yield Token(tmp_path, label)
    finalize()


def finalize() -> None:
    """End SoftHSM in this process, so that it looks for tokens again."""
    end: Any = ctypes.CDLL(MODULE).C_Finalize
    end.argtypes, end.restype = [ctypes.c_void_p], ctypes.c_ulong
    assert end(None) in {0, 0x190}


def signs(signer: Signer, data: bytes = b"content") -> bool:
    certificate = parties(ECDSA_P256_SHA256).signer.certificate
    return verify_signature(ECDSA_P256_SHA256, certificate, data, signer.sign(data))


@pytest.mark.parametrize("rest", ["object=seal", "id=%a1", "object=seal;id=%A1;type=private"])
def test_a_device_signs(token: Token, rest: str) -> None:
    signer = token.open(token.address(rest))
    assert not signer.software
    assert signs(signer)
    assert signs(signer, b"x" * 100_000)


def test_a_device_seals(token: Token) -> None:
    """A seal's folder whose key is in a device: the whole seal verifies."""
    us = parties(ECDSA_P256_SHA256)
    folder = token.folder / "seal"
    folder.mkdir()
    (folder / CERTIFICATE).write_bytes(to_pem("CERTIFICATE", us.signer.certificate))
    (folder / SEAL).write_bytes(us.eseal)
    (folder / CHAIN).write_bytes(to_pem("CERTIFICATE", us.ca.certificate))
    (folder / ROOT).write_bytes(to_pem("CERTIFICATE", us.root.certificate))
    (folder / "pin.txt").write_text(PIN + "\n")
    for address, password, environ in (
        (token.address(pin_source="file:pin.txt"), None, {}),
        (token.address(pin_source="env:HSM_PIN"), None, {"HSM_PIN": PIN}),
        (token.address(), "env:HSM_PIN", {"HSM_PIN": PIN}),
    ):
        sealer = open_sealer(folder, key=address, password=password, environ=environ)
        signature = sealer.seal(CONTENT, property_info=URN, at=NOW)
        assert not failed(check(signature, ECDSA_P256_SHA256))
        assert PIN not in repr(sealer)


def test_a_wrong_pin_is_tried_once(token: Token, caplog: pytest.LogCaptureFixture) -> None:
    """The token itself remembers: not even another process tries a second time."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Denied, match="wrong PIN") as caught:
        token.open(pin="1111-wrong")
    finalize()  # as after a restart
    with pytest.raises(Denied, match="wrong PIN"):
        token.open(pin=PIN)  # which would do, but nobody has looked yet
    token.login()
    finalize()
    assert signs(token.open(pin=PIN))
    told = str(caught.value) + caught.value.what.zh + caught.value.hint.zh + caplog.text
    assert "1111" not in told
    assert PIN not in told


def test_it_goes_on_when_sessions_are_gone(token: Token) -> None:
    signer = token.open()
    module = pkcs11.Module(MODULE)
    module.call("C_CloseAllSessions", token.slot(module))
    assert signs(signer)
    finalize()  # another part of the program ended the library
    assert signs(signer)


def test_it_goes_on_when_the_token_is_back(token: Token, store: Path) -> None:
    signer = token.open()
    tokens, away = store / "tokens", store / "away"
    tokens.rename(away)
    tokens.mkdir()
    try:
        finalize()
        with pytest.raises(Transient, match="does not answer") as caught:
            signer.sign(b"content")
        assert PIN not in str(caught.value)
    finally:
        shutil.rmtree(tokens)
        away.rename(tokens)
        finalize()
    assert signs(signer)


def test_a_forked_child_signs_and_so_does_its_parent(token: Token) -> None:
    signer = token.open()
    child = os.fork()
    if child == 0:
        count = 1
        try:
            count = 0 if signs(signer) else 2
        finally:
            os._exit(count)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert signs(signer)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (("object=seal", "object=other"), Misconfigured, "no private key"),
        (("token=", "token=un"), Transient, "does not answer"),
        (("libsofthsm2", "libnothere"), Misconfigured, "cannot load"),
        ((MODULE, "libm.so.6"), Misconfigured, "cannot load"),
    ],
)
def test_what_is_not_there_is_named(
    token: Token, change: tuple[str, str], kind: type[ExchangeError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        token.open(token.address().replace(*change))


def test_the_key_is_the_certificates(token: Token) -> None:
    other = parties(ECDSA_P256_SHA256).maker.certificate
    with pytest.raises(Misconfigured, match="not the one of the certificate"):
        open_signer(token.address(), other, place=KeyPlace(token.folder, {}), password=PIN)
    with pytest.raises(Misconfigured, match="no pin-source"):
        token.open(pin=None)


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("token=a;object=b", "module-path"),
        ("token=a?module-path=m", "object"),
        ("object=a;object=b?module-path=m", "object"),
        ("object=a;type=public?module-path=m", "type"),
        ("object=a?module-path=m&pin-value=31415926", "pin-value"),
        ("object=a?module-path=m&x-mechanism=sm2", "x-mechanism"),
        ("object=a?module-path=m&x-input=both", "x-input"),
        ("object=a;31415926?module-path=m", "?"),
    ],
)
def test_wrong_addresses(address: str, names: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        pkcs11.parse(address)
    assert caught.value.what.en.endswith(f"at {names}")
    assert "31415926" not in str(caught.value)


@given(
    st.binary(min_size=1, max_size=20),
    st.binary(min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_addresses_are_decoded(token: bytes, ident: bytes, mechanism: int) -> None:
    text = f"token={quote(token)};id={quote(ident)}?module-path=/m&x-mechanism={mechanism:#x}"
    result = pkcs11.parse(text)
    assert result.attributes == {"token": token, "id": ident}
    assert (result.module, result.mechanism, result.message) == ("/m", mechanism, False)


@given(st.text(max_size=60) | st.text("tokenbjci=;?&%-0x", max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        assert str(pkcs11.parse(text)).startswith("pkcs11:")
    except Misconfigured:
        return


def test_sm2_needs_its_vendors_mechanism() -> None:
    us = parties(SM2_SM3).signer
    address = "pkcs11:object=seal?module-path=vendor.so"
    with pytest.raises(Misconfigured, match="mechanism number"):
        open_signer(address, us.certificate, place=KeyPlace(Path(), {}), password=PIN)


def test_the_digest_for_an_sm2_device_is_the_standards() -> None:
    """GB/T 32918.5 annex A: Z_A and e of the message ``message digest``."""
    point = (
        "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
        "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
    )
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200" + point)
    Sm2PublicKey.from_der(spki)
    z = pkcs11.sm2_identity(spki)
    assert z.hex() == "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
    e = SM2_SM3.digest(z + b"message digest").hex()
    assert e == "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640"
