"""Business types: the table, and what each accepts."""

from __future__ import annotations

import contextlib
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog.fieldtext import parse_field
from exchange.catalog.frames import dtype
from exchange.catalog.model import Physical
from exchange.catalog.types import TYPES, BadType, parse_type

ACCEPTED = {
    "uscc": ["11232700MB1C531139", "N2232722MF1234567T"],
    "resident_id": ["11010519491231002X"],
    "mobile": ["13912345678"],
    "phone": ["13912345678", "0457-2123456", "04572123456", "2123456", "400-123-4567", "12345"],
    "email": ["zhang.san@dxal.gov.cn"],
    "bank_card": ["6222020000000000000"],
    "region": ["232700"],
    "division": ["23", "2327", "232701", "232701100", "232701100001"],
    "digits(10)": ["4111010001"],
    "hex(4)": ["0aFf"],
    "licence_id": ["1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U"],
}
REFUSED = {
    "uscc": ["11232700MB1C53113O", "11232700MB1C53113", "１1232700MB1C531139"],
    "resident_id": ["110105194912310021X", "01010519491231002X", "11010519491331002X"],
    "mobile": ["12912345678", "139１2345678", "+8613912345678"],
    "phone": ["1391234567a", "无", "0457--2123456"],
    "email": ["zhang@", "@gov.cn", "z@h"],
    "bank_card": ["622202"],
    "region": ["2327", "032700"],
    "division": ["2", "232", "23270110", "2327011000"],
    "digits(10)": ["411101000", "41110100010", "4111010001.0", "４111010001"],
    "hex(4)": ["0aFg"],
    "licence_id": ["11100000000013338W011"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in ACCEPTED.items() for v in vs])
def test_a_good_value_fits_in_python_and_in_polars(name: str, value: str) -> None:
    kind = parse_type(name)
    assert kind.pattern is not None
    assert re.fullmatch(kind.pattern, value)
    assert pl.Series([value]).str.contains(kind.pattern).all()
    assert kind.max_chars is not None
    assert len(value) <= kind.max_chars


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in REFUSED.items() for v in vs])
def test_a_bad_value_fits_in_neither(name: str, value: str) -> None:
    kind = parse_type(name)
    assert kind.pattern is not None
    assert not re.fullmatch(kind.pattern, value)
    assert not pl.Series([value]).str.contains(kind.pattern).any()


@pytest.mark.parametrize("name", TYPES)
def test_the_example_of_a_type_is_that_type(name: str) -> None:
    entry = TYPES[name]
    kind = parse_type(entry.example)
    assert kind.name == name
    assert kind.spec == entry.example
    assert dtype(kind) is not None
    assert (kind.pattern is None) or (kind.pattern.startswith("^") and kind.pattern.endswith("$"))


def test_a_type_carries_everything_at_once() -> None:
    citizen = parse_type("resident_id")
    assert (citizen.check, citizen.mask, citizen.max_chars) == ("resident_id", "resident_id", 18)
    money = parse_type("decimal(16, 6)")
    assert (money.physical, money.precision, money.scale) == (Physical.DECIMAL, 16, 6)
    assert money.spec == "decimal(16,6)"
    assert parse_type("licence_id").check is None
    assert parse_type("licence_id(strict)").check == "licence_id"
    assert parse_type("code(sex)").table == "sex"


@pytest.mark.parametrize(
    "text",
    [
        "text(0)",
        "text(-1)",
        "text(1000000)",
        "decimal(6,16)",
        "licence_id(no)",
        "",
        "uscc(18)",
        "date()x",
    ],
)
def test_a_bad_type_is_explained(text: str) -> None:
    with pytest.raises(BadType) as caught:
        parse_type(text)
    assert caught.value.what.zh
    assert caught.value.hint.zh


@given(st.text(max_size=40))
def test_any_field_text_is_read_or_explained(text: str) -> None:
    with contextlib.suppress(BadType):
        assert parse_field(text).title
