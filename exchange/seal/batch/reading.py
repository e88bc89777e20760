"""The records of a batch, by columns where numpy is installed, one by one where it is not.

This is the only place that chooses. A node has numpy (a million rows a second); a verifier
installs without it, and takes its time. Arrays are of numpy, or of the standard library with
the same indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from exchange.seal.batch.schema import Schema

if TYPE_CHECKING:
    from exchange.seal.batch.avro import Cells, Ints


def _way() -> Any:
    return import_module(
        "exchange.seal.batch.avro" if find_spec("numpy") else "exchange.seal.batch.rows"
    )


def walk(data: bytes, offsets: Ints, schema: Schema) -> Iterator[Cells]:
    """Find every field of every record, as ``avro.walk`` does; raises Malformed."""
    return cast("Iterator[Cells]", _way().walk(data, offsets, schema))


def count(data: bytes, offsets: Ints, schema: Schema) -> list[int]:
    """Look at every byte of the records; return how many insert, update and delete."""
    return cast("list[int]", _way().count(data, offsets, schema))


def add_up(points: bytes) -> Ints:
    """Return where records begin, and the end, from their lengths as code points (UTF-32-LE)."""
    return cast("Ints", _way().add_up(points))
