"""Masking: the customary forms, and never twice."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.catalog.masking import RULES, mask, mask_field
from exchange.catalog.model import Catalog, Field, Sensitivity
from exchange.catalog.types import TYPES, parse_type

FORMS = [
    ("name", "张三", "张*"),
    ("name", "张小三", "张**"),
    ("name", "阿不都·买买提", "阿**"),
    ("name", "张", "*"),
    ("resident_id", "370101199001011234", "370***********1234"),
    ("resident_id", "370101900101123", "370********1123"),
    ("resident_id", "E12345678", "E*******8"),
    ("resident_id", "E123", "***"),
    ("mobile", "13812341111", "138****1111"),
    ("mobile", "1381234", "***"),
    ("phone", "0457-2123456", "0457-****3456"),
    ("phone", "02112345678", "021****5678"),
    ("phone", "2123456", "****3456"),
    ("phone", "13812341111", "138****1111"),
    ("phone", "12345", "***"),
    ("email", "zhang@dxal.gov.cn", "z***@dxal.gov.cn"),
    ("email", "zhang", "***"),
    ("address", "黑龙江省大兴安岭地区漠河市西林吉镇振兴街1号", "黑龙江省大兴安岭地区漠河市***"),
    ("address", "黑龙江省大兴安岭地区加格达奇区人民路1号", "黑龙江省大兴安岭地区加格达奇区***"),
    ("address", "哈尔滨市南岗区中山路1号", "哈尔滨市南岗区***"),
    ("address", "人民路1号", "***"),
    ("bank_card", "6222020000001234", "************1234"),
    ("bank_card", "1234", "***"),
    (
        "free_text",
        "我叫张三，电话13812341111，身份证370101199001011234。",
        "我叫张三，电话138****1111，身份证370***********1234。",
    ),
    (
        "free_text",
        "卡6222020000001234，邮箱z1@a.cn，家0457-2123456",
        "卡************1234，邮箱z***@a.cn，家0457-****3456",
    ),
    ("free_text", "工单20260101，3次", "工单20260101，3次"),
    ("name", "", ""),
    ("no such rule", "张三", "***"),
]


@pytest.mark.parametrize(("rule", "value", "masked"), FORMS)
def test_a_value_is_masked_in_the_customary_form(rule: str, value: str, masked: str) -> None:
    assert mask(rule, value) == masked


VALUES = st.text(max_size=40) | st.text(
    st.sampled_from("0123456789张省市县区地州盟旗*@.-aX"), max_size=40
)


@given(st.sampled_from(sorted(RULES)), VALUES)
@example("address", "市市区")
@example("free_text", "1*@a.b")
def test_masking_twice_changes_nothing(rule: str, value: str) -> None:
    once = mask(rule, value)
    assert mask(rule, once) == once


@pytest.mark.parametrize("name", TYPES)
def test_every_rule_that_a_type_names_exists(name: str) -> None:
    rule = parse_type(TYPES[name].example).mask
    assert rule is None or rule in RULES


def test_personal_data_without_a_rule_is_hidden_altogether(example: Catalog) -> None:
    order = example.resources["hotline_order"]
    assert mask_field(order.field("phone"), "13812341111") == "138****1111"
    assert mask_field(order.field("sex"), "1") == "***"
    assert mask_field(order.field("sex"), "") == ""
    assert mask_field(order.field("title"), "路灯不亮") == "路灯不亮"
    secret = Field(name="x", title="x", type=parse_type("text(9)"), sensitivity=Sensitivity.S4)
    assert mask_field(secret, "x") == "***"
