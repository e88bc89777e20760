"""Values of the universal way → columns: exactly what the database shows, or a defect.

The type of a column follows from its definition; a value that does not fit is null there, and
told in ``_defect``. Values come either as Python objects of the driver or, from MySQL, as the
text that the server sends: that is read in columns.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from exchange.connectors.sql.reader import ZONE

MAX_PRECISION = 38
_INSTANT = pl.Datetime("us", "UTC")
_UNFIT = (TypeError, ValueError, OverflowError, ArithmeticError, pl.exceptions.PolarsError)


class Damaged(bytes):
    """A text whose bytes are not in the encoding that they should be in."""


def declared(kind: sa.types.TypeEngine[Any], database: str) -> pl.DataType:
    """Return the column type that holds every value of a declared type exactly."""
    visit = kind.__visit_name__
    if database == "sqlite" and isinstance(kind, sa.Numeric | sa.Date | sa.DateTime):
        # SQLite stores decimals as floats and dates as text: their text is what there is.
        return pl.String()
    if isinstance(kind, sa.Integer) or visit == "BIT":
        return pl.UInt64() if getattr(kind, "unsigned", False) else pl.Int64()
    if isinstance(kind, sa.Numeric) and kind.scale is not None:
        fits = kind.precision is not None and kind.precision <= MAX_PRECISION
        return pl.Decimal(kind.precision, kind.scale) if fits else pl.String()
    if isinstance(kind, sa.DateTime):
        return _INSTANT if kind.timezone else pl.Datetime("us")
    plain = {sa.Boolean: pl.Boolean(), sa.Float: pl.Float64(), sa.Date: pl.Date()}
    return next((dtype for base, dtype in plain.items() if isinstance(kind, base)), pl.String())


def guessed(value: Any) -> pl.DataType:
    """Return the column type for values like this one."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _INSTANT
    return _BY_VALUE.get(type(value), pl.String())


_BY_VALUE: dict[type, pl.DataType] = {
    int: pl.Int64(),
    float: pl.Float64(),
    date: pl.Date(),
    datetime: pl.Datetime("us"),
}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """How a column becomes a series: its type, and whether it comes as the server's text."""

    dtype: pl.DataType
    sent: bool = False


def frame(
    names: Sequence[str], rows: Sequence[Sequence[Any]], columns: dict[str, ColumnType]
) -> pl.DataFrame:
    """Build typed columns; a value that does not fit is null and told in ``_defect``."""
    values = zip(*rows, strict=True) if rows else ((),) * len(names)
    made, defects = [], []
    for name, column in zip(names, values, strict=True):
        how = columns.get(name, ColumnType(pl.String()))
        series, unfit = (_sent if how.sent else _native)(name, column, how.dtype)
        made.append(series)
        if unfit is not None:
            defects.append(unfit)
    out = pl.DataFrame(made)
    if not defects:
        return out
    told = pl.concat_str(defects, separator="; ", ignore_nulls=True)
    return out.with_columns(pl.when(told != "").then(told).alias("_defect"))


Made = tuple[pl.Series, pl.Series | None]


def _sent(name: str, values: Sequence[Any], dtype: pl.DataType) -> Made:
    """Read the text that the server sends, whole columns at once."""
    if dtype == pl.String or any(isinstance(value, bytes) for value in values):
        return _native(name, values, dtype)
    text = pl.Series(name, values, dtype=pl.String)
    if dtype == pl.Date:
        made = _known(text.str.to_date("%Y-%m-%d", strict=False), *_DAYS)
    elif isinstance(dtype, pl.Datetime):
        made = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
        if dtype.time_zone:
            made = _known(made - ZONE.utcoffset(None), *_TIMES).dt.replace_time_zone("UTC")
        else:
            made = _known(made, *_TIMES)
    else:
        made = text.cast(dtype, strict=False)
    return made, _lost(name, text, made, dtype)


_DAYS = (date(1, 1, 1), date(9999, 12, 31))
_TIMES = (datetime(1, 1, 1), datetime.max)  # noqa: DTZ001, DTZ901 - of the session's zone, or UTC


def _known(values: pl.Series, least: date, most: date) -> pl.Series:
    """Drop what lies outside the years 1-9999: MySQL lets year 0 pass as a date."""
    known = values.is_between(least, most)
    return values if known.all() else values.set(~known, None)


def _lost(name: str, text: pl.Series, made: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    if made.null_count() == text.null_count():
        return None
    lost = made.is_null() & text.is_not_null()
    told = pl.lit(f"{name}: ") + text + pl.lit(f" is not {dtype}")
    return pl.select(pl.when(lost).then(told)).to_series()


def _native(name: str, values: Sequence[Any], dtype: pl.DataType) -> Made:
    """Read the driver's own objects."""
    if dtype == pl.String:
        try:
            return pl.Series(name, values, dtype=dtype, strict=True), None
        except _UNFIT:
            return _texts(name, values)
    try:
        return pl.Series(name, [_plain(value, dtype) for value in values], dtype=dtype), None
    except _UNFIT:
        fitting = [_fitting(value, dtype) for value in values]
    told = [
        _defect(name, value, dtype) if fit is None and value is not None else None
        for value, fit in zip(values, fitting, strict=True)
    ]
    return pl.Series(name, fitting, dtype=dtype), pl.Series(told, dtype=pl.String)


def _texts(name: str, values: Sequence[Any]) -> Made:
    damaged = [isinstance(value, Damaged) for value in values]
    texts = [None if bad else as_text(v) for v, bad in zip(values, damaged, strict=True)]
    series = pl.Series(name, texts, dtype=pl.String)
    if not any(damaged):
        return series, None
    told = [
        _defect(name, v, pl.String()) if bad else None
        for v, bad in zip(values, damaged, strict=True)
    ]
    return series, pl.Series(told, dtype=pl.String)


def _defect(name: str, value: Any, dtype: pl.DataType) -> str:
    if isinstance(value, Damaged):
        return f"{name}: \\x{value.hex()} is not UTF-8"
    return f"{name}: {as_text(value)} is not {dtype}"


def _plain(value: Any, dtype: pl.DataType) -> Any:
    """Return the Python value that polars builds ``dtype`` from; raises when there is none."""
    return None if value is None else _PLAIN[type(dtype)](value, dtype)


def _fitting(value: Any, dtype: pl.DataType) -> Any:
    try:
        plain = _plain(value, dtype)
        return None if plain is None else pl.Series([plain], dtype=dtype)[0]
    except _UNFIT:
        return None


def _boolean(value: Any, _dtype: pl.DataType) -> bool:
    if value not in (0, 1):
        raise ValueError(value)
    return bool(value)


def _integer(value: Any, _dtype: pl.DataType) -> int:
    if isinstance(value, Damaged):
        raise TypeError(value)
    # MySQL's BIT comes as bytes.
    return int.from_bytes(value, "big") if isinstance(value, bytes) else operator.index(value)


def _float(value: Any, _dtype: pl.DataType) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(value)
    return float(value)


def _decimal(value: Any, _dtype: pl.DataType) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _instant(value: Any, dtype: pl.DataType) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(value)
    zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone and value.tzinfo is None
    return value.replace(tzinfo=ZONE).astimezone(UTC) if zoned else value


def _date(value: Any, _dtype: pl.DataType) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise TypeError(value)
    return value


_PLAIN: dict[type[pl.DataType], Callable[[Any, pl.DataType], Any]] = {
    pl.Boolean: _boolean,
    pl.Int64: _integer,
    pl.UInt64: _integer,
    pl.Float64: _float,
    pl.Decimal: _decimal,
    pl.Datetime: _instant,
    pl.Date: _date,
}


def as_text(value: Any) -> str | None:
    """Return a value as text: JSON and bytes in the way that PostgreSQL writes them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, timedelta):
        return _clock(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _clock(value: timedelta) -> str:
    """Return a time of MySQL's, which may be long or negative, as it is shown there."""
    sign = "-" if value < timedelta(0) else ""
    seconds, rest = divmod(abs(value), timedelta(seconds=1))
    fraction = f".{rest.microseconds:06}" if rest else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"
