"""The column makers agree with the scalar reference, whatever the seed."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.identifiers import is_resident_id, is_uscc
from exchange.devtools import synthetic

seeds = st.integers(0, 2**32 - 1)
counties = pl.Series(list(synthetic.COUNTIES)).gather(np.arange(64) % len(synthetic.COUNTIES))


@settings(max_examples=25)
@given(seed=seeds, kind=st.sampled_from(["91", "92", "93", "11", "N2"]))
def test_every_uscc_passes_both_check_digits(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    codes = synthetic.usccs(random, synthetic.matrix(counties), kind=kind)
    assert all(is_uscc(code) for code in synthetic.column(codes))


@settings(max_examples=25)
@given(seed=seeds)
def test_every_citizen_number_says_its_county_birth_and_sex(seed: int) -> None:
    random = np.random.default_rng(seed)
    births = synthetic.days(random, "1900-01-01", "2024-02-29", 64)
    male = random.random(64) < 0.5
    numbers = synthetic.column(
        synthetic.resident_ids(random, synthetic.matrix(counties), births, male)
    )
    for number, county, birth, is_male in zip(numbers, counties, births, male, strict=True):
        assert is_resident_id(number)
        assert number[:6] == county
        assert number[6:14] == str(birth).replace("-", "")
        assert int(number[16]) % 2 == int(is_male)


@settings(max_examples=25)
@given(st.lists(st.dates(), min_size=1))
def test_calendar_digits_are_the_iso_date(days: list[object]) -> None:
    result = synthetic.column(synthetic.calendar_digits(np.array(days, "datetime64[D]")))
    assert result.to_list() == [str(day).replace("-", "") for day in days]


def test_mobiles_begin_with_13_to_19() -> None:
    result = synthetic.column(synthetic.mobiles(np.random.default_rng(1), 1000))
    assert result.str.contains("^1[3-9][0-9]{9}$").all()


def test_names_are_of_two_or_three_characters() -> None:
    result = synthetic.person_names(np.random.default_rng(1), 1000)
    assert set(result.str.len_chars()) == {2, 3}


def test_the_same_seed_makes_the_same_companies() -> None:
    first, again = (
        synthetic.company_names(np.random.default_rng(7), counties).to_list() for _ in range(2)
    )
    assert first == again
    assert all(name.startswith("大兴安岭") for name in first)
