from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.seal.batch import jcs
from exchange.seal.batch.statement import Statement, instant

VECTOR = Path(__file__).parent.parent / "vectors/statement.json"

STATEMENT = Statement(
    suite="sm2-sm3",
    department="11232700MB1234567A",
    resource="hotline_order",
    resource_code="307001/1",
    catalog_version="2026.11",
    catalog_digest="sm3:" + "0" * 64,
    schema="sm3:" + "1" * 64,
    batch_no="2026112300001",
    lane=0,
    rows=3,
    inserts=1,
    updates=2,
    deletes=0,
    root="a" * 64,
    payload="b" * 64,
    previous="",
    pulled_at="2026-11-23T01:02:03.004Z",
    sealed_at="2026-11-23T01:02:04.000Z",
    source='热线 "12345"\n',
    pull="p-1",
    accepted=3,
    rejected=1,
)


def test_the_bytes_are_those_of_the_vector() -> None:
    assert STATEMENT.to_bytes() == VECTOR.read_bytes()
    assert Statement.from_bytes(VECTOR.read_bytes()) == STATEMENT
    assert STATEMENT.property_info == "urn:gds:batch:hotline_order/2026112300001;canon=jcs"


@given(source=st.text(max_size=50), lane=st.integers(0, 9_999_999_999))
def test_round_trip(source: str, lane: int) -> None:
    statement = replace(STATEMENT, source=source, lane=lane)
    assert Statement.from_bytes(statement.to_bytes()) == statement


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"accepted"', b'{ "accepted"'),
        (b'"lane":0', b'"lane":0.0'),
        (b'"lane":0', b'"lane":-0'),
        (b'"lane":0', b'"lane":-1'),
        (b'"lane":0', b'"lane":true'),
        (b'"lane":0', b'"lane":"0"'),
        (b'"lane":0', b'"lane":9007199254740992'),
        (b'"lane":0', b'"lane":10000000000'),
        (b'"lane":0', b'"lane":0,"lane":0'),
        (b'"lane":0', b'"lame":0'),
        (b'"lane":0,', b""),
        (b'"lane":0', b'"lane":0,"x":1'),
        (b'"lane":0', b'"lane":NaN'),
        (b"p-1", b"\\u0070-1"),
        (b"p-1", b"\\ud800"),
        (b"p-1", b"\xff"),
        (b"p-1", b"x" * 1025),
        (b"statement-1", b"statement-2"),
        (b"2026112300001", b"202611230001"),
        (b"aaaa", b"AAAA"),
        (b"04.000Z", b"04.000+"),
        (b"2026-11-23T01:02:04", b"2026-13-23T01:02:04"),
        (b"2026-11-23T01:02:04", b"2026-11-23T24:02:04"),
        (b"2026-11-23T01:02:04", b"0001-01-01T00:00:00"),
        (b"{", b"[{"),
    ],
)
def test_every_other_spelling_is_refused(old: bytes, new: bytes) -> None:
    data = STATEMENT.to_bytes()
    assert old in data
    with pytest.raises(ValueError):  # noqa: PT011 - the reasons differ, the refusal does not
        Statement.from_bytes(data.replace(old, new, 1))


def test_what_is_nested_too_deeply_is_refused_with_a_value_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        jcs.decode(b"[" * 100_000)


@given(
    st.recursive(
        st.text() | st.integers(-jcs.MAX_INTEGER, jcs.MAX_INTEGER),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abcXYZ_.", max_size=5), inner),
        max_leaves=20,
    )
)
def test_jcs_round_trip(value: jcs.Value) -> None:
    assert jcs.decode(jcs.encode(value)) == value
    assert json.loads(jcs.encode(value)) == value


@pytest.mark.parametrize("value", [None, 1.5, True, {"键": 1}, [[None]], 2**53, {"a": {"b": 1.0}}])
def test_jcs_refuses_what_is_outside_its_subset(value: jcs.Value) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        jcs.encode(value)


def test_escapes_are_those_of_rfc_8785() -> None:
    text = "\u20ac$\u000f\nA'\u0042\u0022\u005c\\\"/\x7f\b\t\f\r"
    assert jcs.encode(text).decode() == ('"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\\b\\t\\f\\r"')


def test_instant() -> None:
    at = datetime(2026, 11, 23, 9, 2, 3, 4999, timezone(timedelta(hours=8)))
    assert instant(at) == "2026-11-23T01:02:03.004Z"
    assert instant(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="zone"):
        instant(datetime(2026, 1, 1))  # noqa: DTZ001
