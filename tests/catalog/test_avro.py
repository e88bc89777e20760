"""Avro schemas: what fastavro makes of them."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import fastavro

from exchange.catalog.avro import avro_schema, schema_text
from exchange.catalog.loader import loads
from exchange.catalog.model import Catalog
from tests.catalog.conftest import SMALL


def test_the_order_and_the_types_of_the_fields() -> None:
    fields = avro_schema(loads(SMALL).resources["people"])["fields"]
    assert isinstance(fields, list)
    types = {field["name"]: field["type"] for field in fields}
    assert [field["name"] for field in fields][:3] == ["cd_operation", "a_name", "a_id_no"]
    assert types["cd_operation"] == {
        "type": "enum",
        "name": "Operation",
        "symbols": ["I", "U", "D"],
    }
    assert types["a_name"] == "string"
    assert types["a_id_no"] == ["null", "string"]
    assert types["count"] == ["null", "long"]
    assert types["ok"] == ["null", "boolean"]
    assert types["born"] == ["null", {"type": "int", "logicalType": "date"}]
    assert types["seen"] == ["null", {"type": "long", "logicalType": "timestamp-millis"}]
    assert types["money"] == [
        "null",
        {"type": "bytes", "logicalType": "decimal", "precision": 16, "scale": 6},
    ]


def test_a_record_goes_through_fastavro_unchanged() -> None:
    schema = fastavro.parse_schema(avro_schema(loads(SMALL).resources["people"]))
    record = {
        "cd_operation": "I",
        "a_name": "张三",
        "a_id_no": None,
        "a_kind": "个人",
        "code": "0000000001",
        "sex": "1",
        "born": date(1990, 1, 1),
        "note": None,
        "money": Decimal("0.200000"),
        "seen": datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC),
        "count": 3,
        "ok": True,
    }
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, record)
    buffer.seek(0)
    assert fastavro.schemaless_reader(buffer, schema, None) == record


def test_the_example_has_schemas_that_parse(example: Catalog) -> None:
    for resource in example.resources.values():
        fastavro.parse_schema(avro_schema(resource))
        assert schema_text(resource).startswith('{"fields":[{"name":"cd_operation"')
