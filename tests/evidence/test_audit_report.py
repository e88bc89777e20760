from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.evidence.audit_report import ENVELOPE, issue_report, verify_report
from exchange.evidence.files import recognise
from exchange.seal.checks import Check, Verification
from exchange.text import Text
from tests.evidence.samples import party, trust
from tests.receipt.seals import NOW

CHECKS = (
    Check("log.entries", ok=True, text=Text("", "")),
    Check("trail.chain", ok=True, text=Text("", ""), found="a note", note=True),
    Check("receipts.seal", ok=False, text=Text("", ""), expected="一", found="\ud800"),
)


def issue(*checks: Check) -> bytes:
    return issue_report(
        Verification(checks),
        party("node").sealer,
        node="232700",
        origin="data.dxal.example/evidence",
        program="1",
        at=NOW,
    )


REPORT = issue(*CHECKS)


def test_a_report_is_what_the_node_sealed() -> None:
    found = verify_report(REPORT, trust=trust(party("node")))
    assert found.ok, found.failed
    assert {key: found.facts[key] for key in ("node", "result", "failed", "checks")} == {
        "node": "232700",
        "result": "failed",
        "failed": "receipts.seal",
        "checks": 3,
    }
    assert recognise(REPORT) == "audit"
    passed = verify_report(issue(*CHECKS[:2]), trust=trust(party("node")))
    assert (passed.ok, passed.facts["result"]) == (True, "passed")


def test_nobody_else_can_say_it() -> None:
    found = verify_report(REPORT, trust=trust(party("province")))
    assert not found.ok


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"node":"232700"', '"node":"110000"'),
        ('"result":"noted"', '"result":"passed"'),
        ('"origin":"data', '"origin":"Data'),
        ('"receipts.seal"', '"receipts.once"'),
        (ENVELOPE, "exchange-audit-envelope-2"),
        ('"result":"failed","suite"', '"result":"passed","suite"'),
        ("{", " {"),
    ],
)
def test_a_change_is_told(before: str, after: str) -> None:
    text = REPORT.decode()
    assert before in text
    assert not verify_report(text.replace(before, after, 1).encode(), trust=trust(party("node"))).ok


@given(st.integers(0, 8 * len(REPORT) - 1))
@example(0)
def test_no_bit_can_be_otherwise(bit: int) -> None:
    data = bytearray(REPORT)
    data[bit // 8] ^= 1 << bit % 8
    assert not verify_report(bytes(data), trust=trust(party("node"))).ok


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(REPORT)["report"])), VALUES)
def test_members_of_any_kind_are_refused(name: str, value: object) -> None:
    content = json.loads(REPORT)
    if content["report"][name] == value:
        return
    content["report"][name] = value
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    data = text.encode(errors="surrogatepass")
    assert not verify_report(data, trust=trust(party("node"))).ok


@given(st.binary(max_size=200))
def test_noise_is_no_report(data: bytes) -> None:
    assert [check.name for check in verify_report(data, trust=trust(party("node"))).failed] == [
        "format"
    ]
