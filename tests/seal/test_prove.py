from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from exchange.errors import Integrity, Rejected
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.prove import Proof, prove
from exchange.seal.batch.verify import PROOF_CHECKS, verify_proof
from exchange.seal.crypto.suites import SUITES
from exchange.seal.pki.trust import Trust
from tests.seal.samples import SCHEMA, frame, rows, sealed, sealers


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_every_record_can_be_proved_without_the_batch(suite: str, count: int) -> None:
    data = sealed(count, suite).data
    for row in range(1, count + 1):
        proof = prove(data, row=row)
        verification = verify_proof(proof, trust=Trust([sealers(suite)[1]]))
        assert verification.ok, verification.failed
        names = [check.name for check in verification.checks]
        assert names[: len(PROOF_CHECKS)] == list(PROOF_CHECKS)
        record = verification.facts["record"]
        assert isinstance(record, dict)
        assert record["order_no"] == f"WD{row - 1:06d}"
        assert record["amount"] == str(rows(count)[row - 1]["amount"])
        json.dumps(verification.as_dict())


def test_a_proof_shows_nothing_of_the_other_records() -> None:
    proof = prove(sealed(5).data, row=2)
    batch = open_batch(sealed(5).data)
    read = json.loads(proof)
    assert read.keys() == {
        "chain",
        "format",
        "index",
        "path",
        "record",
        "salt",
        "schema",
        "seal",
        "size",
        "statement",
    }
    assert batch.container.salt.hex() not in proof.decode()
    assert all(f"WD{i:06d}".encode() not in Proof.from_bytes(proof).record for i in (0, 2, 3, 4))


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ({"order_no": "WD000003"}, 4),
        ({"order_no": "WD000003", "cd_operation": "D"}, 4),
        ({"amount": "-9.97"}, 2),
        ({"count": "6"}, 5),
        ({"due": "2026-01-04"}, 4),
        ({"called_at": "2026-11-23T01:02:03.004+00:00"}, 1),
        ({"called_at": "2026-11-23T09:01:03.004+08:00"}, 2),
        ({"secret": "false", "cd_operation": "I"}, 2),
        ({"lng": repr(2 / 7)}, 3),
        ({"name": "加格达奇区王芳"}, 2),
    ],
)
def test_a_record_is_found_by_its_key(key: dict[str, str], row: int) -> None:
    assert prove(sealed(5).data, key=key) == prove(sealed(5).data, row=row)


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"row": 0}, "rows 1 to 5"),
        ({"row": 6}, "rows 1 to 5"),
        ({"key": {}}, "the fields are"),
        ({"key": {"nobody": "1"}}, "nobody"),
        ({"key": {"order_no": "WD9"}}, "no record"),
        ({"key": {"secret": "true"}}, "rows 1, 3, 5"),
        ({"key": {"secret": "yes"}}, "no boolean"),
        ({"key": {"count": "many"}}, "no long"),
        ({"key": {"count": str(2**70)}}, "count"),
        ({"key": {"amount": "1,00"}}, "no decimal"),
        ({"key": {"amount": "1.001"}}, "no decimal"),
        ({"key": {"due": "31.12.2026"}}, "no date"),
        ({"key": {"cd_operation": "X"}}, "no enum"),
        ({"key": {"order_no": "\ud800"}}, "no string"),
    ],
)
def test_a_choice_of_none_or_many_is_refused(choice: dict[str, Any], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        prove(sealed(5).data, **choice)


def test_a_broken_batch_proves_nothing() -> None:
    data = sealed(5).data
    with pytest.raises(Integrity):
        prove(data[:-1], row=1)
    batch = open_batch(data)
    salt = batch.container.salt.hex().encode()
    with pytest.raises(Integrity, match="root"):
        prove(data.replace(salt, b"0" * 32), row=1)
    record = data.replace(b'"boolean"', b'"double"')
    with pytest.raises(Integrity):
        prove(record, key={"order_no": "WD000003"})


@pytest.mark.parametrize("field", ["chain", "index", "path", "record", "salt", "schema", "size"])
@pytest.mark.parametrize("value", [0, "", [], {}, ["x"], [1], "é", "00", "AA="])
def test_other_values_are_refused(field: str, value: Any) -> None:
    read = json.loads(prove(sealed(5).data, row=3))
    read[field] = value
    changed = json.dumps(read, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert not verify_proof(changed, trust=Trust([sealers()[1]])).ok


def test_the_sample_has_what_the_keys_above_name() -> None:
    third = rows(5)[3]
    assert third["due"] == date(2026, 1, 4)
    assert rows(5)[1]["amount"] == Decimal("-9.97")
    assert frame(5).columns == [column.name for column in SCHEMA.columns]
