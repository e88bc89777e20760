"""Our own authority, judged by OpenSSL's command, cryptography and the seal's folder."""

from __future__ import annotations

import struct
import subprocess
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from exchange.errors import Integrity, Misconfigured
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import SUITES, Suite
from exchange.seal.eseal.folder import open_sealer, read_certificates, write_seal_folder
from exchange.seal.eseal.signature import check_seal
from exchange.seal.eseal.structures import read_seal, read_signature
from exchange.seal.eseal.test_authority import draw_picture
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate
from tests.seal.parties import CONTENT, NAME, NOW, URN, check, entropy, failed, parties

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
DISTID = "distid:1234567812345678"


def openssl(*arguments: str | Path) -> str:
    result = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30
    )
    return f"{result.returncode} {result.stdout}{result.stderr}"


@each_suite
def test_openssl_verifies_every_link_of_the_chain(suite: Suite, tmp_path: Path) -> None:
    """OpenSSL gives the id of ``-vfyopt`` to the named certificate only: one link a call."""
    for name in ("root", "ca", "maker", "signer"):
        pem = to_pem("CERTIFICATE", getattr(parties(suite), name).certificate)
        (tmp_path / f"{name}.pem").write_bytes(pem)
    options: list[str | Path] = ["-attime", str(int(NOW.timestamp())), "-x509_strict"]
    options += ["-vfyopt", DISTID] if suite.id == "sm2-sm3" else []
    options += ["-partial_chain", "-trusted"]
    for above, name in (("root", "root"), ("root", "ca"), ("ca", "maker"), ("ca", "signer")):
        result = openssl("verify", *options, tmp_path / f"{above}.pem", tmp_path / f"{name}.pem")
        assert result == f"0 {tmp_path / name}.pem: OK\n"
    result = openssl("verify", *options, tmp_path / "maker.pem", tmp_path / "signer.pem")
    assert "unable to get" in result


@each_suite
def test_openssl_verifies_a_seal_signature(suite: Suite, tmp_path: Path) -> None:
    """The recipe of docs/sealed-batch.md."""
    ses = tmp_path / "seal.der"
    ses.write_bytes(parties(suite).sealer.seal(CONTENT, property_info=URN, at=NOW))
    whole = read_signature(ses.read_bytes())
    (tmp_path / "signed.der").write_bytes(whole.signed)
    (tmp_path / "value.der").write_bytes(whole.value)
    (tmp_path / "cert.der").write_bytes(whole.certificate)
    result = openssl(
        "x509", "-inform", "DER", "-in", tmp_path / "cert.der", "-pubkey", "-noout",
        "-out", tmp_path / "key.pem",
    )  # fmt: skip
    assert result.startswith("0 "), result
    extra = ["-pkeyopt", DISTID] if suite.id == "sm2-sm3" else []
    arguments: list[str | Path] = ["-verify", "-pubin", "-inkey", tmp_path / "key.pem", "-rawin"]
    arguments += ["-digest", suite.hash_name, *extra, "-sigfile", tmp_path / "value.der", "-in"]
    assert "Signature Verified Successfully" in openssl(
        "pkeyutl", *arguments, tmp_path / "signed.der"
    )
    (tmp_path / "signed.der").write_bytes(whole.signed[:-1] + b"\x00")
    assert "Signature Verification Failure" in openssl(
        "pkeyutl", *arguments, tmp_path / "signed.der"
    )


@each_suite
def test_openssl_reads_an_encrypted_key(suite: Suite, tmp_path: Path) -> None:
    signer = parties(suite).signer
    path = tmp_path / "key.pem"
    path.write_bytes(to_pem("ENCRYPTED PRIVATE KEY", signer.key.to_pkcs8(b"secret")))
    result = openssl("pkey", "-in", path, "-passin", "pass:secret", "-pubout", "-outform", "PEM")
    assert result == f"0 {to_pem('PUBLIC KEY', signer.key.public_der()).decode()}"


@each_suite
def test_cryptography_reads_the_certificates(suite: Suite) -> None:
    signer, ca = parties(suite).signer, parties(suite).ca
    der_x509_certificate = x509.load_der_x509_certificate(signer.certificate)
    assert (
        der_x509_certificate.not_valid_before_utc < NOW < der_x509_certificate.not_valid_after_utc
    )
    assert der_x509_certificate.signature_algorithm_oid.dotted_string == suite.signature_oid
    assert (
        der_x509_certificate.serial_number
        == (int.from_bytes(entropy("signer")(16)) >> 2) | 1 << 126
    )
    usage = der_x509_certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    above = x509.load_der_x509_certificate(ca.certificate)
    assert above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert der_x509_certificate.issuer == above.subject


@each_suite
def test_seal(suite: Suite) -> None:
    us = parties(suite)
    seal = read_seal(us.eseal)
    assert (seal.version, seal.info.name, seal.info.es_id) == (4, NAME, "23270000000001")
    assert seal.info.certificates == (us.signer.certificate,)
    assert seal.info.valid_until == NOW.replace(microsecond=0) + timedelta(days=700)
    checks = check_seal(us.eseal, chain=[us.ca.certificate], trust=Trust([us.root.certificate]))
    assert not failed(checks)
    assert [item.name for item in checks] == [
        "seal.format",
        "seal.version",
        "seal.maker",
        "seal.signature",
        "seal.created",
        "seal.maker_chain",
        "seal.maker_usage",
        "seal.maker_validity",
        "seal.maker_revocation",
        "seal.validity",
    ]


def test_picture_is_a_small_png() -> None:
    data = draw_picture()
    assert len(data) <= 1500
    kinds, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.pack(">I", zlib.crc32(kind + body)) == data[at + 8 + size : at + 12 + size]
        kinds.append(kind)
        at += 12 + size
        if kind == b"IDAT":
            assert len(zlib.decompress(body)) == 160 * (1 + 160 // 8)
    assert kinds == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]


def write(suite: Suite, folder: Path, password: str | None) -> Path:
    us = parties(suite)
    write_seal_folder(
        folder,
        key=us.signer.key,
        certificate=us.signer.certificate,
        eseal=us.eseal,
        chain=[us.ca.certificate],
        root=us.root.certificate,
        password=password,
    )
    return folder


@each_suite
@pytest.mark.parametrize("password", ["seal password", None])
def test_folder(suite: Suite, password: str | None, tmp_path: Path) -> None:
    folder = write(suite, tmp_path / "seals" / "scjg", password)
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    sealer = open_sealer(
        folder,
        password="env:PASSWORD" if password else None,
        environ={"PASSWORD": password} if password else {},
    )
    signature = sealer.seal(CONTENT, property_info=URN, at=NOW)
    anchors = read_certificates(folder / "root.pem")
    assert not failed(check(signature, suite, chain=sealer.chain, anchors=anchors))
    assert sealer.details.info.name == NAME
    assert "PRIVATE" not in repr(sealer)


def test_folder_with_a_key_is_left_alone(tmp_path: Path) -> None:
    folder = write(SUITES["sm2-sm3"], tmp_path, None)
    before = (folder / "key.pem").read_bytes()
    with pytest.raises(Misconfigured, match="File exists"):
        write(SUITES["sm2-sm3"], tmp_path, None)
    assert (folder / "key.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "seal.esl", "chain.pem"])
def test_folder_with_a_part_missing_names_it(name: str, tmp_path: Path) -> None:
    folder = write(SUITES["ecdsa-p256-sha256"], tmp_path, None)
    (folder / name).unlink()
    with pytest.raises(Misconfigured, match=name):
        open_sealer(folder, environ={})


def test_folder_with_a_wrong_part(tmp_path: Path) -> None:
    folder = write(SUITES["ecdsa-p256-sha256"], tmp_path, None)
    us = parties(SUITES["ecdsa-p256-sha256"])
    good = (folder / "cert.pem").read_bytes()
    (folder / "cert.pem").write_bytes(good * 2)
    with pytest.raises(Misconfigured, match="one certificate"):
        open_sealer(folder, environ={})
    (folder / "cert.pem").write_bytes(to_pem("CERTIFICATE", us.maker.certificate))
    with pytest.raises(Misconfigured, match="not the one of the certificate"):
        open_sealer(folder, environ={})
    (folder / "cert.pem").write_bytes(good)
    (folder / "seal.esl").write_bytes(us.eseal[:-1])
    with pytest.raises(Integrity, match="electronic seal"):
        open_sealer(folder, environ={})
    (folder / "seal.esl").write_bytes(b"\x00" * 1_100_000)
    with pytest.raises(Misconfigured, match="more than"):
        open_sealer(folder, environ={})
    (folder / "chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n!!!")
    with pytest.raises(Misconfigured):
        open_sealer(folder, environ={})


def test_empty_chain_is_fine(tmp_path: Path) -> None:
    folder = write(SUITES["ecdsa-p256-sha256"], tmp_path, None)
    (folder / "chain.pem").write_bytes(b"")
    assert open_sealer(folder, environ={}).chain == ()


@each_suite
def test_fingerprint_is_the_one_openssl_prints(suite: Suite, tmp_path: Path) -> None:
    root = parties(suite).root.certificate
    path = tmp_path / "root.pem"
    path.write_bytes(to_pem("CERTIFICATE", root))
    result = openssl("x509", "-in", path, "-noout", "-fingerprint", "-sha256")
    assert read_certificate(root).fingerprint in result.replace(":", "")
