from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import datetime

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.seal.batch import container
from exchange.seal.batch.build import MAX_BYTES, MAX_ROWS, build, open_batch, pack
from exchange.seal.batch.columns import decode, encode
from exchange.seal.batch.container import Container, pack_lengths, unpack_lengths
from exchange.seal.crypto.suites import SUITES
from tests.seal.samples import FACTS, NOW, SCHEMA, SEED, frame, packed, rows, sealed, sealers


@pytest.mark.parametrize("suite", SUITES)
def test_plain_fastavro_opens_a_sealed_file(suite: str) -> None:
    reader = fastavro.reader(io.BytesIO(sealed(20, suite).data))
    assert list(reader) == rows(20)
    assert reader.codec == "zstandard"
    assert list(reader.metadata) == [
        "avro.schema",
        "avro.codec",
        "exchange.statement",
        "exchange.seal",
        "exchange.chain",
        "exchange.salt",
        "exchange.lengths",
    ]
    assert reader.metadata["exchange.statement"].encode() == sealed(20, suite).statement.to_bytes()


def test_a_batch_opens_to_the_frame_it_was_made_from() -> None:
    batch = open_batch(sealed(20).data)
    assert decode(batch.records, batch.offsets, batch.schema).equals(frame(20))
    assert (batch.rows, batch.schema, batch.statement) == (20, SCHEMA, sealed(20).statement)
    assert batch.record(3) == encode(frame(20)[3:4], SCHEMA).data


def test_the_statement_says_what_was_sealed() -> None:
    statement = sealed(20).statement
    assert (statement.rows, statement.inserts, statement.updates, statement.deletes) == (
        20,
        10,
        5,
        5,
    )
    assert statement.pulled_at == "2026-11-23T01:02:03.004Z"
    assert statement.sealed_at == "2026-11-23T01:02:04.004Z"
    assert statement.schema == SCHEMA.fingerprint
    digest = SUITES["sm2-sm3"].digest(statement.to_bytes()).hex()
    assert sealed(20).digest == statement.digest == digest


def test_equal_input_gives_an_equal_statement() -> None:
    again = build(packed(20), FACTS, sealer=sealers()[0], seed=SEED)
    assert again.statement == sealed(20).statement
    other = build(packed(20), FACTS, sealer=sealers()[0], seed=bytes(16))
    assert other.statement.root != again.statement.root


def test_records_are_cut_into_batches_in_order() -> None:
    encoded = encode(frame(20_000), SCHEMA)
    pieces = list(pack(encoded))
    assert [piece.records.rows for piece in pieces] == [MAX_ROWS, MAX_ROWS, 20_000 - 2 * MAX_ROWS]
    assert b"".join(bytes(piece.records.data) for piece in pieces) == encoded.data
    sealer, _ = sealers()
    for piece in pieces:
        assert len(build(piece, FACTS, sealer=sealer, seed=SEED).data) < MAX_BYTES


def test_a_batch_too_large_is_halved_and_a_record_too_large_refused() -> None:
    noise = [os.urandom(300).hex() for _ in range(8)]
    encoded = encode(frame(8).with_columns(name=pl.Series(noise)), SCHEMA)
    room = 64 * 1024 + len(SCHEMA.text)
    assert [piece.records.rows for piece in pack(encoded, max_bytes=room + 1000)] == [2, 2, 2, 2]
    with pytest.raises(Rejected, match="does not fit"):
        list(pack(encoded, max_bytes=room + 100))
    long = encode(frame(2).with_columns(name=pl.lit("长" * 400_000)), SCHEMA)
    with pytest.raises(Rejected, match="does not fit"):
        list(pack(long))


def test_facts_that_no_statement_can_hold_are_refused() -> None:
    for facts in (
        replace(FACTS, batch_no="1"),
        replace(FACTS, department="x"),
        replace(FACTS, lane=-1),
        replace(FACTS, pulled_at=datetime(2026, 1, 1)),  # noqa: DTZ001
        replace(FACTS, source="\ud800"),
    ):
        with pytest.raises(Rejected, match="no statement"):
            build(packed(3), facts, sealer=sealers()[0], seed=SEED)
    with pytest.raises(Misconfigured):
        build(
            packed(3),
            replace(FACTS, sealed_at=NOW.replace(year=2036)),
            sealer=sealers()[0],
            seed=SEED,
        )


@given(st.lists(st.integers(1, 200) | st.integers(55_000, 70_000), min_size=1, max_size=20))
def test_lengths_round_trip(lengths: list[int]) -> None:
    offsets = np.cumsum([0, *lengths])
    text = pack_lengths(offsets)
    points = [length + 0x800 * (length >= 0xD800) for length in lengths]
    assert text.decode() == "".join(map(chr, points))
    unpacked = unpack_lengths(text, rows=len(lengths), size=sum(lengths))
    assert unpacked.tolist() == offsets.tolist()
    for wrong in (
        {"rows": len(lengths) + 1, "size": sum(lengths)},
        {"rows": len(lengths), "size": sum(lengths) + 1},
    ):
        with pytest.raises(ValueError, match="records"):
            unpack_lengths(text, **wrong)


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = container.compress(bytes(1_000_000))
    monkeypatch.setattr(container, "MAX_RECORDS", 999_999)
    with pytest.raises(ValueError, match="more than"):
        container.decompress(bomb)
    monkeypatch.setattr(container, "MAX_RECORDS", 1_000_000)
    assert container.decompress(bomb) == bytes(1_000_000)
    for bad in (b"", bomb[:-1], bomb + b"\0", bomb + bomb, b"x" + bomb):
        with pytest.raises(ValueError):  # noqa: PT011
            container.decompress(bad)


@settings(max_examples=300)
@given(st.data())
def test_what_reads_as_a_container_is_at_least_its_parts(data: st.DataObject) -> None:
    """Cut, glue and change a file: it is refused, or its parts are what was put in."""
    good = sealed().data
    at = data.draw(st.integers(0, len(good)))
    to = data.draw(st.integers(0, len(good)))
    changed = good[:at] + data.draw(st.binary(max_size=4)) + good[to:]
    try:
        open_batch(changed)
    except Integrity:
        return
    assert Container.from_bytes(changed).rows == 3


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_batch(data: bytes) -> None:
    for item in (data, container.MAGIC + data, container.MAGIC + b"\x0e" + data):
        with pytest.raises(Integrity):
            open_batch(item)


def test_a_file_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_FILE", 100)
    with pytest.raises(Integrity, match="more than 100"):
        open_batch(sealed().data)
