"""A small catalog that tests change line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.catalog.loader import load
from exchange.catalog.model import Catalog

ROOT = Path(__file__).parents[2]

SMALL = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 营商环境建设监督局}
tables:
  sex: {title: 性别, edition: "2003", values: {0: 未知, 1: 男, 2: 女, 9: 未说明}}
groups:
  holder:
    fields: {name: 姓名 person(50)!, id_no: 证件号码 id_number(64) when $kind = '个人', kind: 类别 text(8)!}
    rules:
      id_length: LENGTH($id_no) > 5 | 证件号码过短 | the number is too short
resources:
  people:
    code: 307001/1
    title: 人员
    department: data
    share: 1
    cycle: daily
    key: [code]
    unique: [[a_name, a_kind]]
    columns: {编号: code}
    limits: {max_count: 100, max_percent: 1.5, window_rows: 20000}
    fields:
      - {use: holder, prefix: a_}
      - {code: 编号 digits(10)!, sex: 性别 code(sex) S3, born: 出生日期 date, note: 备注 text(200) -- 可空}
      - {money: "金额 decimal(16,6)", seen: 时间 datetime, count: 次数 integer, ok: 是否 boolean}
    rules:
      born: born <= today | 出生日期在将来 | born in the future
"""  # noqa: E501 - line numbers stand in the tests


@pytest.fixture
def small() -> str:
    return SMALL


@pytest.fixture(scope="session")
def example() -> Catalog:
    return load(ROOT / "catalog.yaml")
