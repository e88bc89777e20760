"""Whether a reader's schema can read what a writer's schema wrote.

Source: Apache Avro 1.12 specification, "Schema Resolution".
"""

from __future__ import annotations

from typing import Any

_PROMOTIONS = {
    ("long", "int"),
    ("float", "int"),
    ("float", "long"),
    ("double", "int"),
    ("double", "long"),
    ("double", "float"),
    ("string", "bytes"),
    ("bytes", "string"),
}
"""(reader, writer): what a reader takes although it is another type."""


def differences(reader: Any, writer: Any, path: str = "") -> list[str]:
    """List why the reader cannot; empty when it can."""
    if isinstance(writer, list):
        return [difference for branch in writer for difference in differences(reader, branch, path)]
    if isinstance(reader, list):
        if any(not differences(branch, writer, path) for branch in reader):
            return []
        return [_told("MISSING_UNION_BRANCH", path, f"reader union lacks {_name(writer)}")]
    return _same_type(reader, writer, path)


def _same_type(reader: Any, writer: Any, path: str) -> list[str]:
    theirs, ours = _type(writer), _type(reader)
    if ours != theirs and (ours, theirs) not in _PROMOTIONS:
        return [_told("TYPE_MISMATCH", path, f"reader type {ours}, writer type {theirs}")]
    if ours == "record":
        return _named(reader, writer, path) + _record(reader, writer, path)
    if ours == "enum":
        return _named(reader, writer, path) + _enum(reader, writer, path)
    if _decimal(reader) != _decimal(writer):
        return [_told("TYPE_MISMATCH", path, "decimals of different precision or scale")]
    return []


def _enum(reader: Any, writer: Any, path: str) -> list[str]:
    missing = sorted(set(writer["symbols"]) - set(reader["symbols"]))
    if missing and "default" not in reader:
        return [_told("MISSING_ENUM_SYMBOLS", path, f"reader lacks {missing}")]
    return []


def _record(reader: Any, writer: Any, path: str) -> list[str]:
    values = {field["name"]: field for field in writer["fields"]}
    items: list[str] = []
    for field in reader["fields"]:
        here = f"{path}/{field['name']}"
        if field["name"] in values:
            items += differences(field["type"], values[field["name"]]["type"], here)
        elif "default" not in field:
            items.append(_told("READER_FIELD_MISSING_DEFAULT_VALUE", here, "no default value"))
    return items


def _named(reader: Any, writer: Any, path: str) -> list[str]:
    if reader["name"].rpartition(".")[2] == writer["name"].rpartition(".")[2]:
        return []
    return [_told("NAME_MISMATCH", path, f"expected {writer['name']}")]


def _decimal(schema: Any) -> tuple[int, int] | None:
    if isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        return schema["precision"], schema.get("scale", 0)
    return None


def _type(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _name(schema: Any) -> str:
    return str(schema.get("name", schema["type"]) if isinstance(schema, dict) else schema)


def _told(kind: str, path: str, what: str) -> str:
    return f"{{errorType:'{kind}', description:'{what}', location:'{path or '/'}'}}"
