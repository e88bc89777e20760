"""The table of suites against the standards' vectors."""

from __future__ import annotations

import pytest

from exchange.errors import Misconfigured, Rejected
from exchange.seal.crypto.suites import (
    ECDSA_P256_SHA256,
    SM2_SM3,
    SUITES,
    Suite,
    suite,
    suite_of_curve,
    suite_of_signature,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ],
)
def test_sm3_vectors(data: bytes, expected: str) -> None:
    assert SM2_SM3.digest(data).hex() == expected
    assert SM2_SM3.new(data).hexdigest() == expected


def test_sha256_vector() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ECDSA_P256_SHA256.digest(b"abc").hex() == expected


@pytest.mark.parametrize("each", SUITES.values(), ids=SUITES)
def test_lookups(each: Suite) -> None:
    assert suite(each.id) is each
    assert suite_of_signature(each.signature_oid) is each
    assert suite_of_curve(each.curve_oid) is each


def test_unknown_ids() -> None:
    with pytest.raises(Rejected, match="unknown suite 'rsa'") as caught:
        suite("rsa")
    assert "sm2-sm3" in caught.value.hint.en
    assert suite_of_signature("1.2.840.113549.1.1.11") is None
    assert suite_of_curve("") is None


def test_missing_hash_is_explained() -> None:
    with pytest.raises(Misconfigured, match="has no SM9"):
        Suite("x", "sm9", "", "", "").new()
