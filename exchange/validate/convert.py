"""Source values → the physical types of the catalog, losing nothing.

A value that has no exact counterpart becomes null here and a reason in :mod:`.checks`; nothing
is rounded, cut, guessed or trimmed. Exact means: text of a number keeps its value, a float
counts as the shortest decimal text that names it, a date and its midnight are the same, an
integer or decimal may stand in a text column. A float never does: 18-digit codes that passed
through a spreadsheet have lost digits. One change is made and told: instants finer than a
millisecond fall back to theirs (:attr:`Converted.coarsened`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from exchange.catalog.frames import dtype
from exchange.catalog.model import BusinessType, Physical

TRUE: Final = ("是", "true", "TRUE", "True", "1", "Y", "y")
FALSE: Final = ("否", "false", "FALSE", "False", "0", "N", "n")

_EXACT: Final = 2**53
"""Whole numbers up to here are told apart by a float."""
_INSTANT: Final = pl.Datetime("ms", "UTC")
_NS_PER_US: Final = 1_000
_VALUE: Final = pl.col("value")


@dataclass(frozen=True, slots=True)
class ConvertedColumn:
    """A column in its physical type; null where the source was null or not convertible."""

    values: pl.Series
    coarsened: int = 0
    """How many instants were finer than a millisecond."""


def number_pattern(kind: BusinessType) -> str:
    """Return the pattern of decimal text that ``kind`` holds exactly, overflow apart."""
    return f"^[+-]?[0-9]*(?:[.][0-9]{{0,{kind.scale or 0}}}0*)?$"


def convert(values: pl.Series, kind: BusinessType, *, zone: str) -> ConvertedColumn:
    """Convert a source column; naive instants are read in ``zone``. Never raises on values."""
    target = dtype(kind)
    name, values = values.name, _of_known_years(values.alias("value"))
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    coarsened = 0
    try:
        if kind.physical is Physical.TIMESTAMP:
            exact = _instants(_microseconds(values), zone)
            finer = exact.cast(_INSTANT).cast(exact.dtype) != exact
            if _is_nanoseconds(values):
                finer = finer | (values.to_physical() % _NS_PER_US != 0)
            values = exact.cast(_INSTANT)
            coarsened = int(finer.sum())
        elif kind.physical is Physical.DATE:
            values = _days(values, zone)
        elif values.dtype != target or kind.physical is Physical.DOUBLE:
            values = values.to_frame().select(_expression(values.dtype, kind)).to_series()
    except PolarsError:
        # A pair of types that the library refuses outright: no value has a counterpart.
        values = _nothing(values, target)
    return ConvertedColumn(values.alias(name), coarsened)


def _nothing(values: pl.Series, target: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [None], dtype=target).new_from_index(0, len(values))


def _expression(source: pl.DataType, kind: BusinessType) -> pl.Expr:
    """Return the conversion to a type that is no date or time."""
    match kind.physical:
        case Physical.STRING:
            return _text(source)
        case Physical.LONG:
            return _long(source)
        case Physical.DECIMAL:
            return _decimal(source, kind)
        case Physical.BOOLEAN:
            return _boolean(source)
        case _:
            return _double(source)


def _none(target: pl.DataType) -> pl.Expr:
    """Convert nothing."""
    return pl.when(_VALUE.is_null() & _VALUE.is_not_null()).then(pl.lit(None, dtype=target))


def _text(source: pl.DataType) -> pl.Expr:
    if source.is_integer() or source.is_decimal():
        return _VALUE.cast(pl.String)
    return _none(pl.String())


def _long(source: pl.DataType) -> pl.Expr:
    whole = _VALUE.cast(pl.Int64, strict=False)
    if source == pl.String or source.is_integer():
        return whole
    if source.is_float():
        same = whole.cast(source) == _VALUE
        return pl.when(same & (whole.abs() < _EXACT)).then(whole)
    if source.is_decimal():
        return pl.when(whole.cast(source, strict=False) == _VALUE).then(whole)
    return _none(pl.Int64())


def _decimal(source: pl.DataType, kind: BusinessType) -> pl.Expr:
    target = dtype(kind)
    if source.is_integer():
        return _VALUE.cast(target, strict=False)
    if source.is_decimal():
        scaled = _VALUE.cast(target, strict=False)
        return pl.when(scaled == _VALUE).then(scaled)
    text = _VALUE.cast(pl.String) if source.is_float() else _VALUE
    if source == pl.String or source.is_float():
        exact = text.str.contains(number_pattern(kind))
        return pl.when(exact).then(text.cast(target, strict=False))
    return _none(target)


def _double(source: pl.DataType) -> pl.Expr:
    if not (source == pl.String or source.is_numeric()):
        return _none(pl.Float64())
    floats = _VALUE.cast(pl.Float64, strict=False)
    keep = floats.abs() < _EXACT if source.is_integer() else floats.is_finite()
    return pl.when(keep).then(floats)


def _boolean(source: pl.DataType) -> pl.Expr:
    if source != pl.String and not source.is_integer():
        return _none(pl.Boolean())
    words = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
    return _VALUE.cast(pl.String).replace_strict(
        list(words), list(words.values()), default=None, return_dtype=pl.Boolean
    )


_FIRST: Final = (date(1, 1, 1) - date(1970, 1, 1)).days
_LAST: Final = (date(9999, 12, 31) - date(1970, 1, 1)).days
_UNITS: Final = {"ms": 86_400_000, "us": 86_400_000_000}
"""Of an instant, in a day."""


def _of_known_years(values: pl.Series) -> pl.Series:
    """Null what lies outside the years 1-9999: the library fails at years far beyond.

    Nanoseconds reach from 1677 to 2262.
    """
    kind = values.dtype
    if isinstance(kind, pl.Datetime) and kind.time_unit in _UNITS:
        unit = _UNITS[kind.time_unit]
    elif kind == pl.Date:
        unit = 1
    else:
        return values
    known = values.to_physical().is_between(_FIRST * unit, (_LAST + 1) * unit, closed="left")
    return values if known.all() else values.set(~known, None)


def _is_nanoseconds(values: pl.Series) -> bool:
    return isinstance(values.dtype, pl.Datetime) and values.dtype.time_unit == "ns"


def _microseconds(values: pl.Series) -> pl.Series:
    """Return instants in a unit that holds every year."""
    return values.dt.cast_time_unit("us") if _is_nanoseconds(values) else values


# --- dates and instants ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to write days or instants: how it looks, and how the library reads it."""

    shape: re.Pattern[str]
    reads: pl.Expr


def _day(shape: str, pattern: str, fewest: int, most: int) -> _Form:
    """Read days written as ``pattern`` in so many bytes: the library takes 2024012 for a day."""
    days = _VALUE.str.to_date(pattern, strict=False)
    sized = _VALUE.str.len_bytes().is_between(fewest, most)
    return _Form(re.compile(shape), pl.when(sized).then(days))


def _clock(shape: str, pattern: str, text: pl.Expr = _VALUE) -> _Form:
    """Read date and time; a sixtieth second is refused: the library rolls it over."""
    clocks = text.str.to_datetime(pattern, strict=False, time_unit="us")
    sixtieth = text.str.ends_with("60")
    if "%.f" in pattern:
        sixtieth = text.str.contains(":60", literal=True)
    return _Form(re.compile(shape), pl.when(~sixtieth).then(clocks))


_WRITTEN_DAYS: Final = (
    _day("....-..?-..?", "%Y-%m-%d", 8, 10),
    _day("[0-9]{8}", "%Y%m%d", 8, 8),
    _day("..../..?/..?", "%Y/%m/%d", 8, 10),
    _day("....年..?月..?日", "%Y年%m月%d日", 15, 17),  # three bytes for each Chinese character
)
_MIDNIGHT: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]00:00:00(?:[.]0+)?$"
_DAY_FORMS: Final = (
    *_WRITTEN_DAYS,
    _Form(
        re.compile(_MIDNIGHT),
        pl.when(_VALUE.str.contains(_MIDNIGHT)).then(
            _VALUE.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        ),
    ),
)

_PLAIN: Final = _VALUE.str.replace("T", " ", literal=True).str.replace_all("/", "-", literal=True)
"""ISO 8601 and slashes in the common way, so that fewer forms are needed."""

_LOCAL_FORMS: Final = (
    _clock("....-..-.. ..:..:..", "%Y-%m-%d %H:%M:%S"),
    _clock("....-..-..T..:..:..", "%Y-%m-%dT%H:%M:%S"),
    _clock("[0-9]{14}", "%Y%m%d%H%M%S"),
    _clock(".*:.*:.*", "%Y-%m-%d %H:%M:%S%.f", _PLAIN),
    _clock(".*:.*", "%Y-%m-%d %H:%M", _PLAIN),
    # A spreadsheet shows midnight as a bare date.
    *(_Form(form.shape, form.reads.cast(pl.Datetime("us"))) for form in _WRITTEN_DAYS),
)
_ZONED: Final = _clock(".*:.*(Z|[+-]..:?..)", "%Y-%m-%d %H:%M:%S%.f%#z", _PLAIN)


def _sample(values: pl.Series) -> str:
    """Return the first value that there is."""
    return values[values.is_not_null().arg_max() or 0] or ""


def _read(values: pl.Series, forms: Sequence[_Form]) -> pl.Series:
    """Read each value by the first form that can.

    The whole column goes through the form that its first value looks like; only what that one
    leaves goes through all, so that a column in one form is read once.
    """
    sample = _sample(values)
    usual = next((form for form in forms if form.shape.fullmatch(sample)), forms[0])
    result = values.to_frame().select(usual.reads.alias("value")).to_series()
    every = pl.coalesce(form.reads for form in forms)
    return _filled(result, values, lambda rest: rest.to_frame().select(every))


def _filled(
    result: pl.Series, values: pl.Series, parse: Callable[[pl.Series], pl.DataFrame]
) -> pl.Series:
    """Read again what is still unread."""
    gaps = (result.is_null() & values.is_not_null()).arg_true()
    return (
        result if gaps.is_empty() else result.scatter(gaps, parse(values.gather(gaps)).to_series())
    )


def _days(values: pl.Series, zone: str) -> pl.Series:
    if values.dtype == pl.Date:
        return values
    if isinstance(values.dtype, pl.Datetime):
        local = _VALUE.dt.convert_time_zone(zone) if values.dtype.time_zone else _VALUE
        days = pl.when(local.dt.time() == time()).then(local.dt.date())
        return values.to_frame().select(days).to_series()
    if values.dtype.is_integer():
        values = values.cast(pl.String)
    if values.dtype != pl.String or values.is_empty():
        return _nothing(values, pl.Date())
    return _read(values, _DAY_FORMS)


def _instants(values: pl.Series, zone: str) -> pl.Series:
    """Return the instants in UTC, as fine as the source has them."""
    if isinstance(values.dtype, pl.Datetime):
        aware = values.dtype.time_zone is not None
        return values.dt.convert_time_zone("UTC") if aware else _placed(values, zone)
    if values.dtype == pl.Date:
        return _placed(values.cast(pl.Datetime("us")), zone)
    if values.dtype != pl.String or values.is_empty():
        return _nothing(values, pl.Datetime("us", "UTC"))
    if _ZONED.shape.fullmatch(_sample(values)) is None:
        local = _placed(_read(values, _LOCAL_FORMS), zone)
        return _filled(local, values, lambda rest: rest.to_frame().select(_ZONED.reads))
    zoned = values.to_frame().select(_ZONED.reads.alias("value")).to_series()
    return _filled(zoned, values, lambda rest: _placed(_read(rest, _LOCAL_FORMS), zone).to_frame())


CHINA: Final = "Etc/GMT-8"
"""China standard time, +08:00 in every year: the zone of what has no offset.

Asia/Shanghai is another clock: it has summer time in 1940-49 and 1986-91, when some hours exist
twice or never, and +08:05:43 before 1901. What a database shows as 1988-07-01 08:00 would be
shown as 07:00 in a certificate.
"""
_STEADY: Final = {
    CHINA: (datetime(1, 1, 1), timedelta(hours=8)),  # noqa: DTZ001
    "Asia/Shanghai": (datetime(1991, 9, 15), timedelta(hours=8)),  # noqa: DTZ001
}
"""Zones whose offset has not changed since a day; converting by table costs ten times more."""


def _placed(local: pl.Series, zone: str) -> pl.Series:
    """Place local time in ``zone``; hours that a clock change skipped or repeated become null."""
    steady = _STEADY.get(zone)
    # Compared in the column: a year 0, which a text may name, is no datetime of Python.
    if steady is not None and not (local < steady[0]).any():
        return (local - steady[1]).dt.replace_time_zone("UTC")
    placed = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return placed.dt.convert_time_zone("UTC")
