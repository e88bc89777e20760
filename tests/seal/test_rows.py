"""The walk without numpy says what the one with numpy says, of every batch and of every fault."""

from __future__ import annotations

import contextlib
import json
import struct
from array import array
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.seal.batch import avro, rows
from exchange.seal.batch.avro import Malformed, Schema
from exchange.seal.batch.columns import encode
from exchange.text import BEIJING
from tests.seal.tables import (
    BYTES,
    EXAMPLE,
    Row,
    by_fastavro,
    decimal,
    frame_of,
    read_by_fastavro,
    schema_of,
    tables,
)


def told(way: Any, data: bytes, offsets: Any, schema: Schema) -> object:
    """Return what a walk finds: operations and where each field stands, or the fault."""
    try:
        counts = way.count(data, offsets, schema)
        cells = list(way.walk(data, offsets, schema))
    except Malformed as error:
        return error.row, error.field, error.reason
    return counts, [(cell.column.name, list(cell.start), list(cell.end)) for cell in cells]


@settings(max_examples=300)
@given(tables(), st.data())
def test_both_walks_say_the_same(table: tuple[Schema, list[Row]], data: st.DataObject) -> None:
    schema, records = table
    encoded = encode(frame_of(schema, records), schema)
    content, offsets = bytearray(encoded.data), encoded.offsets.tolist()
    assert told(rows, bytes(content), offsets, schema) == told(
        avro, bytes(content), encoded.offsets, schema
    )
    # One record broken: the same record, field and reason. Broken boundaries: both refuse.
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    assert told(rows, bytes(content), array("q", offsets), schema) == told(
        avro, bytes(content), encoded.offsets, schema
    )
    moved = sorted([*offsets[1:-1], data.draw(st.integers(0, len(content)))])[: len(offsets) - 2]
    offsets = [0, *moved, len(content)]
    verdicts = [
        isinstance(told(way, bytes(content), item, schema)[0], list)  # type: ignore[index]
        for way, item in ((rows, offsets), (avro, np.array(offsets)))
    ]
    assert verdicts[0] == verdicts[1]


def shown(value: object) -> str:
    """Write a value as people read it: a moment in Beijing time, where the calendar has it."""
    with contextlib.suppress(OverflowError):
        if isinstance(value, datetime):
            return str(value.astimezone(BEIJING))
    return str(value)


@settings(max_examples=200)
@given(tables())
def test_a_record_is_read_as_fastavro_reads_it(table: tuple[Schema, list[Row]]) -> None:
    schema, records = table
    for row in records:
        data = by_fastavro(schema, row)
        expected = {
            name: value if value is None or isinstance(value, str | int) else shown(value)
            for name, value in read_by_fastavro(schema, data).items()
        }
        record = rows.read_record(data, schema)
        assert record == expected
        start = 0
        for cells in rows.walk(data, (0, len(data)), schema):
            name = cells.column.name
            value = record[name]
            if value is not None:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                assert rows.write_value(cells.column, text) == data[start : cells.end[0]]
            start = cells.end[0]


@pytest.mark.parametrize(
    ("declared", "texts"),
    [
        (decimal(5, 2), ["1.005", "1000", "x", "NaN", "Infinity", "1E+99999999", ""]),
        ("long", ["9223372036854775808", "1.5", ""]),
        ("boolean", ["True", "1"]),
        ("double", ["one"]),
        ({"type": "int", "logicalType": "date"}, ["2026-02-30", "today"]),
        ({"type": "long", "logicalType": "timestamp-millis"}, ["yesterday"]),
    ],
)
def test_a_text_that_is_no_value_of_the_field(declared: object, texts: list[str]) -> None:
    column = schema_of({"a": declared}).columns[1]
    for text in texts:
        with pytest.raises(ValueError):  # noqa: PT011
            rows.write_value(column, text)


def test_one_value_has_several_texts() -> None:
    column = schema_of({"a": decimal(5, 2)}).columns[1]
    assert len({rows.write_value(column, text) for text in ("1.5", "1.50", "1.500", "15E-1")}) == 1
    assert rows.write_value(column, "100.00") == rows.write_value(column, "1E2")


@given(st.lists(st.integers(0, 0x10FFFF - 0x800), max_size=20))
def test_lengths_add_up_alike(lengths: list[int]) -> None:
    points = [length + (length >= 0xD800) * 0x800 for length in lengths]
    data = struct.pack(f"<{len(points)}I", *points)
    assert rows.add_up(data).tolist() == avro.add_up(data).tolist()


def test_an_example() -> None:
    record = rows.read_record(BYTES, EXAMPLE)
    assert json.dumps(record, ensure_ascii=False) == (
        '{"cd_operation": "U", "name": "大兴安岭", "n": 300, "ok": true, "d": "-1.28", '
        '"on": "2026-11-23"}'
    )
