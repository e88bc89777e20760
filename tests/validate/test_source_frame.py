from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.validate.source_frame import absent_columns, as_text, source_columns
from tests.validate.samples import LICENCE

MAPPED = LICENCE.model_copy(update={"columns": {"许可 编号": "number", "持证人": "holder"}})


@pytest.mark.parametrize("title", ["许可编号", "许可\n编号", "许可 编号", " 许可\u3000编\r\n号 "])
def test_white_space_of_a_title_compares_equal(title: str) -> None:
    assert source_columns(MAPPED, [title, "holder"])["number"] == title
    assert "number" not in absent_columns(MAPPED, [title]).values()


def test_the_very_title_comes_first_and_nothing_is_guessed() -> None:
    titles = ["许可编号", "许可 编号", "许可\n编号"]
    assert source_columns(MAPPED, titles)["number"] == "许可 编号"
    assert "number" not in source_columns(MAPPED, [titles[0], titles[2]])


@given(st.text(min_size=1).filter(lambda text: "".join(text.split())))
def test_other_titles_are_other_columns(title: str) -> None:
    alike = "".join(title.split()) in {"许可编号", "持证人"}
    assert bool(source_columns(MAPPED, [title])) == (alike or title in _UNMAPPED)


_UNMAPPED = {field.name for field in LICENCE.fields} - {"number", "holder"}


@given(st.lists(st.none() | st.datetimes()))
def test_instants_are_written_as_python_does(instants: list[datetime | None]) -> None:
    local = pl.Series(instants, dtype=pl.Datetime("us"))
    assert as_text(local).to_list() == [None if i is None else str(i) for i in instants]
    zoned = local.dt.replace_time_zone("UTC")
    texts = [None if i is None else str(i.replace(tzinfo=UTC)) for i in instants]
    assert as_text(zoned).to_list() == texts
    days = [None if i is None else str(i.date()) for i in instants]
    assert as_text(local.cast(pl.Date)).to_list() == days


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.sampled_from(["ms", "us", "ns"]))
def test_any_instant_and_any_span_has_a_text(numbers: list[int], unit: str) -> None:
    values = pl.Series(numbers, dtype=pl.Int64)
    for kind in (pl.Datetime(unit), pl.Datetime(unit, "UTC"), pl.Duration(unit)):  # type: ignore[arg-type]
        assert as_text(values.cast(kind)).null_count() == 0


def test_years_that_python_does_not_know() -> None:
    days = pl.Series([-719_528, 2_932_897, 2**31 - 1], dtype=pl.Int32).cast(pl.Date)
    assert as_text(days).to_list() == ["0000-01-01", "+10000-01-01", "2147483647"]
    lists = pl.Series([[-719_528]], dtype=pl.List(pl.Int32)).cast(pl.List(pl.Date))
    assert as_text(lists).to_list() == ["[-719528]"]
