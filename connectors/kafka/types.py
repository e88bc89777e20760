"""What a value of a message means by its schema, and its text: nothing is guessed.

Kafka Connect and Debezium write dates as days, times as ticks and decimals as bytes; the name of
the type stands in the schema. Without a schema a value is taken as it is written.

Source: Debezium documentation, "Data type mappings"; Kafka Connect, package ``data``.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np

UNAVAILABLE: Final = "__debezium_unavailable_value"
"""What Debezium writes for a large value that an update did not touch."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a clock on the wall, without a zone
_DAY = 86_400
_MAX_SCALE = 1_000
_MILLI, _MICRO, _NANO = 10**3, 10**6, 10**9


class Unclear(ValueError):
    """A value that cannot be read as it was meant; the text says why."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of a value: Connect's logical name, the plain type, the scale of a decimal."""

    name: str = ""
    plain: str = ""
    scale: int | None = None
    fields: Mapping[str, ValueType] = field(default_factory=dict)


PLAIN: Final = ValueType()
_CONNECT = "org.apache.kafka.connect.data."
_DEBEZIUM = "io.debezium."


def text_of(value: Any, kind: ValueType, *, debezium: bool) -> str | None:
    """Return the text of a value, None for null; raises Unclear."""
    if value is None:
        return None
    if debezium and isinstance(value, str) and value == UNAVAILABLE:
        raise Unclear("the source did not send it, for the update left it unchanged")
    if debezium and kind.name == f"{_CONNECT}Timestamp":
        raise Unclear(
            "a time that may be an instant or a clock's: set time.precision.mode to adaptive"
        )
    reader = _LOGICAL.get(kind.name)
    if reader is not None:
        try:
            return reader(value, kind)
        except (ValueError, OverflowError, TypeError, KeyError, ArithmeticError) as error:
            raise Unclear(f"{kind.name} cannot be {str(value)[:60]!r}") from error
    if kind.plain == "bytes" and isinstance(value, str):
        return _hex(_base64(value))
    return _plain(value, kind)


def _plain(value: Any, kind: ValueType) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unclear(f"{value} is no number")
        return str(np.float32(value)) if kind.plain == "float" else repr(value)
    for of, write in _WRITERS:
        if isinstance(value, of):
            return write(value)
    raise Unclear("an object or a list, not a value: write its path in columns")


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat(" ")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _hex(data: bytes) -> str:
    return "\\x" + data.hex()


_WRITERS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    # By the first that fits: a boolean is an integer too, a moment a date.
    (bool, lambda value: "true" if value else "false"),
    (str, str),
    (int, str),
    (Decimal, lambda value: format(value, "f")),
    (bytes, _hex),
    (datetime, _moment),
    (date, date.isoformat),
    (time, time.isoformat),
    (UUID, str),
)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Unclear("bytes that are no base64") from error


def _day(value: Any, _kind: ValueType) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return (_EPOCH.date() + timedelta(days=int(value))).isoformat()


def _wall(unit: int) -> Callable[[Any, ValueType], str]:
    """Read ticks since 1970 of a clock without a zone."""

    def read(value: Any, _kind: ValueType) -> str:
        seconds, ticks = divmod(int(value), unit)
        moment = (_EPOCH + timedelta(seconds=seconds)).isoformat(" ")
        return moment + _fraction(ticks, unit)

    return read


def _instant(value: Any, _kind: ValueType) -> str:
    if isinstance(value, datetime):
        return _plain(value, PLAIN)
    return _wall(_MILLI)(value, PLAIN) + "Z"


def _clock(unit: int) -> Callable[[Any, ValueType], str]:
    def read(value: Any, _kind: ValueType) -> str:
        if isinstance(value, time):
            return value.isoformat()
        seconds, ticks = divmod(int(value), unit)
        if not 0 <= seconds < _DAY:
            raise ValueError(value)
        minutes, second = divmod(seconds, 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{_fraction(ticks, unit)}"

    return read


def _fraction(ticks: int, unit: int) -> str:
    digits = len(str(unit)) - 1
    return f".{ticks:0{digits}}" if ticks else ""


def _decimal(value: Any, kind: ValueType) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if kind.scale is None or not 0 <= kind.scale <= _MAX_SCALE:
        raise ValueError(value)
    data = value if isinstance(value, bytes) else _base64(str(value))
    sign, digits, _ = Decimal(int.from_bytes(data, "big", signed=True)).as_tuple()
    return format(Decimal((sign, digits, -kind.scale)), "f")  # exact: arithmetic would round


def _variable(value: Any, _kind: ValueType) -> str:
    scale = int(value["scale"])
    return _decimal(value["value"], ValueType(scale=scale))


def _text(value: Any, _kind: ValueType) -> str:
    if isinstance(value, dict | list | bytes):
        raise TypeError(value)
    return str(value)


_LOGICAL: Mapping[str, Callable[[Any, ValueType], str]] = {
    f"{_DEBEZIUM}time.Date": _day,
    f"{_CONNECT}Date": _day,
    f"{_DEBEZIUM}time.Timestamp": _wall(_MILLI),
    f"{_DEBEZIUM}time.MicroTimestamp": _wall(_MICRO),
    f"{_DEBEZIUM}time.NanoTimestamp": _wall(_NANO),
    f"{_CONNECT}Timestamp": _instant,
    f"{_DEBEZIUM}time.Time": _clock(_MILLI),
    f"{_DEBEZIUM}time.MicroTime": _clock(_MICRO),
    f"{_DEBEZIUM}time.NanoTime": _clock(_NANO),
    f"{_CONNECT}Time": _clock(_MILLI),
    f"{_CONNECT}Decimal": _decimal,
    f"{_DEBEZIUM}data.VariableScaleDecimal": _variable,
    f"{_DEBEZIUM}time.ZonedTimestamp": _text,
    f"{_DEBEZIUM}time.ZonedTime": _text,
}


def connect_type(schema: Any) -> ValueType:
    """Read a Kafka Connect schema, as it stands beside a JSON payload."""
    if not isinstance(schema, Mapping):
        return PLAIN
    parts = schema.get("fields")
    inner = {
        str(part.get("field", "")): connect_type(part)
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, Mapping)
    }
    plain = schema.get("type")
    return ValueType(
        str(schema.get("name", "")),
        plain if isinstance(plain, str) else "",
        _scale(schema.get("parameters")),
        inner,
    )


def avro_type(schema: Any, names: dict[str, ValueType] | None = None) -> ValueType:
    """Read a schema that fastavro parsed, with what Connect's converter noted in it."""
    names = {} if names is None else names
    if isinstance(schema, list):
        kinds = [part for part in schema if part != "null"]
        return avro_type(kinds[0], names) if len(kinds) == 1 else PLAIN
    if isinstance(schema, str):
        return names.get(schema, ValueType(plain=schema))
    plain = schema["type"]
    name = str(schema.get("connect.name", ""))
    if not name and isinstance(plain, Mapping | list):
        return avro_type(plain, names)
    kind = ValueType(
        name,
        plain if isinstance(plain, str) else "",
        _scale(schema.get("connect.parameters")),
        {part["name"]: avro_type(part["type"], names) for part in schema.get("fields", ())},
    )
    if "name" in schema:
        names[schema["name"]] = kind
    return kind


def _scale(parameters: Any) -> int | None:
    text = str(parameters.get("scale", "")) if isinstance(parameters, Mapping) else ""
    fits = text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_SCALE))
    return int(text) if fits else None
