"""A small frame of values at which functions of SQL fail, to try conditions on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

_TEXTS: Final = (
    *("", " ", "(", "[", "*", "\\", "%", "a.c", "$1", "张三", "é\x00", "a" * 300),
    *("0", "-1", "9223372036854775808", "1e400", "nan", "2026-01-01", "2026-02-30", None),
)
_LONGS: Final = (0, 1, -1, 2, 31, 10**18, 2**31, -(2**31), 2**32, 2**63 - 1, -(2**63), None)
_DOUBLES: Final = (0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 1e-308, None)
_DAYS: Final = (-719_529, -719_162, -62_091, -1, 0, 19_782, 20_512, 84_005, 2_932_896, 2_932_897)
"""Days since 1970, from the year -1 to the year 10000."""
_DAY_MS: Final = 86_400_000
_PRIME: Final = 23
"""At least as many values as a type has: any two columns meet in every pair of values."""


def trial_frame(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Make a frame of values at which functions fail: any two columns, in every combination."""
    row = pl.int_range(_PRIME**2, eager=True)
    columns = []
    for place, (name, kind) in enumerate(schema.items(), start=1):
        values = _trial_values(kind)
        chosen = (row + row // _PRIME * place) % _PRIME % len(values)
        columns.append(values.gather(chosen).alias(name))
    return pl.DataFrame(columns)


def _trial_values(kind: pl.DataType) -> pl.Series:
    if kind == pl.String:
        return pl.Series(_TEXTS, dtype=pl.String)
    if kind == pl.Date:
        return pl.Series([*_DAYS, None], dtype=pl.Int32).cast(kind)
    if isinstance(kind, pl.Datetime):
        times = [day * _DAY_MS + (day % 2) for day in _DAYS]
        return pl.Series([*times, None], dtype=pl.Int64).cast(kind)
    if isinstance(kind, pl.Decimal):
        most = "9" * (kind.precision - kind.scale) + "." + "9" * kind.scale
        texts = ["0", "1", "-1", most.rstrip("."), f"-{most}".rstrip("."), None]
        return pl.Series(texts, dtype=pl.String).cast(kind, strict=False)
    values = {pl.Int64: _LONGS, pl.Boolean: (True, False, None)}.get(type(kind), _DOUBLES)
    return pl.Series(values, dtype=kind)
