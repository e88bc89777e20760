"""Revocation: what a list says of a certificate at a time, and what each check makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import core
from asn1crypto import crl as asn1_crl

from exchange.errors import Integrity
from exchange.seal.checks import Check
from exchange.seal.crypto.der import from_pem, sequence, to_pem
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, SUITES, Suite
from exchange.seal.eseal.signature import Sealer, check_signature
from exchange.seal.eseal.structures import read_seal
from exchange.seal.eseal.test_authority import Authority, Revoked, issue, make_crl, make_seal
from exchange.seal.pki.crl import MAX_CRLS, read_crl, revocation
from exchange.seal.pki.trust import Trust
from exchange.seal.pki.x509 import read_certificate
from tests.seal.parties import (
    CONTENT,
    NAME,
    NOW,
    URN,
    entropy,
    failed,
    openssl,
    parties,
    sealed_once,
)

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
DAY = timedelta(days=1)


def a_list(
    suite: Suite,
    *revoked: Revoked,
    since: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
    authority: Authority | None = None,
) -> bytes:
    authority = authority or parties(suite).ca
    return make_crl(authority, revoked, this_update=since, next_update=until)


def roots_list(suite: Suite) -> bytes:
    return a_list(suite, authority=parties(suite).root)


def check(suite: Suite, crls: Sequence[bytes], *, require: bool = True) -> list[Check]:
    us = parties(suite)
    return check_signature(
        sealed_once(suite),
        CONTENT,
        suite=suite,
        property_info=URN,
        chain=[us.ca.certificate],
        trust=Trust([us.root.certificate], crls=crls, require_revocation=require),
    )


def found(checks: list[Check], name: str) -> Check:
    (only,) = [item for item in checks if item.name == name]
    return only


BOTH = ["signer.revocation", "seal.maker_revocation"]


@each_suite
def test_lists_of_every_issuer_answer_for_a_seal(suite: Suite) -> None:
    checks = check(suite, [a_list(suite), roots_list(suite)])
    assert not failed(checks)
    assert not [item.name for item in checks if item.note]
    assert "not in the list" in found(checks, "signer.revocation").found


@each_suite
def test_without_lists_the_doubt_is_said_or_required_away(suite: Suite) -> None:
    checks = check(suite, [], require=False)
    assert not failed(checks)
    assert [item.name for item in checks if item.note] == BOTH
    result = found(checks, "signer.revocation")
    assert result.text.zh == "撤销状态未知"
    assert "测试签发机构" in result.found
    assert failed(check(suite, [])) == BOTH
    # A list of the issuing CA says nothing about the CA itself.
    assert failed(check(suite, [a_list(suite)])) == BOTH


@each_suite
@pytest.mark.parametrize(
    ("hours", "names"), [(-1, ["signer.revocation"]), (0, ["signer.revocation"]), (1, [])]
)
def test_revoked_before_signing_is_invalid_and_after_is_told(
    suite: Suite, hours: int, names: list[str]
) -> None:
    us = parties(suite)
    revoked = Revoked(us.signer.certificate, NOW + timedelta(hours=hours), "superseded")
    for require in (True, False):
        checks = check(suite, [a_list(suite, revoked), roots_list(suite)], require=require)
        assert failed(checks) == names
    result = found(checks, "signer.revocation")
    assert "(superseded)" in result.found
    assert result.note is False


@each_suite
def test_a_revoked_maker_is_judged_by_the_day_the_seal_was_made(suite: Suite) -> None:
    us = parties(suite)
    created = read_seal(us.eseal).info.created
    for at, names in ((created, ["seal.maker_revocation"]), (created + timedelta(seconds=1), [])):
        crls = [a_list(suite, Revoked(us.maker.certificate, at)), roots_list(suite)]
        assert failed(check(suite, crls)) == names


@each_suite
def test_a_revoked_authority_takes_its_certificates_along(suite: Suite) -> None:
    us = parties(suite)
    revoked = Revoked(us.ca.certificate, NOW - DAY, "ca_compromise")
    crls = [a_list(suite), a_list(suite, revoked, authority=us.root)]
    checks = check(suite, crls, require=False)
    assert failed(checks) == BOTH
    assert "测试签发机构" in found(checks, "signer.revocation").found


@each_suite
def test_a_lost_key_counts_from_the_day_it_was_lost(suite: Suite) -> None:
    us = parties(suite)
    later = NOW + timedelta(hours=5)
    revoked = Revoked(us.signer.certificate, later, "key_compromise", NOW - timedelta(hours=2))
    assert failed(check(suite, [a_list(suite, revoked), roots_list(suite)])) == [
        "signer.revocation"
    ]
    unsaid = replace(revoked, invalid_since=None)
    checks = check(suite, [a_list(suite, unsaid), roots_list(suite)])
    assert not failed(checks)
    result = found(checks, "signer.revocation")
    assert result.note
    assert "time stamp" in result.text.en


def status(suite: Suite, *crls: bytes, at: datetime = NOW) -> tuple[str, str]:
    us = parties(suite)
    read = [read_crl(crl) for crl in crls]
    signer, ca = (read_certificate(item.certificate) for item in (us.signer, us.ca))
    result = revocation(read, signer, ca, at)
    return result.standing, result.found


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (-2, -1, "out of date"),
        (-1, 1, ""),
        (5, 6, ""),  # a later list shows every earlier revocation
        (5 * 365 - 1, 5 * 365, ""),
        (5 * 365 + 1, 5 * 365 + 2, "after the certificate had expired"),
    ],
)
def test_which_lists_know_of_the_time_of_signing(since: int, until: int, expected: str) -> None:
    crl = a_list(SM2_SM3, since=NOW + since * DAY, until=NOW + until * DAY)
    standing, why = status(SM2_SM3, crl)
    assert standing == ("unknown" if expected else "good")
    assert expected in why


def test_an_old_list_still_proves_a_revocation() -> None:
    revoked = Revoked(parties(SM2_SM3).signer.certificate, NOW - 9 * DAY)
    old = a_list(SM2_SM3, revoked, since=NOW - 9 * DAY, until=NOW - 8 * DAY)
    fresh = a_list(SM2_SM3)
    assert status(SM2_SM3, old)[0] == "revoked"
    assert status(SM2_SM3, fresh, old)[0] == "revoked"


def test_a_list_must_be_its_issuers() -> None:
    us = parties(SM2_SM3)
    revoked = Revoked(us.signer.certificate, NOW - DAY)
    other = parties(ECDSA_P256_SHA256).ca  # the same name, another key
    standing, why = status(SM2_SM3, a_list(SM2_SM3, revoked, authority=other))
    assert (standing, "signature is wrong" in why) == ("unknown", True)
    forged = bytearray(a_list(SM2_SM3, revoked))
    forged[-1] ^= 1
    assert status(SM2_SM3, bytes(forged))[0] == "unknown"
    # The root's list may name the same serial number: it is another issuer's.
    assert status(SM2_SM3, a_list(SM2_SM3, revoked, authority=us.root))[0] == "unknown"


@each_suite
def test_an_issuer_that_may_not_sign_lists(suite: Suite) -> None:
    us = parties(suite)
    usage = frozenset({"key_cert_sign"})
    ca = issue(us.root, "CA", now=NOW, entropy=entropy("no lists"), usage=usage, ca=True)
    leaf = issue(ca, "单位", now=NOW, entropy=entropy("leaf"))
    crl = read_crl(a_list(suite, authority=ca))
    result = revocation(
        [crl], read_certificate(leaf.certificate), read_certificate(ca.certificate), NOW
    )
    assert (result.standing, "may not sign lists" in result.found) == ("unknown", True)


def test_a_partial_list_answers_for_its_part_only() -> None:
    us = parties(SM2_SM3)
    here, there = "http://crl.example/1.crl", "http://crl.example/2.crl"
    leaf = issue(us.ca, "单位", now=NOW, entropy=entropy("part"), crl_url=here)
    certificate, ca = read_certificate(leaf.certificate), read_certificate(us.ca.certificate)

    def told(point: str, *revoked: Revoked) -> str:
        data = make_crl(us.ca, revoked, this_update=NOW - DAY, next_update=NOW + DAY, point=point)
        return revocation([read_crl(data)], certificate, ca, NOW).standing

    assert told(here) == "good"
    assert told(here, Revoked(leaf.certificate, NOW - DAY)) == "revoked"
    assert told(there) == "unknown"
    whole = make_crl(us.ca, (), this_update=NOW - DAY, next_update=NOW + DAY, point=here)
    assert status(SM2_SM3, whole)[0] == "unknown"  # that certificate names no point


def extended(suite: Suite, *extensions: dict[str, object]) -> bytes:
    """Make a list with further extensions, signed well."""
    us = parties(suite)
    outer = asn1_crl.CertificateList.load(a_list(suite))
    tbs = outer["tbs_cert_list"]
    for extension in extensions:
        tbs["crl_extensions"].append(extension)
    signed = tbs.dump(force=True)
    algorithm = outer["signature_algorithm"].dump()
    return sequence(signed, algorithm, core.OctetBitString(us.ca.key.sign(signed)).dump())


SCOPE = "issuing_distribution_point"


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ({"extn_id": "delta_crl_indicator", "critical": True, "extn_value": 1}, "delta"),
        ({"extn_id": "1.2.3", "critical": True, "extn_value": b"\5\0"}, "not understood: 1.2.3"),
        ({"extn_id": "1.2.3", "extn_value": b"\5\0"}, ""),
        ({"extn_id": SCOPE, "extn_value": {"only_contains_user_certs": True}}, ""),
        ({"extn_id": SCOPE, "extn_value": {"only_contains_ca_certs": True}}, "no list of"),
        ({"extn_id": SCOPE, "extn_value": {"indirect_crl": True}}, "indirect"),
        ({"extn_id": SCOPE, "extn_value": {"only_some_reasons": {"superseded"}}}, "some reasons"),
    ],
)
def test_extensions_of_a_list(extension: dict[str, object], expected: str) -> None:
    standing, why = status(SM2_SM3, extended(SM2_SM3, extension))
    assert standing == ("unknown" if expected else "good")
    assert expected in why


def test_lists_that_cannot_be_read_are_said() -> None:
    good = [a_list(SM2_SM3), roots_list(SM2_SM3)]
    assert failed(check(SM2_SM3, [*good, b"junk"])) == ["crls"]
    assert failed(check(SM2_SM3, good * MAX_CRLS)) == ["crls"]


@each_suite
def test_every_flipped_bit_of_a_list_leaves_the_question_open(suite: Suite) -> None:
    """No damage turns a revoked certificate into one that is not."""
    us = parties(suite)
    good = a_list(suite, Revoked(us.signer.certificate, NOW - DAY))
    assert status(suite, good)[0] == "revoked"
    for at in range(len(good)):
        for bit in range(8):
            bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            try:
                assert status(suite, bad)[0] == "unknown", f"bit {bit} of byte {at}"
            except Integrity:
                continue


# OpenSSL


@each_suite
def test_openssl_verifies_our_list(suite: Suite, tmp_path: Path) -> None:
    us = parties(suite)
    crl = a_list(suite, Revoked(us.signer.certificate, NOW - DAY, "key_compromise"))
    (tmp_path / "crl.der").write_bytes(crl)
    result = openssl("crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-noout", "-text")
    serial = f"{read_certificate(us.signer.certificate).serial:X}"
    assert f"Serial Number: {serial}" in result
    assert "Key Compromise" in result
    if suite is ECDSA_P256_SHA256:  # `openssl crl` cannot be told the id of SM2
        (tmp_path / "ca.pem").write_bytes(to_pem("CERTIFICATE", us.ca.certificate))
        result = openssl(
            "crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-noout",
            "-CAfile", tmp_path / "ca.pem",
        )  # fmt: skip
        assert "verify OK" in result
        return
    signed, value = (tmp_path / name for name in ("signed.der", "value.der"))
    read = read_crl(crl)
    signed.write_bytes(read.signed)
    value.write_bytes(read.signature)
    key = tmp_path / "key.pem"
    key.write_bytes(to_pem("PUBLIC KEY", us.ca.key.public_der()))
    assert "Verified OK" in openssl(
        "dgst", "-sm3", "-verify", key, "-sigopt", "distid:1234567812345678",
        "-signature", value, signed,
    )  # fmt: skip


@each_suite
def test_a_list_made_by_openssl(suite: Suite, tmp_path: Path) -> None:
    us = parties(suite)
    (tmp_path / "ca.pem").write_bytes(to_pem("CERTIFICATE", us.ca.certificate))
    (tmp_path / "key.pem").write_bytes(to_pem("PRIVATE KEY", us.ca.key.to_pkcs8()))
    serial = f"{read_certificate(us.signer.certificate).serial:X}"
    gone = NOW.strftime("%y%m%d000000Z")
    (tmp_path / "index.txt").write_text(
        f"R\t310101000000Z\t{gone},keyCompromise\t{serial}\tunknown\t/CN=x\n"
    )
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {tmp_path}/index.txt\n"
        f"default_md = {suite.hash_name}\nunique_subject = no\n"
    )
    options = ["-sigopt", "distid:1234567812345678"] if suite is SM2_SM3 else []
    openssl(
        "ca", "-config", tmp_path / "ca.cnf", "-gencrl", "-cert", tmp_path / "ca.pem",
        "-keyfile", tmp_path / "key.pem", "-out", tmp_path / "crl.pem", *options,
        "-crl_lastupdate", "20261101000000Z", "-crl_nextupdate", "20261201000000Z",
    )  # fmt: skip
    (crl,) = from_pem((tmp_path / "crl.pem").read_bytes())
    standing, result = status(suite, crl)
    assert (standing, "key_compromise" in result) == ("revoked", True)
    assert status(suite, crl, at=NOW - 2 * DAY)[0] == "good"


def test_a_seal_sealed_after_its_revocation_fails_while_older_ones_hold() -> None:
    suite = SM2_SM3
    us = parties(suite)
    eseal = make_seal(
        us.maker,
        (us.signer.certificate,),
        name=NAME,
        es_id="1",
        created=NOW,
        valid_until=NOW + 30 * DAY,
    )
    revoked = Revoked(us.signer.certificate, NOW + 2 * DAY, "cessation_of_operation")
    crls = [
        make_crl(us.ca, (revoked,), this_update=NOW + 4 * DAY, next_update=NOW + 9 * DAY),
        make_crl(us.root, (), this_update=NOW + 4 * DAY, next_update=NOW + 9 * DAY),
    ]
    for days, names in ((1, []), (3, ["signer.revocation"])):
        signature = Sealer(us.signer.signer, eseal).seal(
            CONTENT, property_info=URN, at=NOW + days * DAY
        )
        checks = check_signature(
            signature,
            CONTENT,
            suite=suite,
            property_info=URN,
            chain=[us.ca.certificate],
            trust=Trust([us.root.certificate], crls=crls, require_revocation=True),
        )
        assert failed(checks) == names
