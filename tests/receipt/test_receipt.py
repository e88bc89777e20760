from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Integrity, Misconfigured
from exchange.receipt import MAX_BYTES, Receipt, SentBatch, check, issue, read
from exchange.seal.batch import jcs
from exchange.seal.batch.statement import instant
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, Suite
from exchange.seal.pki.trust import Trust
from tests.receipt.seals import NOW, RECEIPT, STATEMENT, Party, make_party

SENT = SentBatch.of(STATEMENT)
PROVINCE = make_party("province")
GOOD = issue(RECEIPT, PROVINCE.sealer, NOW)


def failed(data: bytes, sent: SentBatch = SENT, party: Party = PROVINCE) -> list[str]:
    return [item.name for item in check(data, trust=Trust([party.root]), batch=sent).failed]


@pytest.mark.parametrize("suite", [SM2_SM3, ECDSA_P256_SHA256])
def test_a_good_receipt_holds_in_both_suites(suite: Suite) -> None:
    party = make_party("province", suite)
    data = issue(replace(RECEIPT, suite=suite.id), party.sealer, NOW)
    verification = check(data, trust=Trust([party.root]), batch=SENT)
    assert verification.ok, verification.failed
    assert verification.rows == 9
    assert verification.facts["receipt_no"] == "R-1"
    assert [item.name for item in verification.checks[:7]] == [
        "format",
        "code",
        "batch",
        "statement",
        "root",
        "counts",
        "time",
    ]
    json.dumps(verification.as_dict())


def test_reading_gives_back_what_was_issued_in_one_spelling() -> None:
    assert read(GOOD) == RECEIPT
    assert jcs.encode(jcs.decode(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"code": "300"}, ["code"]),
        ({"batch_no": "2026112300002"}, ["batch"]),
        ({"resource": "permit"}, ["batch"]),
        ({"resource_code": "307001/2"}, ["batch"]),
        ({"statement": "c" * 64}, ["statement"]),
        ({"root": "c" * 64}, ["root"]),
        ({"rows_sent": 9, "rows_accepted": 8}, ["counts"]),
        ({"rows_accepted": 10}, ["counts"]),
        ({"rows_sent": 11}, ["counts"]),
        ({"received_at": instant(NOW - timedelta(minutes=11))}, ["time"]),
        ({"received_at": instant(NOW - timedelta(minutes=9))}, []),
        ({"root": "c" * 64, "rows_sent": 1}, ["root", "counts"]),
    ],
)
def test_a_sealed_receipt_of_something_else_is_named(
    change: dict[str, Any], names: list[str]
) -> None:
    assert failed(issue(replace(RECEIPT, **change), PROVINCE.sealer, NOW)) == names


def test_another_party_s_seal_is_not_the_province_s() -> None:
    stranger = make_party("stranger")
    names = failed(issue(RECEIPT, stranger.sealer, NOW))
    assert "signer.chain" in names
    assert "root" not in names


def test_a_changed_receipt_under_the_old_seal() -> None:
    envelope = json.loads(GOOD)
    envelope["receipt"]["message"] = "全部成功"
    assert failed(jcs.encode(envelope)) == ["signature.digest"]
    envelope = json.loads(GOOD)
    envelope["receipt"]["receipt_no"] = "R-2"
    assert failed(jcs.encode(envelope)) == ["signature.digest", "signature.range"]


def spoilt(**change: Any) -> bytes:
    envelope = json.loads(GOOD)
    envelope["receipt"].update(change)
    return json.dumps(envelope, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


UNREADABLE = {
    "empty": b"",
    "not json": b"receipt",
    "not an object": b"[]",
    "deep": b"[" * 100_000,
    "spaced": GOOD.replace(b":", b": ", 1),
    "trailing": GOOD + b"\n",
    "truncated": GOOD[:-1],
    "not UTF-8": GOOD.replace(b"\xe6", b"\xff", 1),
    "escaped": GOOD.replace("成".encode(), rb"\u6210"),
    "doubled": GOOD.replace(b'"batch_no"', b'"batch_no":"1","batch_no"', 1),
    "more fields": spoilt(more="1"),
    "boolean": spoilt(rows_sent=True),
    "negative": spoilt(rows_sent=-1),
    "float": spoilt(rows_sent=10.0),
    "huge": spoilt(rows_sent=10**400),
    "number as text": spoilt(rows_sent="10"),
    "text as number": spoilt(message=1),
    "another format": spoilt(format="exchange-receipt-2"),
    "another suite": spoilt(suite="rsa"),
    "no hash": spoilt(root="A" * 64),
    "no such day": spoilt(received_at="2026-02-30T00:00:00.000Z"),
    "local time": spoilt(received_at="2026-11-23T01:02:03.004+08:00"),
    "slash in number": spoilt(receipt_no="../x"),
    "long text": spoilt(message="x" * 1025),
    "too large": spoilt(message="x" * MAX_BYTES),
    "base64 with a newline": GOOD.replace(b'"seal":"', b'"seal":"\\n'),
    "base64 in another spelling": jcs.encode({**json.loads(GOOD), "seal": "QR=="}),
    "chain of ten": jcs.encode({**json.loads(GOOD), "chain": ["QQ=="] * 10}),
    "unknown member": jcs.encode({**json.loads(GOOD), "more": 1}),
    "another envelope": jcs.encode({**json.loads(GOOD), "format": "x"}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_a_receipt_fails_the_first_check_only(name: str) -> None:
    data = UNREADABLE[name]
    assert failed(data) == ["format"]
    with pytest.raises(Integrity):
        read(data)


names = st.text(st.sampled_from("abcXYZ019-"), min_size=1, max_size=64)


@given(names, st.text(max_size=50), st.integers(0, jcs.MAX_INTEGER))
def test_any_receipt_survives_the_wire(number: str, message: str, rows: int) -> None:
    message = message.encode(errors="replace").decode()
    receipt = replace(RECEIPT, receipt_no=number, message=message, rows_sent=rows)
    assert Receipt.of(jcs.decode(receipt.to_bytes())) == receipt
    assert asdict(receipt)["message"] == message


def test_the_seal_must_be_of_the_suite_it_says() -> None:
    with pytest.raises(Misconfigured, match="ecdsa"):
        issue(replace(RECEIPT, suite="ecdsa-p256-sha256"), PROVINCE.sealer, NOW)


def test_garbage_in_seal_and_chain_is_a_failed_check() -> None:
    garbage = base64.b64encode(b"garbage").decode()
    envelope = json.loads(GOOD)
    for spoilt_envelope in ({**envelope, "seal": garbage}, {**envelope, "chain": [garbage]}):
        names = failed(jcs.encode(spoilt_envelope))
        assert names
        assert "format" not in names
