"""The Avro schema of a resource, derived from its fields (D2; Apache Avro 1.12 specification).

Only what is on the wire is in it: titles, rules and code labels may be mended without a new
schema.
"""

from __future__ import annotations

from exchange.catalog.canonical import canonical, sm3
from exchange.catalog.model import OPERATION, Field, Physical, Resource

NAMESPACE = "exchange"
OPERATIONS = ("I", "U", "D")


def avro_schema(resource: Resource) -> dict[str, object]:
    """Return the record schema: cd_operation, then the fields in catalog order."""
    operation = {"type": "enum", "name": "Operation", "symbols": list(OPERATIONS)}
    return {
        "type": "record",
        "name": resource.name,
        "namespace": NAMESPACE,
        "fields": [
            {"name": OPERATION, "type": operation},
            *(_field(field) for field in resource.fields),
        ],
    }


def schema_text(resource: Resource) -> str:
    """Return the canonical text: JSON, keys sorted, no blanks."""
    return canonical(avro_schema(resource))


def fingerprint(resource: Resource) -> str:
    """Return ``sm3:<hex>`` of the canonical text."""
    return sm3(schema_text(resource))


def schema_file(resource: Resource) -> str:
    """Return the name of the file that holds this version of the schema."""
    return f"{resource.name}-v{resource.version}.avsc"


def _field(field: Field) -> dict[str, object]:
    """Return a field; one that may be empty is a union with null, its default."""
    if field.required:
        return {"name": field.name, "type": _type(field)}
    return {"name": field.name, "type": ["null", _type(field)], "default": None}


def _type(field: Field) -> str | dict[str, object]:
    kind = field.type
    match kind.physical:
        case Physical.DECIMAL:
            return {
                "type": "bytes",
                "logicalType": "decimal",
                "precision": kind.precision,
                "scale": kind.scale,
            }
        case Physical.DATE:
            return {"type": "int", "logicalType": "date"}
        case Physical.TIMESTAMP:
            return {"type": "long", "logicalType": "timestamp-millis"}
        case simple:
            return simple.value
