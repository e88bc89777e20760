"""Change a sealed batch in every way we can think of: verification names the check that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from exchange.seal.batch import verify
from exchange.seal.batch.avro import Ints, parse_schema
from exchange.seal.batch.build import Batch, build, open_batch, pack
from exchange.seal.batch.columns import encode
from exchange.seal.batch.container import Container, compress, pack_lengths
from exchange.seal.batch.prove import Proof, prove
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import verify_batch, verify_proof
from exchange.seal.crypto.suites import SUITES
from exchange.seal.eseal import signature
from exchange.seal.pki.trust import Trust
from tests.seal.samples import FACTS, SEED, packed, sealed, sealers
from tests.support.soak import BITS_OF_A_BATCH, BITS_OF_A_PROOF, bits, sample

TINY = """{"type":"record","name":"tiny","fields":[
{"name":"cd_operation","type":{"type":"enum","name":"Operation","symbols":["I","U","D"]}},
{"name":"n","type":"string"}]}"""


@pytest.fixture(autouse=True)
def _remember_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check an unchanged seal over an unchanged statement once, not for each of the bits."""
    monkeypatch.setattr(verify, "check_signature", cache(signature.check_signature))


def flips(data: bytes, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    changed = bytearray(data)
    for bit in places:
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)
        changed[bit // 8] ^= 1 << bit % 8


def sweep(data: bytes, suite: str, places: Iterable[int]) -> Counter[str]:
    anchors = (sealers(suite)[1],)
    assert verify_batch(data, trust=Trust(anchors)).ok
    first_failed: Counter[str] = Counter()
    for bit, changed in flips(data, places):
        verification = verify_batch(changed, trust=Trust(anchors))
        assert not verification.ok, f"bit {bit} may be flipped"
        first_failed[verification.failed[0].name] += 1
    return first_failed


@pytest.mark.soak
def test_every_byte_of_a_sealed_file_is_bound(tell: Callable[[str], None]) -> None:
    schema = parse_schema(TINY)
    frame = pl.DataFrame({"cd_operation": ["I", "D"], "n": ["一", "b"]})
    (piece,) = pack(encode(frame, schema))
    data = build(piece, FACTS, sealer=sealers("ecdsa-p256-sha256")[0], seed=SEED).data
    places = sample(range(len(data)))
    counts = sweep(data, "ecdsa-p256-sha256", bits(places, BITS_OF_A_BATCH))
    assert counts.total() == len(places) * BITS_OF_A_BATCH.now
    tell(f"tamper: {counts.total()} single-bit flips refused, first by {dict(counts)}")


def test_sampled_bits_of_a_file_sealed_with_sm2_are_bound() -> None:
    data = sealed(3).data
    assert sweep(data, "sm2-sm3", range(0, 8 * len(data), 37)).total() > len(data) // 5


def test_sampled_bits_of_a_large_file_are_bound() -> None:
    batch = build(packed(8192), FACTS, sealer=sealers("ecdsa-p256-sha256")[0], seed=SEED)
    places = range(5, 8 * len(batch.data), len(batch.data) // 5 + 1)
    assert sweep(batch.data, "ecdsa-p256-sha256", places).total() == 40


@pytest.mark.soak
def test_every_byte_of_a_proof_is_bound() -> None:
    proof = prove(sealed(5, "ecdsa-p256-sha256").data, row=2)
    anchors = (sealers("ecdsa-p256-sha256")[1],)
    assert verify_proof(proof, trust=Trust(anchors)).ok
    for bit, changed in flips(proof, bits(sample(range(len(proof))), BITS_OF_A_PROOF)):
        assert not verify_proof(changed, trust=Trust(anchors)).ok, f"bit {bit} may be flipped"


def refill(batch: Batch, order: list[int]) -> Container:
    """Put records into a container in another order, some twice or not at all."""
    records = [batch.record(i) for i in order]
    offsets: Ints = np.cumsum([0, *map(len, records)])
    return replace(
        batch.container,
        lengths=pack_lengths(offsets),
        payload=compress(b"".join(records)),
        rows=len(records),
    )


def names(data: bytes, suite: str = "sm2-sm3") -> list[str]:
    return [check.name for check in verify_batch(data, trust=Trust((sealers(suite)[1],))).failed]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([0, 1, 2, 4, 3], ["payload", "root"]),
        ([0, 1, 3, 4], ["payload", "rows", "operations", "root"]),
        ([0, 1, 2, 3, 3, 4], ["payload", "rows", "operations", "root"]),
        ([0, 1, 2, 3, 3], ["payload", "operations", "root"]),
        ([], ["payload", "rows", "operations", "root"]),
    ],
    ids=["reordered", "dropped", "doubled", "replaced", "emptied"],
)
def test_records_cannot_be_rearranged(order: list[int], expected: list[str]) -> None:
    assert names(refill(open_batch(sealed(5).data), order).to_bytes()) == expected


def test_boundaries_cannot_be_moved() -> None:
    batch = open_batch(sealed(5).data)
    offsets = batch.offsets.copy()
    offsets[2] += 1
    moved = replace(batch.container, lengths=pack_lengths(offsets))
    assert names(moved.to_bytes()) == ["records", "operations", "root"]


def test_a_restated_batch_needs_a_new_seal() -> None:
    batch = open_batch(sealed(5).data)
    statement = replace(batch.statement, rejected=7)
    restated = replace(batch.container, statement=statement.to_bytes())
    assert names(restated.to_bytes()) == ["signature.digest"]
    renamed = replace(batch.statement, batch_no="2026112300002")
    other = replace(batch.container, statement=renamed.to_bytes())
    assert names(other.to_bytes()) == ["signature.digest", "signature.range"]


def test_another_suite_id_is_refused() -> None:
    batch = open_batch(sealed(5).data)

    def with_suite(name: str) -> list[str]:
        statement = replace(batch.statement, suite=name).to_bytes()
        return names(replace(batch.container, statement=statement).to_bytes())

    assert with_suite("ecdsa-p256-sha256") == ["payload", "root", "suite", "signature.digest"]
    assert with_suite("rsa-md5") == ["statement.suite", "payload", "root", "signature"]


def test_another_certificate_is_refused() -> None:
    batch, (other, _) = open_batch(sealed(5).data), sealers(name="别的")
    foreign = build(packed(5), FACTS, sealer=other, seed=SEED)
    assert names(foreign.data) == ["signer.chain", "seal.maker_chain"]
    swapped = replace(batch.container, chain=other.chain)
    assert names(swapped.to_bytes()) == ["signer.chain", "seal.maker_chain", "chain"]
    extended = replace(batch.container, chain=(*batch.container.chain, *other.chain))
    assert names(extended.to_bytes()) == ["chain"]


def test_another_schema_is_refused() -> None:
    container = open_batch(sealed(5).data).container
    renamed = container.schema.replace(b'"secret"', b'"public"')
    assert names(replace(container, schema=renamed).to_bytes()) == ["schema.fingerprint"]
    narrower = container.schema.replace(b'"boolean"', b'"double"')
    assert names(replace(container, schema=narrower).to_bytes()) == [
        "schema.fingerprint",
        "records",
        "operations",
    ]
    assert names(replace(container, schema=b"{}").to_bytes()) == [
        "schema",
        "schema.fingerprint",
        "records",
        "operations",
    ]


def test_another_salt_marker_or_compression_is_refused() -> None:
    container = open_batch(sealed(5).data).container
    assert names(replace(container, salt=bytes(16)).to_bytes()) == ["root"]
    assert names(replace(container, sync=bytes(16)).to_bytes()) == ["sync"]
    again = replace(container, payload=compress(b""))
    assert names(again.to_bytes()) == ["payload", "lengths", "records", "operations", "root"]
    assert names(replace(container, payload=b"").to_bytes()) == [
        "payload",
        "block",
        "lengths",
        "records",
        "operations",
        "root",
    ]


def test_another_spelling_of_the_file_is_refused() -> None:
    data = sealed(5).data
    container = Container.from_bytes(data)
    assert data[4:5] == b"\x0e"  # the number of metadata entries, 7
    assert names(data[:4] + b"\x8e\x00" + data[5:]) == ["container"]
    assert names(data + b"\0")[0] == "container"
    entry = b"\x14avro.codec\x12zstandard"
    without = data.replace(entry, b"", 1)
    end = without.index(b"\0" + container.sync)
    assert names(without[:end] + entry + without[end:]) == ["container"]
    assert names(without)[0] == "container"
    statement = container.statement
    spaced = replace(container, statement=statement.replace(b":", b": ", 1))
    assert names(spaced.to_bytes())[0] == "statement"
    with pytest.raises(ValueError, match="canonical"):
        Statement.from_bytes(spaced.statement)


@pytest.mark.parametrize("suite", SUITES)
def test_a_proof_holds_for_its_record_only(suite: str) -> None:
    data = sealed(5, suite).data
    anchors = (sealers(suite)[1],)
    good, other = (Proof.from_bytes(prove(data, row=row)) for row in (2, 3))

    def failed(proof: Proof) -> list[str]:
        return [check.name for check in verify_proof(proof.to_bytes(), trust=Trust(anchors)).failed]

    assert failed(good) == []
    assert failed(replace(good, record=other.record)) == ["root"]
    assert failed(replace(good, salt=other.salt)) == ["root"]
    assert failed(replace(good, salt=b"")) == ["root"]
    assert failed(replace(good, index=2)) == ["root"]
    assert failed(replace(good, index=7)) == ["root"]
    assert failed(replace(good, path=good.path[:-1])) == ["root"]
    assert failed(replace(good, path=(*good.path, good.path[0]))) == ["root"]
    assert failed(replace(good, size=4)) == ["size", "root"]
    assert failed(replace(good, record=good.record + b"\0")) == ["record", "root"]
    assert failed(replace(good, schema=good.schema.replace('"lng"', '"lat"'))) == [
        "schema.fingerprint"
    ]
