"""What docs/sealed-batch.md says is true: its code runs, its lists are complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from exchange.receipt import Receipt
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.columns import decode
from exchange.seal.batch.prove import prove
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import BATCH_CHECKS, PROOF_CHECKS, verify_batch, verify_proof
from exchange.seal.crypto.der import from_pem
from exchange.seal.crypto.suites import SUITES
from exchange.seal.pki.trust import Trust
from tests.seal.make_vectors import FOLDER, PROVED, ROWS
from tests.seal.samples import SEED, frame, sealed

PAGE = (Path(__file__).parents[2] / "docs/sealed-batch.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("suite", SUITES)
def test_vectors_hold(suite: str) -> None:
    data = (FOLDER / f"{suite}.avro").read_bytes()
    anchors = from_pem((FOLDER / f"{suite}.root.pem").read_bytes())
    assert verify_batch(data, trust=Trust(anchors)).failed == ()
    batch = open_batch(data)
    assert decode(batch.records, batch.offsets, batch.schema).equals(frame(ROWS))
    assert batch.container.salt == SEED
    assert batch.statement.root == sealed(ROWS, suite).statement.root
    proof = (FOLDER / f"{suite}.proof.json").read_bytes()
    assert verify_proof(proof, trust=Trust(anchors)).failed == ()
    assert prove(data, row=PROVED) == proof


def test_the_recipes_run(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "sm2-sm3.avro", tmp_path / "batch.avro")

    def run(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    take_out, recompute = blocks("python")
    (verify,) = blocks("sh")
    run(sys.executable, "-c", take_out)
    answer = run("sh", "-ec", verify)
    assert "Signature Verified Successfully" in answer
    assert "statement is signed" in answer
    root = open_batch((tmp_path / "batch.avro").read_bytes()).statement.root
    assert run(sys.executable, "-c", recompute) == f"root {root}\n"


def test_the_recipe_for_ecdsa(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "ecdsa-p256-sha256.avro", tmp_path / "batch.avro")
    (sm2,) = blocks("sh")
    ecdsa = re.sub(
        r"openssl pkeyutl .*?signature\.der\n",
        "openssl dgst -sha256 -verify signer.pem -signature signature.der signed.der\n",
        sm2,
        flags=re.DOTALL,
    ).replace("dgst -sm3", "dgst -sha256")
    for command in ([sys.executable, "-c", blocks("python")[0]], ["sh", "-ec", ecdsa]):
        result = subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
        )
    assert "Verified OK" in result.stdout
    assert "statement is signed" in result.stdout


def test_the_lists_are_complete() -> None:
    members = [field.name for kind in (Statement, Receipt) for field in fields(kind)]
    for name in [*BATCH_CHECKS, *PROOF_CHECKS, *members]:
        assert f"`{name}`" in PAGE
    for name in (*open_batch(sealed().data).container._metadata, *SUITES):
        assert f"`{name}`" in PAGE
