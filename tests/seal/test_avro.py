from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Rejected
from exchange.seal.batch.avro import Kind, Malformed, Schema, parse_schema, walk
from exchange.seal.batch.columns import Encoded, decode, encode
from tests.seal.tables import (
    BYTES,
    EXAMPLE,
    OPERATION,
    TIMESTAMP,
    Row,
    by_fastavro,
    decimal,
    frame_of,
    read_by_fastavro,
    schema_of,
    tables,
)


def records(encoded: Encoded) -> list[bytes]:
    return [encoded.slice(i, i + 1).data.tobytes() for i in range(encoded.rows)]


@settings(max_examples=300)
@given(tables())
def test_the_bytes_are_those_of_fastavro_both_ways(table: tuple[Schema, list[Row]]) -> None:
    schema, rows = table
    frame = frame_of(schema, rows)
    encoded = encode(frame, schema)
    expected = [by_fastavro(schema, row) for row in rows]
    assert records(encoded) == expected
    assert [read_by_fastavro(schema, record) for record in records(encoded)] == rows
    back = decode(bytes(encoded.data), encoded.offsets, schema)
    assert back.equals(frame)
    assert back.schema == frame.schema
    counts = [sum(row["cd_operation"] == item for row in rows) for item in "IUD"]
    assert list(encoded.operations) == counts


@given(tables(), st.data())
def test_slices_of_frames_and_of_records_agree(
    table: tuple[Schema, list[Row]], data: st.DataObject
) -> None:
    schema, rows = table
    frame = pl.concat([frame_of(schema, rows), frame_of(schema, rows)], rechunk=False)
    start = data.draw(st.integers(0, frame.height - 1))
    end = data.draw(st.integers(start, frame.height))
    part = encode(frame[start:end], schema)
    same = encode(frame, schema).slice(start, end)
    assert part.data == same.data
    assert part.offsets.tolist() == same.offsets.tolist()
    assert part.operations == same.operations


@settings(max_examples=400)
@given(tables(), st.data())
def test_what_the_walk_accepts_is_what_fastavro_would_write(
    table: tuple[Schema, list[Row]], data: st.DataObject
) -> None:
    """Change a byte or a boundary: either the walk objects, or it is another valid batch."""
    schema, rows = table
    encoded = encode(frame_of(schema, rows), schema)
    content = bytearray(encoded.data)
    offsets = encoded.offsets.copy()
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        inner = data.draw(st.integers(0, len(content)))
        offsets[data.draw(st.integers(0, len(offsets) - 1))] = inner
        offsets.sort()
        offsets[0], offsets[-1] = 0, len(content)
    try:
        for _ in walk(bytes(content), offsets, schema):
            pass
    except Malformed as error:
        assert 0 <= error.row < len(rows)  # noqa: PT017
        return
    for start, end in pairwise(offsets.tolist()):
        record = bytes(content[start:end])
        row = read_by_fastavro(schema, record)
        if all(value == value for value in row.values()):  # noqa: PLR0124 - NaN payloads
            assert by_fastavro(schema, row) == record


ROW: Row = {
    "cd_operation": "U",
    "name": "大兴安岭",
    "n": 300,
    "ok": True,
    "d": Decimal("-1.28"),
    "on": date(2026, 11, 23),
}


def test_an_example_to_the_byte() -> None:
    assert by_fastavro(EXAMPLE, ROW) == BYTES
    assert encode(frame_of(EXAMPLE, [ROW]), EXAMPLE).data == BYTES


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        ("06 00 00 00 0200 00", "cd_operation", "out of range"),
        ("01 00 00 00 0200 00", "cd_operation", "out of range"),
        ("02 20ff 00 00 0200 00", "name", "length exceeds"),
        ("02 01 00 00 0200 00", "name", "length exceeds"),
        ("02 02ff 00 00 0200 00", "name", "not UTF-8"),
        ("02 8000 00 00 0200 00", "name", "shortest form"),
        ("02 00 04 00 0200 00", "n", "branch of the union"),
        ("02 00 028000 00 0200 00", "n", "shortest form"),
        ("02 00 02ffffffffffffffffff02 00 0200 00", "n", "64 bits"),
        ("02 00 02ffffffffffffffffff81 00 0200 00", "n", "64 bits"),
        ("02 00 00 02 0200 00", "ok", "out of range"),
        ("02 00 00 00 00 00", "d", "such a length"),
        ("02 00 00 00 22" + "01" * 17 + "00", "d", "such a length"),
        ("02 00 00 00 040000 00", "d", "shortest form"),
        ("02 00 00 00 0280 00", "d", "shortest form"),
        ("02 00 00 00 060186a0 00", "d", "precision"),
        ("02 00 00 00 0200 ffffffff0f", "on", "out of range"),
        ("02 00 00 00 0200", "on", "past the end"),
        ("02 00 00 00 0200 00 00", "on", "left over"),
    ],
)
def test_each_fault_is_named(bad: str, field: str, reason: str) -> None:
    record = bytes.fromhex(bad)
    with pytest.raises(Malformed) as caught:
        list(walk(BYTES + record, np.cumsum([0, len(BYTES), len(record)]), EXAMPLE))
    assert (caught.value.row, caught.value.field) == (1, field)
    assert reason in caught.value.reason


def test_texts_that_are_utf8_only_together_are_refused() -> None:
    schema = schema_of({"a": "string", "b": "string"})
    record = bytes.fromhex("00 02e4 04b8ad")  # 中 cut in two
    with pytest.raises(Malformed, match="UTF-8"):
        list(walk(record, np.array([0, len(record)]), schema))


def test_only_validated_frames_are_encoded() -> None:
    frame = frame_of(EXAMPLE, [ROW])
    late = pl.Series("on", [2_932_897]).cast(pl.Int32).cast(pl.Date)
    for bad, why in (
        (frame.drop("n"), "columns"),
        (frame.with_columns(n=pl.lit("1")), "Int64"),
        (frame.with_columns(name=pl.lit(None, pl.String)), "missing"),
        (frame.with_columns(cd_operation=pl.lit("X")), "I, U or D"),
        (frame.with_columns(cd_operation=pl.lit(None, pl.String)), "missing"),
        (frame.with_columns(late), "out of range"),
    ):
        with pytest.raises(Rejected, match=why):
            encode(bad, EXAMPLE)
    same = frame.with_columns(pl.col("cd_operation").cast(pl.String))
    assert encode(same, EXAMPLE).data == BYTES


def test_no_rows() -> None:
    encoded = encode(frame_of(EXAMPLE, []), EXAMPLE)
    assert (encoded.rows, len(encoded.data), encoded.operations) == (0, 0, (0, 0, 0))
    assert decode(b"", encoded.offsets, EXAMPLE).equals(frame_of(EXAMPLE, []))


def test_wide_and_extreme_values_in_one_batch() -> None:
    schema = schema_of({"d": decimal(38, 0), "t": TIMESTAMP, "s": ["null", "string"]})
    rows: list[Row] = [
        {
            "cd_operation": "I",
            "d": Decimal(("-" if i % 2 else "") + "9" * (i % 38 + 1)),
            "t": datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=365 * i),
            "s": "长" * (i * 30) if i % 3 else None,
        }
        for i in range(1000)
    ]
    encoded = encode(frame_of(schema, rows), schema)
    assert records(encoded) == [by_fastavro(schema, row) for row in rows]
    assert decode(bytes(encoded.data), encoded.offsets, schema).equals(frame_of(schema, rows))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[" * 100_000,
        '"string"',
        '{"type":"record"}',
        '{"type":"record","fields":[]}',
        '{"type":"record","fields":[1]}',
        '{"type":"record","fields":[{"name":"a","type":"string"}]}',
        " " * 600_000,
        '{"a":"\\ud800","b":"\ud800"}',
        EXAMPLE.text.replace('"record"', '"record", "aliases": []'),
        EXAMPLE.text.replace('"record"', '"record", "doc": 1'),
        EXAMPLE.text.replace('"example"', '"an example"'),
        EXAMPLE.text.replace('"exchange"', "7"),
        EXAMPLE.text.replace('"name": "n",', '"name": "n", "default": 1,'),
        EXAMPLE.text.replace('"name": "ok",', '"name": "ok", "default": null,'),
    ],
)
def test_other_documents_are_no_schema(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_schema(text)


@pytest.mark.parametrize(
    "declared",
    [
        "int",
        "bytes",
        "null",
        ["string", "null"],
        ["null", "string", "long"],
        ["null", OPERATION["type"]],
        OPERATION["type"],
        decimal(39, 0),
        decimal(3, 4),
        {"type": "array", "items": "string"},
        7,
        None,
    ],
)
def test_other_types_are_refused(declared: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        schema_of({"a": declared})


def test_a_name_twice_or_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a name"):
        schema_of({"a b": "string"})
    twice = [OPERATION, {"name": "a", "type": "string"}, {"name": "a", "type": "string"}]
    with pytest.raises(ValueError, match="one name"):
        parse_schema(json.dumps({"type": "record", "name": "x", "fields": twice}))


def test_schema_facts() -> None:
    assert EXAMPLE.columns[0].kind is Kind.OPERATION
    assert EXAMPLE.fingerprint.startswith("sm3:")
    assert parse_schema(EXAMPLE.text) is parse_schema(EXAMPLE.text)
