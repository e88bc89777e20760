"""What the column types write, and that it comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from exchange.store.columns import MAX_TEXT, FreeText, Moment, Name

DIALECT = sqlite.dialect()
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)  # noqa: DTZ001


@given(MOMENTS)
def test_a_moment_is_kept_to_the_millisecond(moment: datetime) -> None:
    written = Moment().process_bind_param(moment, DIALECT)
    assert written is not None
    assert len(written) == 24
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    read = Moment().process_result_value(written, DIALECT)
    assert read == cut
    assert read.tzinfo == UTC


@given(MOMENTS, MOMENTS)
def test_moments_sort_as_text(one: datetime, two: datetime) -> None:
    first, second = (Moment().process_bind_param(moment, DIALECT) for moment in (one, two))
    assert first is not None
    assert second is not None
    if first < second:
        assert one < two


def test_a_time_without_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="zone"):
        Moment().process_bind_param(datetime(2026, 11, 23), DIALECT)  # noqa: DTZ001


@given(st.text(st.characters(), max_size=200))
def test_words_are_storable_and_else_untouched(words: str) -> None:
    written = FreeText().process_bind_param(words, DIALECT)
    assert written != ""
    read = FreeText().process_result_value(written, DIALECT)
    read.encode()
    assert "\0" not in read
    if "\0" not in words and not any("\ud800" <= char <= "\udfff" for char in words):
        assert read == words


def test_long_words_are_cut_visibly() -> None:
    written = FreeText().process_bind_param("长" * (MAX_TEXT + 1), DIALECT)
    assert written is not None
    assert len(written) == MAX_TEXT
    assert written.endswith("…")


@given(st.text(max_size=64))
def test_names_come_back(name: str) -> None:
    if "\0" not in name:
        written = Name(64).process_bind_param(name, DIALECT)
        assert Name(64).process_result_value(written, DIALECT) == name
