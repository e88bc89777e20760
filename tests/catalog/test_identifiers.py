"""Identifiers: generated ones hold, any single changed character is refused."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog import identifiers as ids

GOOD_USCC = [
    "11430000006122244L",
    "11220000013544541J",
    "11330105002500287C",
    "11100000000013338W",
    "91350100M000100Y43",
    "N2232722MF1234567T",
]
GOOD_LICENCES = [
    "11100000000013338W011.11430000006122244L.20230000403.001.U",
    "11100000000013338W032.11220000013544541J.2430599.001.F",
    "11100000MB03271699022.340100.000000016.001.9",
    "11100000000013338W009.11330105002500287C.2025052201.002.0",
]

digits = st.sampled_from("0123456789")


@st.composite
def usccs(draw: st.DrawFn) -> str:
    letter = st.sampled_from(ids.USCC_ALPHABET)
    head = draw(st.text(letter, min_size=8, max_size=8))
    body = draw(st.text(letter, min_size=8, max_size=8).filter(lambda s: s != "0" * 8))
    first17 = head + body + ids.organisation_check(body)
    return first17 + ids.uscc_check(first17)


@st.composite
def resident_ids(draw: st.DrawFn) -> str:
    born = draw(st.dates(date(1800, 1, 1), date(2099, 12, 31)))
    region = draw(st.integers(100000, 999999))
    first17 = f"{region}{born:%Y%m%d}{draw(st.integers(0, 999)):03d}"
    return first17 + ids.resident_id_check(first17)


@pytest.mark.parametrize("code", GOOD_USCC)
def test_known_usccs_hold(code: str) -> None:
    assert ids.is_uscc(code)


@pytest.mark.parametrize(
    "code",
    [
        "0" * 18,
        "00000000000000000X",
        "1" * 18,
        "",
        "11430000006122244l",
        "１１430000006122244L",
        "11430000006122244L\n",
        "11100000000013338I",
    ],
)
def test_placeholders_and_wrong_shapes_are_refused(code: str) -> None:
    assert not ids.is_uscc(code)


@given(usccs())
def test_made_usccs_hold(code: str) -> None:
    assert ids.is_uscc(code) or len(set(code[:17])) == 1


@given(usccs(), st.integers(0, 17), st.sampled_from(ids.USCC_ALPHABET))
def test_one_changed_character_of_a_uscc_is_refused(code: str, at: int, letter: str) -> None:
    changed = code[:at] + letter + code[at + 1 :]
    assert changed == code or not ids.is_uscc(changed)


@given(resident_ids())
def test_made_citizen_numbers_hold(number: str) -> None:
    assert ids.is_resident_id(number)


@given(resident_ids(), st.integers(0, 17), digits)
def test_one_changed_digit_of_a_citizen_number_is_refused(number: str, at: int, digit: str) -> None:
    changed = number[:at] + digit + number[at + 1 :]
    assert changed == number or not ids.is_resident_id(changed)


def test_the_standards_own_citizen_number_holds() -> None:
    assert ids.is_resident_id("11010519491231002X")


@pytest.mark.parametrize(
    "number", ["110105194912310021", "11010519490231002X", "11010519491231002x"]
)
def test_wrong_citizen_numbers_are_refused(number: str) -> None:
    assert not ids.is_resident_id(number)


@pytest.mark.parametrize("number", GOOD_LICENCES)
def test_licences_from_the_wild_hold(number: str) -> None:
    assert ids.is_licence_id(ids.LICENCE_ID_ROOT + number)


@given(
    st.sampled_from(GOOD_LICENCES), st.integers(0, 56), st.sampled_from(ids.ORGANISATION_ALPHABET)
)
def test_one_changed_character_of_a_licence_is_refused(number: str, at: int, letter: str) -> None:
    at %= len(number)
    changed = number[:at] + letter + number[at + 1 :]
    assert changed == number or not ids.is_licence_id(ids.LICENCE_ID_ROOT + changed)


@pytest.mark.parametrize("short", ["", "1", "1" * 16])
def test_a_check_digit_of_a_wrong_length_is_refused(short: str) -> None:
    for check in (ids.uscc_check, ids.organisation_check, ids.resident_id_check):
        with pytest.raises(ValueError, match="before its check digit"):
            check(short)
