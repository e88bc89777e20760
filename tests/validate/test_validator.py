from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing.parametric import column, dataframes

from exchange.catalog.frames import frame_schema
from exchange.errors import Misconfigured
from exchange.log.frames import decode_frame, encode_frame
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import compile_resource
from tests.support.soak import TABLES_OF_ANYTHING
from tests.validate import reference
from tests.validate.samples import LICENCE, TABLES, VALIDATOR, check, field, found, good

NAMES = [item.name for item in LICENCE.fields]
SCHEMA = {"cd_operation": pl.Enum(["I", "U", "D"]), **frame_schema(LICENCE.fields)}


def _with(frame: pl.DataFrame, row: int, **cells: str | None) -> pl.DataFrame:
    return frame.with_columns(frame[name].scatter(row, value) for name, value in cells.items())


def test_good_rows_pass_typed() -> None:
    checked = check(good(3))
    assert found(checked) == []
    assert checked.accepted.schema == SCHEMA
    assert checked.accepted_rows.tolist() == [0, 1, 2]
    row = checked.accepted.row(0, named=True)
    assert row["cd_operation"] == "I"
    assert row["decided"] == date(2026, 1, 2)
    assert row["fine"] == Decimal("12.50")
    assert row["changed"] == datetime(2026, 1, 1, 19, 4, 5, tzinfo=UTC)
    assert (row["count"], row["public"], row["ratio"]) == (7, True, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("number", None, ["required:number"]),
        ("number", " \u3000\t", ["required:number"]),
        ("holder", "一" * 21, ["length:holder"]),
        ("holder", "a\0b", ["control:holder"]),
        ("holder", "\ufeffa", ["control:holder"]),
        ("holder", "a\u0085b", ["control:holder"]),
        ("holder", "a\x7fb", ["control:holder"]),
        ("code", None, ["required_when:code"]),
        ("code", "000000000000000000", ["check_digit:code"]),
        ("code", "1143000000612224", ["pattern:code"]),
        ("code", "１１４３０００００６１２２２４４Ｌ", ["pattern:code", "full_width:code"]),
        ("person", "11010519490230002X", ["check_digit:person"]),
        ("phone", "2390000111", ["pattern:phone"]),
        ("phone", "239000011112", ["length:phone", "pattern:phone"]),
        ("state", "3", ["table:state"]),
        ("state", "１", ["table:state", "full_width:state"]),
        ("decided", "2026-02-30", ["type:decided"]),
        ("decided", "0026-02-03", ["range:decided"]),
        ("decided", "2026-11-24", ["decided-past:decided"]),
        ("until", "2025-11-24", ["until-after:decided,until"]),
        ("until", "9999-12-31", []),
        ("until", "9998-12-31", ["range:until"]),
        ("fine", "12.345", ["scale:fine"]),
        ("fine", "123456", ["precision:fine"]),
        ("fine", "1,000", ["type:fine"]),
        ("fine", "1e3", ["type:fine"]),
        ("fine", "-1", ["fine-positive:fine"]),
        ("fine", None, []),
        ("changed", "2026-01-02", []),
        ("changed", "2026-01-02 24:61", ["type:changed"]),
        ("changed", "00000101", ["range:changed"]),  # a year 0 is no datetime of Python
        ("changed", "0000-01-01 00:00:00", ["range:changed"]),
        ("count", "1.5", ["type:count"]),
        ("count", "９", ["type:count", "full_width:count"]),
        ("public", "maybe", ["type:public"]),
        ("ratio", "NaN", ["type:ratio"]),
    ],
)
def test_one_fault_one_row(name: str, value: str | None, expected: list[str]) -> None:
    checked = check(_with(good(3), 1, **{name: value}))
    assert found(checked) == ([expected] if expected else [])
    assert checked.accepted.height == 3 - bool(expected)
    assert sum(checked.counts.values()) == len(expected)


def test_every_reason_of_a_row_with_the_value_and_both_languages() -> None:
    frame = _with(good(2), 0, number=None, fine="x", until="2025-01-01", holder="长" * 300)
    checked = check(frame)
    assert found(checked) == [
        ["required:number", "length:holder", "type:fine", "until-after:decided,until"]
    ]
    _, length, kind, until = checked.rejected["_reasons"][0].to_list()
    assert length["value"] == "长" * 200
    assert kind["value"] == "x"
    assert kind["zh"].startswith("字段fine：")
    assert kind["en"].startswith("fine ")
    assert until["value"] == "decided=2026-01-02; until=2025-01-01"
    assert checked.rejected.drop("_reasons").equals(frame[:1])
    assert checked.counts == {
        "required:number": 1,
        "length:holder": 1,
        "type:fine": 1,
        "until-after": 1,
    }


def test_a_failed_conversion_leaves_the_rules_in_peace() -> None:
    assert found(check(_with(good(1), 0, decided="soon"))) == [["type:decided"]]


def test_ignored_columns_are_told_and_reserved_ones_are_not() -> None:
    frame = good(1).with_columns(extra=pl.lit(1), _row=pl.lit(7), _defect=pl.lit(None))
    assert check(frame).ignored_columns == ("extra",)


def test_columns_are_mapped() -> None:
    resource = LICENCE.model_copy(update={"columns": {"许可编号": "number"}})
    validator = compile_resource(resource, TABLES)
    frame = good(1).rename({"number": "许可编号"}).with_columns(number=pl.lit("other"))
    assert check(frame, validator=validator).accepted["number"].to_list() == ["N0"]
    swapped = LICENCE.model_copy(update={"columns": {"serial": "number", "number": "serial"}})
    accepted = check(good(1), validator=compile_resource(swapped, TABLES)).accepted
    assert accepted.select("number", "serial").row(0) == ("S0", "N0")


def test_a_missing_required_column_names_the_near_one() -> None:
    with pytest.raises(Misconfigured, match=r"holder.*did you mean 'holders'"):
        check(good(1).rename({"holder": "holders"}))


def test_a_missing_optional_column_is_null() -> None:
    checked = check(good(2).drop("phone", "fine"))
    assert checked.accepted["phone"].null_count() == 2
    assert checked.accepted.schema == SCHEMA


def test_no_rows() -> None:
    for frame in (good(0), pl.DataFrame()):
        checked = check(frame)
        assert checked.accepted.schema == SCHEMA
        assert checked.rejected.is_empty()
        assert "_reasons" in checked.rejected.columns
    with pytest.raises(Misconfigured):
        check(good(0).drop("number"))


def test_operations() -> None:
    frame = good(6).with_columns(
        cd_operation=pl.Series(["I", None, "U", "D", "x", ""]), state=pl.lit(None, pl.String)
    )
    checked = check(frame)
    assert checked.accepted["cd_operation"].to_list() == ["D"]
    assert found(checked)[3] == ["operation:cd_operation", "required:state"]
    assert checked.rejected_rows.tolist() == [0, 1, 2, 4, 5]


def test_a_withdrawal_needs_its_key_and_nothing_else() -> None:
    frame = pl.DataFrame({"number": ["N1", None], "cd_operation": ["D", "D"]})
    checked = check(frame)
    assert checked.accepted["number"].to_list() == ["N1"]
    assert found(checked) == [["required:number"]]
    with pytest.raises(Misconfigured):
        check(frame.with_columns(cd_operation=pl.Series(["D", "I"])))


def test_broken_records_are_refused_with_the_connectors_words() -> None:
    frame = good(2).with_columns(_defect=pl.Series([None, "17 cells instead of 16"]))
    checked = check(frame)
    assert found(checked) == [["source.defect:_defect"]]
    assert checked.rejected["_reasons"][0][0]["value"] == "17 cells instead of 16"


# --- uniqueness ------------------------------------------------------------------------------


def test_the_first_of_a_key_wins_across_chunks() -> None:
    first = check(pl.concat([good(3), good(1, first=1)]))
    assert first.accepted_rows.tolist() == [0, 1, 2]
    assert found(first) == [["key:number", "unique:serial,issuer"]] or found(first) == [
        ["key:number"]
    ]
    again = check(good(2, first=2), first.claimed)
    assert again.rejected_rows.tolist() == [0]
    assert check(good(2, first=2)).rejected.is_empty()


def test_a_refused_record_claims_nothing() -> None:
    broken = _with(good(2), 0, phone="x").with_columns(number=pl.lit("N0"))
    checked = check(broken)
    assert checked.accepted_rows.tolist() == [1]
    # The refused one is told that it would be a repetition as well.
    assert found(checked) == [["pattern:phone", "key:number"]]


def test_groups_with_a_null_and_updates_are_not_compared() -> None:
    frame = good(3).with_columns(serial=pl.lit(None, pl.String))
    assert check(frame).rejected.is_empty()
    updates = pl.concat([good(1), good(1)]).with_columns(cd_operation=pl.Series(["I", "U"]))
    assert check(updates).rejected.is_empty()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 7))
def test_chunking_and_restarts_change_no_verdict(numbers: list[int], size: int) -> None:
    frame = good(len(numbers)).with_columns(
        number=pl.Series([f"N{number}" for number in numbers], dtype=pl.String)
    )
    whole = check(frame).accepted_rows.tolist()
    accepted, claimed_keys, items = [], ClaimedKeys(), []
    for start in range(0, frame.height, size):
        checked = check(frame[start : start + size], claimed_keys)
        accepted += [start + int(row) for row in checked.accepted_rows]
        items.append(checked.accepted)
        claimed_keys = ClaimedKeys()
        for chunk in items:
            claimed_keys = VALIDATOR.remember(chunk, claimed_keys)
    assert accepted == whole


# --- properties ------------------------------------------------------------------------------

_CELLS = {
    "number": ["N1", "N2", "N3"],
    "holder": ["公司", "a\nb", "〔2026〕1号", "x\u200by", "y" * 21],
    "kind": ["法人", "自然人"],
    "code": ["11430000006122244L", "91350100M000100Y43", "000000000000000000"],
    "person": ["11010519491231002X", "110105194912310021", "110105194902300021"],
    "phone": ["13900001111", "1390000111", "１３９00001111"],
    "state": ["1", "2", "3"],
    "decided": ["2026-01-02", "20260102", "2026/1/2", "2026年1月2日", "2026-01-02 00:00:00"],
    "until": ["2099-12-31", "9999-12-31", "2024-02-29", "2025-02-29", "1700-01-01", "2026012"],
    "fine": ["1", "1.50", "1.500", "1.505", "99999.99", "100000", "-1", ".5", "5.", "1e3", "."],
    "changed": [
        "2026-01-02 03:04:05",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678+08:00",
        "2026/01/02 03:04",
        "2026-01-02 03:04:60",
        "2026-01-02 24:00:00",
    ],
    "count": ["7", "-0", "+9", "9223372036854775807", "9223372036854775808", "1.0"],
    "public": ["是", "否", "true", "0", "2"],
    "ratio": ["0.5", "1e3", "inf", "nan", "1e999"],
    "serial": ["S1", "S2"],
    "issuer": ["11430000006122244L", "91350100M000100Y43"],
}
_DIRT = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "\u3000", "\0", "x", "中", " 1", "1 ", "\ufeff1", "0" * 3000]),
    st.text(max_size=5),
)


@st.composite
def _text_frames(draw: st.DrawFn) -> pl.DataFrame:
    """Text rows that are mostly good, with faults of all kinds in a few cells."""
    base = good(draw(st.integers(0, 8)))
    rows = base.to_dicts()
    for row in rows:
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
            row[name] = draw(st.one_of(st.sampled_from(_CELLS[name]), _DIRT))
    return pl.DataFrame(rows, schema=base.schema)


@settings(max_examples=200)
@given(_text_frames())
def test_columns_decide_as_rows_do(frame: pl.DataFrame) -> None:
    checked = check(frame)
    rows = frame.to_dicts()
    expected = [reference.read(row) for row in rows]
    refused = {
        int(row): [reason["rule"] for reason in reasons]
        for row, reasons in zip(
            checked.rejected_rows, checked.rejected["_reasons"].to_list(), strict=True
        )
    }
    for place, record in enumerate(expected):
        repeated = {"key", "unique"} & set(refused.get(place, []))
        assert (place in refused) == (record is None or bool(repeated)), (rows[place], refused)
    for place, row in zip(checked.accepted_rows, checked.accepted.to_dicts(), strict=True):
        assert row.pop("cd_operation") == "I"
        assert row == expected[place]
    for group in (["number"], ["serial", "issuer"]):
        assert checked.accepted.select(group).drop_nulls().is_duplicated().sum() == 0


@pytest.mark.soak
@settings(max_examples=TABLES_OF_ANYTHING.now, suppress_health_check=[HealthCheck.too_slow])
@given(
    dataframes(
        cols=[column(name, allow_null=True) for name in NAMES],
        excluded_dtypes=[pl.Object],
        max_size=6,
    ),
    st.sampled_from(["", "_row", "_defect", "cd_operation", "_reasons"]),
)
def test_garbage_of_any_type_is_data(frame: pl.DataFrame, reserved: str) -> None:
    if reserved:
        frame = frame.with_columns(frame["holder"].alias(reserved))
    checked = check(frame)
    assert checked.accepted.height + checked.rejected.height == frame.height
    rows = sorted([*checked.accepted_rows.tolist(), *checked.rejected_rows.tolist()])
    assert rows == list(range(frame.height))
    assert checked.accepted.schema == SCHEMA
    assert all(reasons for reasons in found(checked))
    # What is refused can be written down.
    assert decode_frame(encode_frame(checked.rejected)).height == checked.rejected.height


@settings(max_examples=60)
@given(_text_frames())
def test_typed_input_is_judged_as_its_text_was(frame: pl.DataFrame) -> None:
    accepted = check(frame).accepted
    again = check(accepted)
    assert found(again) == []
    assert again.accepted.equals(accepted)


def test_fields_in_the_key_are_required_and_checked_for_withdrawals() -> None:
    resource = LICENCE.model_copy(
        update={"key": ("code",), "unique": (), "fields": (field("code", "uscc"),), "rules": ()}
    )
    frame = pl.DataFrame({"code": ["11430000006122244L", None, "x"], "cd_operation": ["D"] * 3})
    checked = check(frame, validator=compile_resource(resource, TABLES))
    assert found(checked) == [["required:code"], ["pattern:code"]]
