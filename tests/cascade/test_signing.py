from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cascade.signing import (
    Claim,
    Credentials,
    Family,
    rtime,
    sign,
    signed_headers,
)

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
VECTOR = "lSXFnaVS+CNcrVzGJU3em4zKe6cLvL4YBU7OKEqa1Wg="


def credentials(family: Family = "gjzwfwpt") -> Credentials:
    return Credentials(rid="rid-sd", sid="sid-cat-001", secret="secret-x", family=family)


def test_published_vector() -> None:
    assert rtime(NOW) == "1700000000000"
    assert sign("secret-x", sid="sid-cat-001", rid="rid-sd", rtime="1700000000000") == VECTOR


@pytest.mark.parametrize("family", ["gjzwfwpt", "gjgxjhpt"])
def test_both_header_families(family: Family) -> None:
    assert signed_headers(credentials(family), NOW) == {
        f"{family}_rid": "rid-sd",
        f"{family}_sid": "sid-cat-001",
        f"{family}_rtime": "1700000000000",
        f"{family}_sign": VECTOR,
    }


def test_the_secret_does_not_show() -> None:
    assert "secret-x" not in repr(credentials())


ascii_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@given(rid=ascii_text, sid=ascii_text, secret=st.text(max_size=30), other=st.text(max_size=30))
def test_a_claim_holds_for_its_own_secret_only(rid: str, sid: str, secret: str, other: str) -> None:
    secret, other = (item.encode(errors="replace").decode() for item in (secret, other))
    claim = Claim.of(signed_headers(Credentials(rid, sid, secret), NOW), "gjzwfwpt")
    assert claim.holds(secret)
    # HMAC pads short keys with zero bytes: trailing NULs are the same key (RFC 2104 §2).
    assert claim.holds(other) == (other.rstrip("\0") == secret.rstrip("\0"))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_header_text_is_only_a_claim(moment: str, signature: str) -> None:
    claim = Claim("rid", "sid", moment, signature)
    claim.is_recent(NOW, timedelta(minutes=10))
    assert not claim.holds("secret") or not moment.isascii() or len(signature) == 44


@pytest.mark.parametrize(
    ("seconds", "recent"), [(0, True), (600, True), (-600, True), (601, False), (-601, False)]
)
def test_the_window_counts_both_ways(seconds: int, *, recent: bool) -> None:
    claim = Claim.of(signed_headers(credentials(), NOW + timedelta(seconds=seconds)), "gjzwfwpt")
    assert claim.is_recent(NOW, timedelta(minutes=10)) is recent


def test_missing_headers_are_empty() -> None:
    assert Claim.of({}, "gjgxjhpt") == Claim("", "", "", "")
