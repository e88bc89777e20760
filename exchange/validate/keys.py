"""Keys of records as 64-bit hashes: they tell which records are versions of the same one.

The hashes hold within a process only: no other version of the library has to make the same.
Two different keys share a hash once in 2^64, see :mod:`exchange.validate.claimed_keys`.
"""

from __future__ import annotations

import polars as pl

from exchange.catalog.model import Resource
from exchange.validate.convert import CHINA, convert
from exchange.validate.screen import screen
from exchange.validate.source_frame import source_columns


def source_keys(resource: Resource, frame: pl.DataFrame) -> pl.Series:
    """Return the hash of each record's key as a source gave it; null where a part is unclear."""
    columns = source_columns(resource, frame.columns)
    if not resource.key or not columns.keys() >= set(resource.key):
        return pl.Series([None], dtype=pl.UInt64).new_from_index(0, frame.height)
    typed = []
    for name in resource.key:
        values = frame[columns[name]].alias(name)
        if values.dtype == pl.String:
            values = screen(values).values
        converted = convert(values, resource.field(name).type, zone=CHINA)
        typed.append(converted.values.alias(name))
    return typed_keys(resource, pl.DataFrame(typed))


def typed_keys(resource: Resource, typed: pl.DataFrame) -> pl.Series:
    """Return the hash of each record's key in a frame of the catalog's types."""
    if not resource.key or not set(typed.columns) >= set(resource.key):
        return pl.Series([None], dtype=pl.UInt64).new_from_index(0, typed.height)
    hashed = pl.col(resource.key[0]).hash(0)
    for seed, name in enumerate(resource.key[1:], start=1):
        hashed ^= pl.col(name).hash(seed)
    whole = pl.all_horizontal(pl.col(name).is_not_null() for name in resource.key)
    return typed.select(pl.when(whole).then(hashed)).to_series()
