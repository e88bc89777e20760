"""The messages of the wire format: bytes cut out of records, compared with what fastavro writes."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import Rejected
from exchange.publish.wire_format import Records, cut_records, key_schema
from exchange.seal.batch.avro import Malformed, Schema
from exchange.seal.batch.columns import encode
from tests.seal.samples import SCHEMA
from tests.seal.samples import frame as sample
from tests.seal.tables import by_fastavro, frame_of, schema_of, tables

Row = dict[str, Any]


def made(schema: Schema, rows: list[Row], key: tuple[str, ...]) -> Records:
    encoded = encode(frame_of(schema, rows), schema)
    data = bytes(encoded.data)
    return cut_records(data, encoded.offsets, schema, key, key_id=7, value_id=2**31 - 1)


def written(schema: str, row: Row) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, json.loads(schema), row)
    return buffer.getvalue()


@settings(max_examples=200)
@given(tables().filter(lambda table: len(table[0].columns) > 1), st.data())
def test_keys_and_values_are_those_of_fastavro(
    table: tuple[Schema, list[Row]], data: st.DataObject
) -> None:
    schema, rows = table
    fields = st.sampled_from([column.name for column in schema.columns])
    key = tuple(data.draw(st.lists(fields, min_size=1, unique=True)))
    records = made(schema, rows, key)
    keys = [{name: row[name] for name in key} for row in rows]
    text = key_schema(schema.text, key)
    assert records.keys == [b"\x00\x00\x00\x00\x07" + written(text, item) for item in keys]
    assert records.values == [
        None if row["cd_operation"] == "D" else b"\x00\x7f\xff\xff\xff" + by_fastavro(schema, row)
        for row in rows
    ]


def test_the_key_is_a_record_of_the_key_fields_in_the_key_s_order() -> None:
    schema = json.loads(key_schema(SCHEMA.text, ("called_at", "order_no")))
    assert schema["type"] == "record"
    assert (schema["namespace"], schema["name"]) == ("exchange", "hotline_order_key")
    assert schema["fields"] == [
        {"name": "called_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "order_no", "type": "string"},
    ]
    fastavro.parse_schema(schema)


def test_a_key_field_that_a_batch_does_not_have_is_told() -> None:
    with pytest.raises(Rejected) as caught:
        key_schema(SCHEMA.text, ("order_no", "serial"))
    assert "serial" in caught.value.what.en
    assert "order_no" not in caught.value.what.en


def test_only_a_delete_is_a_tombstone() -> None:
    rows = [
        {"cd_operation": operation, "no": str(place)} for place, operation in enumerate("IUDDUI")
    ]
    records = made(schema_of({"no": "string"}), rows, ("no",))
    assert [value is None for value in records.values] == [
        row["cd_operation"] == "D" for row in rows
    ]
    assert len(set(records.keys)) == len(rows)


def test_bytes_that_are_no_records_are_refused() -> None:
    encoded = encode(sample(3), SCHEMA)
    data = bytearray(encoded.data)
    data[1] = 0xFF  # the length of the first record's order_no
    with pytest.raises(Malformed):
        cut_records(bytes(data), encoded.offsets, SCHEMA, ("order_no",), key_id=1, value_id=2)


def test_no_records_are_no_messages() -> None:
    records = cut_records(b"", np.zeros(1, np.int64), SCHEMA, ("order_no",), key_id=1, value_id=2)
    assert (records.keys, records.values) == ([], [])
