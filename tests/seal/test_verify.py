from __future__ import annotations

import json
import subprocess
import sys

import pytest

from exchange.seal.batch.build import build
from exchange.seal.batch.prove import prove
from exchange.seal.batch.verify import BATCH_CHECKS, PROOF_CHECKS, verify_batch, verify_proof
from exchange.seal.checks import Verification
from exchange.seal.crypto.suites import SUITES
from exchange.seal.pki.trust import Trust
from tests.seal.samples import FACTS, SEED, packed, sealed, sealers


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.failed]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("count", [1, 2, 3, 300])
def test_a_sealed_batch_verifies(suite: str, count: int) -> None:
    verification = verify_batch(sealed(count, suite).data, trust=Trust([sealers(suite)[1]]))
    assert failed(verification) == []
    assert verification.ok
    answer = verification.as_dict()
    assert json.loads(json.dumps(answer))["rows"] == count
    names = [check.name for check in verification.checks]
    assert names[: len(BATCH_CHECKS)] == list(BATCH_CHECKS)
    assert {"signature.value", "signer.chain", "seal.signature"} <= set(names)
    assert len(names) == len(set(names))
    assert verification.facts["batch_no"] == "2026112300001"


def test_without_the_right_anchor_only_trust_fails() -> None:
    for anchors in ([], [sealers(name="别的")[1]]):
        verification = verify_batch(sealed().data, trust=Trust(anchors))
        assert failed(verification) == ["signer.chain", "seal.maker_chain"]


@pytest.mark.parametrize("suite", SUITES)
def test_revocation_may_be_required(suite: str) -> None:
    root = sealers(suite)[1]
    data = sealed(3, suite).data
    result = verify_batch(data, trust=Trust([root]))
    unknown = ["signer.revocation", "seal.maker_revocation"]
    assert [check.name for check in result.notes] == [*unknown, "seal.owner"]
    for verification in (
        verify_batch(data, trust=Trust([root], require_revocation=True)),
        verify_proof(prove(data, row=1), trust=Trust([root], require_revocation=True)),
    ):
        assert failed(verification) == ["signer.revocation", "seal.maker_revocation"]
    assert failed(verify_batch(data, trust=Trust([root], crls=(b"junk",)))) == ["crls"]
    assert failed(verify_batch(data, trust=Trust([root], tsa_anchors=(b"junk",)))) == [
        "tsa_anchors"
    ]


def test_nothing_readable_lists_every_check_as_not_reached() -> None:
    verification = verify_batch(b"no batch", trust=Trust([]))
    assert [check.name for check in verification.checks] == [*BATCH_CHECKS, "signature"]
    assert not any(check.ok for check in verification.checks)
    first, *others = verification.checks
    assert "not an Avro object container file" in first.found
    assert {check.found for check in others} == {"not reached because container failed"}
    assert (verification.rows, verification.facts) == (0, {})
    proof = verify_proof(b"no proof", trust=Trust([]))
    assert [check.name for check in proof.checks] == [*PROOF_CHECKS, "signature"]


def test_rows_are_those_of_the_file() -> None:
    assert verify_batch(sealed(300).data, trust=Trust([])).rows == 300


def test_a_large_batch_verifies() -> None:
    batch = build(packed(8192), FACTS, sealer=sealers()[0], seed=SEED)
    assert verify_batch(batch.data, trust=Trust([sealers()[1]])).ok


def test_the_verifier_needs_no_columns_library() -> None:
    code = (
        "import sys, exchange.seal.batch.verify; print({'polars', 'pyarrow'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "set()\n"
