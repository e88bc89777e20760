r"""One byte form per JSON value: the subset of JCS (RFC 8785) without floating-point numbers.

Objects with ASCII keys, arrays, strings, and integers that every JSON reader holds exactly
(RFC 8785 §3.2.2.3: up to 2^53 - 1). In this subset JCS means: keys sorted, no white space,
UTF-8, and only ``"``, ``\`` and control characters escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

Value: TypeAlias = "str | int | list[Value] | Mapping[str, Value]"

MAX_INTEGER = 2**53 - 1


def encode(value: Value) -> bytes:
    """Return the canonical bytes; raises ValueError for a value outside the subset."""
    _check(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError


def decode(data: bytes) -> Value:
    """Read canonical bytes; raises ValueError for any other spelling of the same value."""
    try:
        value: Value = json.loads(data.decode())
        canonical = encode(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if canonical != data:
        raise ValueError("not written in the canonical form")
    return value


def _check(value: Value) -> None:
    if isinstance(value, str):
        return
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_INTEGER:
            raise ValueError(f"integer beyond 2^53 - 1: {str(value)[:20]}")
    elif isinstance(value, list):
        for each in value:
            _check(each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if not key.isascii():
                raise ValueError(f"key is not ASCII: {key[:40]!r}")
            _check(each)
    else:
        raise ValueError(f"neither text nor integer: {type(value).__name__}")  # noqa: TRY004
