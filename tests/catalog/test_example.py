"""The rules of the example catalog, run over records that keep and break them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from exchange.catalog.frames import frame_schema
from exchange.catalog.model import Catalog

Cases = dict[str, tuple[dict[str, object], set[str]]]

TODAY = date(2026, 11, 23)
CALL = datetime(2026, 11, 23, 8, tzinfo=UTC)
DIVISIONS = Path(__file__).parents[3] / "shared" / "data" / "divisions-china.csv"


def broken(catalog: Catalog, resource: str, **values: object) -> set[str]:
    """Name the rules that a record breaks, and the fields that a condition asks for in vain."""
    found = catalog.resources[resource]
    frame = pl.DataFrame([values], schema=frame_schema(found.fields))
    frame = frame.with_columns(pl.lit(TODAY).alias("today"))
    conditions = {rule.id: rule.expression for rule in found.rules} | {
        field.name: f"NOT ({field.required_when}) OR {field.name} IS NOT NULL"
        for field in found.fields
        if field.required_when
    }
    return {
        name
        for name, condition in conditions.items()
        if frame.select(pl.sql_expr(condition)).item() is False
    }


def counterparty(
    prefix: str, kind: str = "法人及非法人组织", **values: object
) -> dict[str, object]:
    shared: dict[str, object] = {f"{prefix}_xdr_lb": kind}
    if kind == "法人及非法人组织":
        shared |= {f"{prefix}_xdr_shxym": "11232700MB1C531139", f"{prefix}_frdb": "张三"}
    return shared | {f"{prefix}_{name}": value for name, value in values.items()}


LICENSES: Cases = {
    "a company": ({}, set()),
    "no code": ({"xk_xdr_shxym": None}, {"xk_xdr_shxym"}),
    "no representative": ({"xk_frdb": None}, {"xk_frdb"}),
    "half a document": ({"xk_fr_zjlx": "02"}, {"xk_fr_document"}),
    "a short citizen number": ({"xk_fr_zjlx": "01", "xk_fr_zjhm": "123"}, {"xk_fr_citizen"}),
    "a passport": ({"xk_fr_zjlx": "02", "xk_fr_zjhm": "E12345678"}, set()),
    "ends before it begins": ({"xk_yxqzi": date(2026, 1, 1)}, {"valid_period"}),
    "decided tomorrow": ({"xk_jdrq": TODAY + timedelta(1)}, {"decided_by_today"}),
    "valid for ever": ({"xk_yxqzi": date(2099, 12, 31)}, set()),
    "a shop": (counterparty("xk", "个体工商户", xdr_shxym=None, frdb=None), set()),
    "a person without papers": (
        counterparty("xk", "自然人", xdr_shxym=None, frdb=None),
        {"xk_xdr_zjlx", "xk_xdr_zjhm"},
    ),
    "a person": (
        counterparty("xk", "自然人", xdr_zjlx="01", xdr_zjhm="11010519491231002X"),
        set(),
    ),
}


@pytest.mark.parametrize("name", LICENSES)
def test_licences(example: Catalog, name: str) -> None:
    values, expected = LICENSES[name]
    good = counterparty("xk") | {
        "xk_jdrq": TODAY,
        "xk_yxqz": date(2026, 11, 1),
        "xk_yxqzi": date(2031, 10, 31),
    }
    assert broken(example, "credit_license", **(good | values)) == expected


PENALTIES: Cases = {
    "a warning": ({}, set()),
    "a fine": ({"cf_cflb": "罚款", "cf_nr_fk": Decimal("0.2")}, set()),
    "a fine of nothing": ({"cf_cflb": "罚款", "cf_nr_fk": Decimal(0)}, {"fine_amount"}),
    "a fine without amount": ({"cf_cflb": "警告；罚款"}, {"cf_nr_fk"}),
    "a confiscation without amount": ({"cf_cflb": "没收违法所得"}, {"cf_nr_wfff"}),
    "a suspension of nothing": ({"cf_cflb": "暂扣许可证件"}, {"cf_nr_zkdx"}),
    "a kind of its own": ({"cf_cflb": "口头教育"}, {"penalty_kind"}),
    "shown before": ({"cf_gsjzq": TODAY}, {"shown_after_decision"}),
    "decided tomorrow": (
        {"cf_jdrq": TODAY + timedelta(1), "cf_gsjzq": TODAY + timedelta(9)},
        {"decided_by_today"},
    ),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(example: Catalog, name: str) -> None:
    values, expected = PENALTIES[name]
    good = counterparty("cf") | {
        "cf_cflb": "警告",
        "cf_jdrq": TODAY,
        "cf_gsjzq": TODAY + timedelta(365),
    }
    assert broken(example, "credit_penalty", **(good | values)) == expected


ORDERS: Cases = {
    "a new order": ({}, set()),
    "signed": ({"status": "3", "sign_time": CALL}, set()),
    "signed without time": ({"status": "3"}, {"sign_time"}),
    "finished": (
        {"status": "5", "sign_time": CALL, "finish_time": CALL + timedelta(1), "result": "已修复"},
        set(),
    ),
    "finished without result": (
        {"status": "5", "sign_time": CALL, "finish_time": CALL + timedelta(1)},
        {"result"},
    ),
    "finished in name only": ({"status": "5", "sign_time": CALL}, {"finished"}),
    "dispatched before the call": ({"call_time": CALL + timedelta(1)}, {"in_order"}),
    "due before the dispatch": ({"sign_due": CALL - timedelta(1)}, {"due_after_dispatch"}),
    "off the map": ({"lng": 0.0, "lat": 0.0}, {"on_the_map"}),
    "in Mohe": ({"lng": 122.5, "lat": 53.5}, set()),
    "returned without reason": ({"return_cnt": 1}, {"return_reason"}),
}


@pytest.mark.parametrize("name", ORDERS)
def test_hotline_orders(example: Catalog, name: str) -> None:
    values, expected = ORDERS[name]
    good = {
        "call_time": CALL,
        "dispatch_time": CALL,
        "sign_due": CALL + timedelta(1),
        "finish_due": CALL + timedelta(5),
        "status": "2",
    }
    assert broken(example, "hotline_order", **(good | values)) == expected


SEALS: Cases = {
    "in use": ({}, set()),
    "in use but not filed": ({"filing_no": None}, {"filing_no"}),
    "cancelled without reason": ({"status": "4"}, {"cancel_reason"}),
    "a short police code": ({"police_code": "2327"}, {"police_code_digits"}),
    "valid backwards": ({"valid_to": CALL - timedelta(1)}, {"valid_period"}),
    "filed before it was approved": ({"approve_date": TODAY + timedelta(1)}, {"steps_in_order"}),
}


@pytest.mark.parametrize("name", SEALS)
def test_seals(example: Catalog, name: str) -> None:
    values, expected = SEALS[name]
    good = {
        "police_code": "2327000000001",
        "created_at": CALL,
        "valid_from": CALL,
        "valid_to": CALL + timedelta(3650),
        "filing_no": "1",
        "filing_date": TODAY,
        "status": "1",
    }
    assert broken(example, "eseal_registry", **(good | values)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"code": "23", "level": "省级"}, set()),
        ({"code": "2327", "level": "地级"}, {"parent_code"}),
        ({"code": "232761", "level": "县级", "parent_code": "2327"}, set()),
        ({"code": "232761", "level": "县级", "parent_code": "2306"}, {"inside_parent"}),
        ({"code": "2327", "level": "地级", "parent_code": "2327"}, {"inside_parent"}),
    ],
)
def test_divisions(example: Catalog, values: dict[str, object], expected: set[str]) -> None:
    assert broken(example, "divisions", **values) == expected


@pytest.mark.parametrize("path", [DIVISIONS] if DIVISIONS.exists() else [])
def test_the_real_divisions_keep_every_rule(example: Catalog, path: Path) -> None:
    divisions = example.resources["divisions"]
    frame = pl.read_csv(path, infer_schema=False)
    assert frame.height == 44_703
    assert frame["code"].is_unique().all()
    for rule in divisions.rules:
        assert frame.filter(~pl.sql_expr(rule.expression)).is_empty()
    pattern = divisions.field("code").type.pattern or ""
    assert frame["code"].str.contains(pattern).all()
    assert set(frame["level"]) == set(example.tables["division_level"].values)
    assert (frame["name"].str.len_chars().max() or 0) <= 60  # type: ignore[operator]
