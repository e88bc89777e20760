"""Tables of every type, as frames and as what fastavro writes."""

from __future__ import annotations

import io
import json
from datetime import UTC
from decimal import Decimal
from typing import Any, TypeAlias

import fastavro
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

from exchange.seal.batch.avro import Schema, parse_schema
from exchange.seal.batch.columns import frame_schema

Row: TypeAlias = "dict[str, Any]"


OPERATION = {
    "name": "cd_operation",
    "type": {"type": "enum", "name": "Operation", "symbols": ["I", "U", "D"]},
}


def schema_of(types: dict[str, Any]) -> Schema:
    fields = [OPERATION, *({"name": name, "type": type_} for name, type_ in types.items())]
    record = {"type": "record", "name": "example", "namespace": "exchange", "fields": fields}
    return parse_schema(json.dumps(record))


def decimal(precision: int, scale: int) -> dict[str, object]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


DATE = {"type": "int", "logicalType": "date"}


TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}


LONG = st.integers(-(2**63), 2**63 - 1)


@st.composite
def decimals(draw: st.DrawFn) -> tuple[object, st.SearchStrategy[object]]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    most = 10**precision - 1
    edges = [sign * (2**bits + by) for bits in range(128) for by in (-1, 0, 1) for sign in (-1, 1)]
    inside = st.sampled_from([edge for edge in edges if abs(edge) <= most])
    numbers = inside | st.integers(-most, most)

    def exact(number: int) -> Decimal:  # never through arithmetic, which would round
        digits = tuple(map(int, str(abs(number))))
        return Decimal((int(number < 0), digits, -scale))

    return decimal(precision, scale), numbers.map(exact)


TYPES: st.SearchStrategy[tuple[object, st.SearchStrategy[Any]]] = st.one_of(
    st.just(("string", st.text(max_size=5) | st.text("中文a", min_size=60, max_size=70))),
    st.just(("string", st.integers(0, 9000).map(lambda n: "x" * n))),
    st.just(("long", LONG | st.integers(-70, 70))),
    st.just(("boolean", st.booleans())),
    st.just(("double", st.floats(allow_nan=False))),
    st.just((DATE, st.dates())),
    st.just(
        (
            TIMESTAMP,
            st.datetimes(timezones=st.just(UTC)).map(
                lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
            ),
        )
    ),
    decimals(),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Schema, list[Row]]:
    types: dict[str, Any] = {}
    values: dict[str, st.SearchStrategy[Any]] = {"cd_operation": st.sampled_from("IUD")}
    for i in range(draw(st.integers(0, 6))):
        declared, value = draw(TYPES)
        if draw(st.booleans()):
            declared, value = ["null", declared], st.none() | value
        types[f"f{i}"], values[f"f{i}"] = declared, value
    rows = draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=8))
    return schema_of(types), rows


def frame_of(schema: Schema, rows: list[Row]) -> pl.DataFrame:
    columns = {}
    for name, dtype in frame_schema(schema).items():
        values: Any = [row[name] for row in rows]
        if isinstance(dtype, pl.Decimal):  # polars itself refuses 38 digits from Python
            values = pa.array(values, pa.decimal128(dtype.precision, dtype.scale))
        columns[name] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns)


def by_fastavro(schema: Schema, row: Row) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, json.loads(schema.text), row)
    return buffer.getvalue()


def read_by_fastavro(schema: Schema, record: bytes) -> Any:
    buffer = io.BytesIO(record)
    row = fastavro.schemaless_reader(buffer, json.loads(schema.text), None)
    assert buffer.tell() == len(record)
    return row


EXAMPLE = schema_of(
    {"name": "string", "n": ["null", "long"], "ok": "boolean", "d": decimal(5, 2), "on": DATE}
)


BYTES = bytes.fromhex("02 18e5a4a7e585b4e5ae89e5b2ad 02d804 01 04ff80 d8c402")
