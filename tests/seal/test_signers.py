"""Signers by address: what opens, what is refused, and that nothing shows the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from exchange.errors import Misconfigured
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import SUITES, Suite
from exchange.seal.pki.signers import (
    SOFTWARE_KEY_WARNING,
    KeyPlace,
    SoftwareSigner,
    open_signer,
)
from tests.seal.parties import parties, verify_signature

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def put(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@each_suite
@pytest.mark.parametrize("password", [None, "口令 s3cret"])
@pytest.mark.parametrize("form", ["pem", "der"])
def test_file(suite: Suite, password: str | None, form: str, tmp_path: Path) -> None:
    signer = parties(suite).signer
    pkcs8 = signer.key.to_pkcs8(password.encode() if password else None)
    put(tmp_path / "key.pem", to_pem("PRIVATE KEY", pkcs8) if form == "pem" else pkcs8)
    opened = open_signer(
        "file:key.pem", signer.certificate, place=KeyPlace(tmp_path, {}), password=password
    )
    assert opened.suite is suite
    assert opened.software
    result = opened.sign(b"content")
    assert verify_signature(suite, signer.certificate, b"content", result)
    assert not verify_signature(suite, signer.certificate, b"contenT", result)


@pytest.mark.parametrize("password", [None, "s3cret"])
def test_a_plain_key_is_told_loudly(
    password: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signer = parties(SUITES["sm2-sm3"]).signer
    pkcs8 = signer.key.to_pkcs8(password.encode() if password else None)
    put(tmp_path / "key.pem", to_pem("PRIVATE KEY", pkcs8))
    place = KeyPlace(tmp_path, {})
    open_signer("file:key.pem", signer.certificate, place=place, password=password)
    assert ("file:key.pem is not encrypted" in caplog.text) == (password is None)


@each_suite
def test_environment(suite: Suite, tmp_path: Path) -> None:
    signer = parties(suite).signer
    place = KeyPlace(tmp_path, {"SEAL_KEY": to_pem("PRIVATE KEY", signer.key.to_pkcs8()).decode()})
    opened = open_signer("env:SEAL_KEY", signer.certificate, place=place)
    assert verify_signature(suite, signer.certificate, b"x", opened.sign(b"x"))


@each_suite
def test_signature_of_another_suite_does_not_verify(suite: Suite) -> None:
    signer = parties(suite).signer
    (other,) = (item for item in SUITES.values() if item is not suite)
    assert not verify_signature(other, signer.certificate, b"x", signer.key.sign(b"x"))


@each_suite
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_key_that_everybody_may_use_is_refused(suite: Suite, mode: int, tmp_path: Path) -> None:
    signer = parties(suite).signer
    put(tmp_path / "key.pem", to_pem("PRIVATE KEY", signer.key.to_pkcs8()), mode)
    with pytest.raises(Misconfigured, match="everybody may use it") as caught:
        open_signer("file:key.pem", signer.certificate, place=KeyPlace(tmp_path, {}))
    assert "chmod 600 key.pem" in caught.value.hint.en


@each_suite
@pytest.mark.parametrize("password", [None, "wrong"])
def test_wrong_password(suite: Suite, password: str | None, tmp_path: Path) -> None:
    signer = parties(suite).signer
    put(tmp_path / "k", to_pem("ENCRYPTED PRIVATE KEY", signer.key.to_pkcs8(b"right")))
    with pytest.raises(Misconfigured, match="wrong password"):
        open_signer("file:k", signer.certificate, place=KeyPlace(tmp_path, {}), password=password)


@each_suite
def test_key_of_another_certificate(suite: Suite, tmp_path: Path) -> None:
    put(tmp_path / "k", to_pem("PRIVATE KEY", parties(suite).maker.key.to_pkcs8()))
    with pytest.raises(Misconfigured, match="not the one of the certificate"):
        open_signer("file:k", parties(suite).signer.certificate, place=KeyPlace(tmp_path, {}))


def test_key_of_another_curve(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    for encryption, password in ((NoEncryption(), None), (BestAvailableEncryption(b"x"), "x")):
        put(tmp_path / "k", key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption))
        for suite in SUITES.values():
            with pytest.raises(Misconfigured, match="cannot use the key at file:k"):
                open_signer(
                    "file:k",
                    parties(suite).signer.certificate,
                    place=KeyPlace(tmp_path, {}),
                    password=password,
                )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("file:missing.pem", "No such file"),
        ("file:.", "Is a directory"),
        ("file:huge", "more than 65536 bytes"),
        ("file:two.pem", "not one key in PEM"),
        ("file:empty", "no SM2 key in PKCS#8"),
        ("env:MISSING", "no such variable"),
        ("pkcs12:key", "no key address of this kind"),
        ("key.pem", "no key address of this kind"),
        ("file:", "no key address of this kind"),
        ("", "no key address of this kind"),
    ],
)
def test_addresses_that_cannot_be_used(address: str, said: str, tmp_path: Path) -> None:
    signer = parties(SUITES["sm2-sm3"]).signer
    pem = to_pem("PRIVATE KEY", signer.key.to_pkcs8())
    put(tmp_path / "two.pem", pem * 2)
    put(tmp_path / "huge", b"\x00" * 70_000)
    put(tmp_path / "empty", b"")
    with pytest.raises(Misconfigured, match=said):
        open_signer(address, signer.certificate, place=KeyPlace(tmp_path, {}))


def test_a_device_is_one_more_row(tmp_path: Path) -> None:
    signer = parties(SUITES["sm2-sm3"]).signer

    def open_device(
        rest: str, certificate: bytes, place: KeyPlace, _: bytes | None
    ) -> SoftwareSigner:
        assert (rest, place.folder) == ("slot=1", tmp_path)
        return SoftwareSigner(signer.suite, certificate, signer.key, software=False)

    opened = open_signer(
        "pkcs11:slot=1",
        signer.certificate,
        place=KeyPlace(tmp_path, {}),
        openers={"pkcs11": open_device},
    )
    assert not opened.software
    assert "certified" in SOFTWARE_KEY_WARNING.en


@each_suite
def test_repr_shows_nothing_of_the_key(suite: Suite, tmp_path: Path) -> None:
    signer = parties(suite).signer
    pem = to_pem("PRIVATE KEY", signer.key.to_pkcs8()).decode()
    place = KeyPlace(tmp_path, {"SEAL_KEY": pem})
    shown = repr(place) + repr(open_signer("env:SEAL_KEY", signer.certificate, place=place))
    assert pem.splitlines()[2] not in shown
    assert suite.id in shown
