"""Explanations: what a person reads about a resource and a field."""

from __future__ import annotations

import pytest

from exchange.catalog.explain import explain
from exchange.catalog.model import Catalog, Sensitivity, ShareType, UpdateCycle
from exchange.catalog.words import SENSITIVITY, SHARE_TYPE, UPDATE_CYCLE
from exchange.errors import Rejected

ASKED = {
    "credit_penalty": ["104002/1", "每日更新", "fine_amount", "合起来不得重复：cf_wsh"],
    "credit_penalty.cf_nr_fk": ["共 16 位，其中小数 6 位", "cf_cflb LIKE '%罚款%'", "fine_amount"],
    "credit_penalty.cf_xdr_shxym": ["两个校验位", "18 个字符"],
    "credit_penalty.cf_wsh": ["必填", "参与唯一性"],
    "credit_license.xk_yxqzi": ["2099-12-31 表示长期"],
    "credit_license.xk_xdr_zjlx": ["01 身份证", "2018"],
    "hotline_order": ["有条件共享：用于诉求办理"],
    "hotline_order.phone": ["按 phone 规则脱敏", "一般个人信息"],
    "universities.school_code": ["取自源列“学校标识码”", "^[0-9]{10}$"],
    "universities.remark": ["可以为空"],
}


@pytest.mark.parametrize("subject", ASKED)
def test_an_explanation_says_what_is_asked_for(example: Catalog, subject: str) -> None:
    answer = explain(example, subject)
    text = "\n".join(line.zh for line in answer.lines)
    for words in ASKED[subject]:
        assert words in text
    assert all(line.en for line in answer.lines)
    assert answer.as_dict()["subject"] == subject


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("credit_licence", "credit_license"),
        ("hotline_order.phon", "phone"),
        ("hotline_order.", "one of"),
    ],
)
def test_an_unknown_name_brings_a_suggestion(example: Catalog, subject: str, meant: str) -> None:
    with pytest.raises(Rejected) as caught:
        explain(example, subject)
    assert meant in caught.value.hint.en


def test_every_word_is_translated(example: Catalog) -> None:
    assert set(SENSITIVITY) == set(Sensitivity)
    assert set(SHARE_TYPE) == set(ShareType)
    assert set(UPDATE_CYCLE) == set(UpdateCycle)
    for resource in example.resources.values():
        for field in resource.fields:
            explain(example, f"{resource.name}.{field.name}")
