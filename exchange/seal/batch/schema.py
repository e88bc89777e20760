"""The Avro schema of a resource, as the catalog generates it, and what it says of each field.

Source: Apache Avro 1.12 specification, "Schema declaration" and "Logical types".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

OPERATION = "cd_operation"
OPERATIONS = ("I", "U", "D")
"""操作类型: insert, update, delete; the first field of every record."""

MAX_SCHEMA = 512 * 1024
MAX_PRECISION = 38

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Kind(StrEnum):
    """How a field is written."""

    OPERATION = "enum"
    STRING = "string"
    LONG = "long"
    DECIMAL = "decimal"
    DATE = "date"
    TIMESTAMP = "timestamp-millis"
    BOOLEAN = "boolean"
    DOUBLE = "double"


RANGES = {
    Kind.LONG: (-(2**63), 2**63 - 1),
    Kind.DATE: (-719_162, 2_932_896),  # days from 1970-01-01 to 0001-01-01 and 9999-12-31
    Kind.TIMESTAMP: (-62_135_596_800_000, 253_402_300_799_999),  # the same years in ms
}
"""Smallest and largest value of the kinds written as variable-length integers."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field: its name, how it is written, whether it is ``["null", T]``."""

    name: str
    kind: Kind
    nullable: bool = False
    precision: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Schema:
    """A record schema as text, and what it says: the columns in order."""

    text: str
    columns: tuple[Column, ...]

    @property
    def fingerprint(self) -> str:
        """SM3 of the text: ``sm3:<hex>``."""
        return "sm3:" + hashlib.new("sm3", self.text.encode()).hexdigest()


@lru_cache(maxsize=256)
def parse_schema(text: str) -> Schema:
    """Read the schema of a resource; raises ValueError for one that no catalog generates.

    Attributes beyond the usual ones are refused too, so that any reader of Avro takes what is
    taken here.
    """
    if len(text) > MAX_SCHEMA:
        raise ValueError(f"a schema of more than {MAX_SCHEMA} characters")
    try:
        record = json.loads(text)
        text.encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    match record:
        case {"type": "record", "name": str(name), "fields": [*fields]}:
            _check_attributes(record, {"type", "name", "namespace", "doc", "fields"})
            _check_name(name)
            _check_name(record.get("namespace", "exchange"))
        case _:
            raise ValueError("not a record schema")
    columns = tuple(_column(field) for field in fields)
    if len({column.name for column in columns}) != len(columns):
        raise ValueError("two fields have one name")
    operations = [column.name for column in columns if column.kind is Kind.OPERATION]
    if operations != [OPERATION] or columns[0].name != OPERATION:
        raise ValueError(f"the first field, and no other, is the enum {OPERATION}")
    return Schema(text, columns)


def _check_attributes(declared: dict[Any, Any], known: set[str]) -> None:
    if unknown := declared.keys() - known:
        raise ValueError(f"unknown attributes: {', '.join(sorted(unknown))[:200]}")
    if not isinstance(declared.get("doc", ""), str):
        raise ValueError("doc is text")  # noqa: TRY004


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"not a name: {str(name)[:80]!r}")


def _column(field: object) -> Column:
    match field:
        case {"name": str(name), "type": ["null", declared], **rest}:
            nullable = True
        case {"name": str(name), "type": declared, **rest}:
            nullable = False
        case _:
            raise ValueError("a field has a name and a type")
    _check_attributes(rest, {"doc", "default"} if nullable else {"doc"})
    _check_name(name)
    if rest.get("default") is not None:
        raise ValueError(f"field {name}: the only default is null")
    kind, precision, scale = _kind(declared)
    if kind is None or (nullable and kind is Kind.OPERATION):
        raise ValueError(f"field {name}: unsupported type {str(declared)[:80]!r}")
    return Column(name, kind, nullable, precision, scale)


def _kind(declared: object) -> tuple[Kind | None, int, int]:
    match declared:
        case "string" | "long" | "boolean" | "double":
            return Kind(declared), 0, 0
        case {"type": "enum", "name": name, "symbols": ["I", "U", "D"], **rest}:
            _check_name(name)
            _check_attributes(rest, {"doc"})
            return Kind.OPERATION, 0, 0
        case {"type": "int", "logicalType": "date", **rest} if not rest:
            return Kind.DATE, 0, 0
        case {"type": "long", "logicalType": "timestamp-millis", **rest} if not rest:
            return Kind.TIMESTAMP, 0, 0
        case {
            "type": "bytes",
            "logicalType": "decimal",
            "precision": int(precision),
            "scale": int(scale),
            **rest,
        } if not rest and 0 <= scale <= precision and 1 <= precision <= MAX_PRECISION:
            return Kind.DECIMAL, precision, scale
    return None, 0, 0


class Malformed(ValueError):
    """Record ``row`` (from 0) is not what the schema says: ``reason``, in field ``field``."""

    def __init__(self, row: int, field: str, reason: str) -> None:
        super().__init__(f"record {row + 1}, field {field}: {reason}")
        self.row = row
        self.field = field
        self.reason = reason
