from __future__ import annotations

import random
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog.identifiers import (
    LICENCE_ID_ROOT,
    is_licence_id,
    is_resident_id,
    is_uscc,
    licence_id_check,
    resident_id_check,
)
from exchange.validate.digits import KERNELS
from tests.validate import samples

_CHANCE = random.Random(7)  # noqa: S311 - samples
_BODY = "11100000000013338W001.11100000000013338W.SN123.001"
LICENCE_NUMBER = f"{LICENCE_ID_ROOT}{_BODY}.{licence_id_check(_BODY)}"
SEEDS = {
    "uscc": [samples.uscc(_CHANCE) for _ in range(20)]
    + ["N2232722MF1234567T", "91350100M000100Y43", "0" * 18, "00000000000000000X"],
    "resident_id": [samples.resident_id(_CHANCE) for _ in range(20)] + ["11010519491231002X"],
    "licence_id": [LICENCE_NUMBER, LICENCE_NUMBER.replace("SN123", "S")],
}
REFERENCES: dict[str, Callable[[str], bool]] = {
    "uscc": is_uscc,
    "resident_id": is_resident_id,
    "licence_id": is_licence_id,
}


@st.composite
def _near(draw: st.DrawFn, seeds: list[str]) -> str:
    """A valid number, or one with a few characters changed, cut, doubled or full-width."""
    text = list(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(text) - 1))
        text[place] = draw(st.sampled_from([*"0123456789XABIO.x ", "", "１", "中", "\0", "00"]))
    return "".join(text)


@pytest.mark.parametrize("name", list(KERNELS))
@given(data=st.data())
def test_kernel_agrees_with_the_scalar_reference(name: str, data: st.DataObject) -> None:
    cells = st.one_of(st.none(), st.text(max_size=20), _near(SEEDS[name]))
    values = data.draw(st.lists(cells, max_size=30))
    start = data.draw(st.integers(0, 3))
    column = pl.Series(values, dtype=pl.String)[start:]
    expected = [value is not None and REFERENCES[name](value) for value in values[start:]]
    assert KERNELS[name](column).tolist() == expected


@given(st.integers(1700, 2200), st.integers(0, 13), st.integers(0, 32))
def test_birth_dates_are_days_of_the_calendar(year: int, month: int, day: int) -> None:
    body = f"110105{year:04}{month:02}{day:02}002"
    number = body + resident_id_check(body)
    assert KERNELS["resident_id"](pl.Series([number])).tolist() == [is_resident_id(number)]


@pytest.mark.parametrize("name", list(KERNELS))
def test_valid_numbers_pass(name: str) -> None:
    verdicts = KERNELS[name](pl.Series(SEEDS[name])).tolist()
    assert verdicts == [REFERENCES[name](value) for value in SEEDS[name]]
    assert any(verdicts)
