"""Records as messages of the Confluent wire format, cut out of a sealed batch.

::

    byte 0      0x00
    bytes 1–4   number of the schema in the registry, big-endian
    the rest    the record, Avro binary

Nothing is encoded anew. A value is the record as it was sealed. A key is an Avro record of the
key fields alone, and the Avro form of a record is that of its fields end to end: so the key's
bytes are cut out of the record, too.

Source: Confluent documentation, "Formats, Serializers, and Deserializers", "Wire format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import numpy as np

from exchange.catalog.canonical import canonical
from exchange.errors import Rejected
from exchange.seal.batch.avro import OPERATIONS, Ints, Schema, walk
from exchange.text import Text

_DELETE = OPERATIONS.index("D") << 1
"""The first byte of a record that means a delete: the operation's index, zigzag."""


@dataclass(frozen=True, slots=True)
class Records:
    """Keys and values of the same length; a value of None is a tombstone (删除标记)."""

    keys: list[bytes]
    values: list[bytes | None]


@lru_cache(maxsize=256)
def key_schema(schema: str, key: tuple[str, ...]) -> str:
    """Make the key's schema out of the record's: the key fields in the key's order.

    Raises Rejected when the record has no such field.
    """
    record = json.loads(schema)
    fields = {field["name"]: field for field in record["fields"]}
    if missing := [name for name in key if name not in fields]:
        raise Rejected(
            Text(
                f"批次的模式中没有主键字段 {'、'.join(missing)}",
                f"the batch's schema lacks the key fields {', '.join(missing)}",
            ),
            hint=Text(
                "主键已变更：旧批次按旧主键封签，不能按新主键发布",
                "the key has changed since it was sealed: it cannot be published by the new one",
            ),
        )
    result = {
        "type": "record",
        "name": f"{record['name']}_key",
        "fields": [{"name": name, "type": fields[name]["type"]} for name in key],
    }
    if "namespace" in record:
        result["namespace"] = record["namespace"]
    return canonical(result)


def cut_records(
    data: bytes,
    offsets: Ints,
    schema: Schema,
    key: Sequence[str],
    *,
    key_id: int,
    value_id: int,
) -> Records:
    """Cut records into messages; ``offsets`` are their n + 1 boundaries.

    ``key_id`` and ``value_id`` are the registry's numbers of the two schemas. Raises Malformed
    (a ValueError) when the records are not what their schema says.
    """
    heads = [repeat(b"\x00" + number.to_bytes(4, "big")) for number in (key_id, value_id)]
    pieces = [_slices(data, *edges) for edges in _key_edges(data, offsets, schema, key)]
    keys = list(map(b"".join, zip(heads[0], *pieces, strict=False)))
    records = _slices(data, offsets[:-1], offsets[1:])
    values: list[bytes | None] = list(map(b"".join, zip(heads[1], records, strict=False)))
    operations = np.frombuffer(data, np.uint8)[offsets[:-1]]
    for place in np.flatnonzero(operations == _DELETE).tolist():
        values[place] = None
    return Records(keys, values)


def _slices(data: bytes, starts: Ints, ends: Ints) -> Iterator[bytes]:
    return (data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True))


def _key_edges(
    data: bytes, offsets: Ints, schema: Schema, key: Sequence[str]
) -> list[tuple[Ints, Ints]]:
    """Find where each key field begins and ends in all records, with what precedes its value."""
    edges: dict[str, tuple[Ints, Ints]] = {}
    before = offsets[:-1]
    for cells in walk(data, offsets, schema):
        if cells.column.name in key:
            edges[cells.column.name] = before, cells.end
        before = cells.end
        if len(edges) == len(key):
            break
    return [edges[name] for name in key]
