from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.frames import dtype
from exchange.catalog.types import parse_type
from exchange.validate.convert import ConvertedColumn, convert
from tests.validate.reference import Bad, typed
from tests.validate.samples import field

SHANGHAI = "Asia/Shanghai"


def _convert(values: pl.Series, kind: str, zone: str = SHANGHAI) -> ConvertedColumn:
    converted = convert(values, parse_type(kind), zone=zone)
    assert converted.values.dtype == dtype(parse_type(kind))
    assert len(converted.values) == len(values)
    return converted


def _expected(kind: str, text: str | None) -> object:
    try:
        return None if text is None else typed(field("x", kind), text)
    except (Bad, KeyError, ValueError, ArithmeticError):
        return None


_NUMBERS = st.from_regex(r"\A[+-]?[0-9]{0,8}(\.[0-9]{0,4})?\Z") | st.sampled_from(
    ["1e3", "1_0", "١", "0x1", "-", ".", "9" * 40, "0" * 50 + "1.10", "9223372036854775808"]
)
_DAYS = (
    st.from_regex(r"\A(19|20)[0-9]{2}-[0-9]{1,2}-[0-9]{1,2}\Z")
    | st.from_regex(r"\A(19|20)[0-9]{2}/[0-9]{1,2}/[0-9]{1,2}\Z")
    | st.from_regex(r"\A(19|20)[0-9]{2}年[0-9]{1,2}月[0-9]{1,2}日\Z")
    | st.from_regex(r"\A20[0-9]{5,7}\Z")
    | st.dates(date(1000, 1, 1)).map(str)
    | st.dates(date(1000, 1, 1)).map(lambda day: f"{day} 00:00:00.000")
)
_INSTANTS = (
    st.datetimes(datetime(1992, 1, 1), datetime(2262, 1, 1)).map(str)  # noqa: DTZ001 - local
    | st.datetimes(
        datetime(1800, 1, 1),  # noqa: DTZ001 - local
        datetime(2262, 1, 1),  # noqa: DTZ001 - local
        timezones=st.integers(-720, 840).map(lambda m: timezone(timedelta(minutes=m))),
    ).map(lambda at: at.isoformat())
    | st.from_regex(r"\A20[0-9]{2}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9](:[0-6][0-9])?\Z")
    | st.dates(date(1992, 1, 1)).map(str)
)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("integer", _NUMBERS),
        ("decimal(7,2)", _NUMBERS),
        ("decimal(38,0)", _NUMBERS),
        ("date", _DAYS),
        ("datetime", _INSTANTS),
        ("boolean", st.sampled_from(["是", "否", "true", "0", "Yes", "2"])),
    ],
)
@settings(max_examples=200)
@given(data=st.data())
def test_text_is_read_exactly_or_not_at_all(
    kind: str, texts: st.SearchStrategy[str], data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | texts, max_size=6))
    converted = _convert(pl.Series(values, dtype=pl.String), kind)
    assert converted.values.to_list() == [_expected(kind, text) for text in values]


@given(st.lists(st.floats(width=64), max_size=5))
def test_a_float_is_its_shortest_decimal_text(floats: list[float]) -> None:
    values = pl.Series(floats, dtype=pl.Float64)
    for given_, value in zip(floats, _convert(values, "decimal(20,4)").values, strict=True):
        assert value is None or (float(value) == given_ and Decimal(repr(given_)) == value)
    for given_, value in zip(floats, _convert(values, "integer").values, strict=True):
        assert value is None or value == given_


def test_floats_that_people_write_are_kept() -> None:
    values = pl.Series([0.1, 12.34, 5.0, -0.05, 12.345, float("nan"), 1e20])
    assert _convert(values, "decimal(7,2)").values.to_list() == [
        Decimal("0.10"),
        Decimal("12.34"),
        Decimal("5.00"),
        Decimal("-0.05"),
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pl.Series([232700, None]), "text(9)", ["232700", None]),
        (pl.Series([Decimal(12)], dtype=pl.Decimal(20, 0)), "text(9)", ["12"]),
        (pl.Series([2.327e5]), "text(9)", [None]),
        (pl.Series([date(2026, 1, 2)]), "text(9)", [None]),
        (pl.Series([b"x"]), "text(9)", [None]),
        (pl.Series([True]), "text(9)", [None]),
        (pl.Series(["a"], dtype=pl.Categorical), "text(9)", ["a"]),
        (pl.Series([None]), "text(9)", [None]),
        (pl.Series([2**63], dtype=pl.UInt64), "integer", [None]),
        (pl.Series([1.0, 1.5, 1e17]), "integer", [1, None, None]),
        (pl.Series([Decimal("3.00"), Decimal("1.20")]), "integer", [3, None]),
        (pl.Series([True]), "integer", [None]),
        (pl.Series([1, 10**6]), "decimal(7,2)", [Decimal("1.00"), None]),
        (pl.Series([Decimal("1.230"), Decimal("1.234")]), "decimal(7,2)", [Decimal("1.23"), None]),
        (pl.Series([20260102, 45000]), "date", [date(2026, 1, 2), None]),
        (pl.Series([1, 0, 2]), "boolean", [True, False, None]),
        (pl.Series([1.5]), "boolean", [None]),
        (pl.Series([7, 2**60]), "double", [7.0, None]),
        (pl.Series([1.5, float("inf")]), "double", [1.5, None]),
        (
            pl.Series([date(2026, 1, 2)]),
            "datetime",
            [datetime(2026, 1, 1, 16, tzinfo=UTC)],
        ),
        (pl.Series([[1]]), "date", [None]),
    ],
)
def test_typed_sources(values: pl.Series, kind: str, expected: list[object]) -> None:
    assert _convert(values, kind).values.to_list() == expected


def test_datetimes_as_dates_only_at_midnight() -> None:
    local = pl.Series([datetime(2026, 1, 2), datetime(2026, 1, 2, 1)])  # noqa: DTZ001 - local
    assert _convert(local, "date").values.to_list() == [date(2026, 1, 2), None]
    aware = pl.Series([datetime(2026, 1, 1, 16, tzinfo=UTC)])
    assert _convert(aware, "date").values.to_list() == [date(2026, 1, 2)]


def test_instants_keep_milliseconds_and_tell() -> None:
    local = pl.Series([datetime(2026, 1, 2, 8, 0, 0, 1999), datetime(2026, 1, 2)])  # noqa: DTZ001
    converted = _convert(local, "datetime")
    assert converted.coarsened == 1
    assert converted.values.to_list() == [
        datetime(2026, 1, 2, 0, 0, 0, 1000, tzinfo=UTC),
        datetime(2026, 1, 1, 16, tzinfo=UTC),
    ]


def test_nanoseconds_keep_milliseconds_and_tell() -> None:
    """A connector's frame may have them; no library's literal of another unit fits beside."""
    nanoseconds = [1_767_312_000_000_000_000, 1_767_312_000_001_000_001, -1, None]
    local = pl.Series(nanoseconds, dtype=pl.Int64).cast(pl.Datetime("ns"))
    expected = [
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, 0, 0, 0, 1000, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        None,
    ]
    converted = _convert(local.dt.replace_time_zone("UTC"), "datetime")
    assert (converted.values.to_list(), converted.coarsened) == (expected, 2)
    converted = _convert(local, "datetime", "Etc/GMT")
    assert (converted.values.to_list(), converted.coarsened) == (expected, 2)
    assert _convert(local, "date").values.to_list() == [date(2026, 1, 2), None, None, None]


@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from(["ms", "us", "ns"]),
    st.sampled_from([None, "UTC", SHANGHAI]),
    st.sampled_from(["date", "datetime", "text(40)"]),
)
def test_instants_of_any_year_raise_nothing(
    numbers: list[int | None], unit: str, zone: str | None, kind: str
) -> None:
    values = pl.Series(numbers, dtype=pl.Int64).cast(pl.Datetime(unit, zone))  # type: ignore[arg-type]
    converted = _convert(values, kind, "Etc/GMT-8").values
    if kind.startswith("date"):
        assert converted.drop_nulls().dt.year().is_between(0, 10_000).all()
    else:
        assert converted.null_count() == len(numbers)


def test_days_of_years_that_nobody_has_are_refused() -> None:
    days = pl.Series([-719_529, 2_932_897, 2**31 - 1, 0], dtype=pl.Int32).cast(pl.Date)
    assert _convert(days, "date").values.to_list() == [None, None, None, date(1970, 1, 1)]
    assert _convert(days, "datetime").values.null_count() == 3


def test_hours_that_were_skipped_or_doubled_are_not_guessed() -> None:
    texts = ["1986-05-04 02:30:00", "1986-09-14 01:30:00", "1986-07-01 12:00:00"]
    assert _convert(pl.Series(texts), "datetime").values.to_list() == [
        None,
        None,
        datetime(1986, 7, 1, 3, tzinfo=UTC),
    ]
    berlin = _convert(pl.Series(["2026-03-29 02:30:00"]), "datetime", "Europe/Berlin")
    assert berlin.values.to_list() == [None]
