"""A draft of the catalog: what is guessed, that the validator agrees, that the loader takes it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.loader import load
from exchange.catalog.model import Department
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.draft.guess import SourceColumn, guess
from exchange.validate.draft.proposal import Draft, Facts, draft
from exchange.validate.draft.text import catalog_text
from exchange.validate.draft.words import field_name
from exchange.validate.validator import compile_resource

TODAY = date(2026, 11, 30)
DATA = Department(id="data", code="11232700MB1C531139", name="-")
HEAD = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
"""

GUESSES: list[tuple[str, list[Any], str]] = [
    ("身份证号", ["11010519491231002X", "110105194912310021"] * 5, "resident_id"),
    ("a", ["11010519491231002X"] * 10, "resident_id"),
    ("b", ["11232700MB1C531139"] * 10, "uscc"),
    ("c", ["13912345678"] * 10, "mobile"),
    ("联系方式", ["0457-2123456", "13912345678"] * 5, "phone"),
    ("d", ["zhang.san@dxal.gov.cn"] * 10, "email"),
    ("行政区划代码", ["232700", "232701"] * 5, "region"),
    ("邮政编码", ["165000", "165100"] * 50, "digits(6)"),
    ("成立日期", ["2020-01-02", "2020年1月3日", "20200104"], "date"),
    ("e", [20200101 + n for n in range(9)], "integer"),
    ("csrq", [20200101 + n for n in range(9)], "date"),
    ("更新时间", ["2026-11-23 08:30:00"] * 3, "datetime"),
    ("f", [date(2026, 1, 2)], "date"),
    ("性别", ["男", "女"] * 5, "code"),
    ("县区", ["呼玛县", "塔河县", "漠河市"] * 20, "code"),
    ("g", ["2023", "2024"] * 40, "integer"),
    ("是否上市", ["1", "0"] * 5, "boolean"),
    ("h", [True, False], "boolean"),
    ("注册资本（万元）", ["12.5", "1,000", "7"] * 3, "decimal(16,2)"),
    ("i", ["1.123456"], "decimal(16,6)"),
    ("j", [1.5, 0.1], "decimal(16,2)"),
    ("k", [1e-30, 1e30], "double"),
    ("l", [1.0, 2.0], "integer"),
    ("m", [f"{n:06d}" for n in range(30)], "digits(6)"),
    ("n", [str(n) for n in range(30)], "integer"),
    ("编号", [str(n) for n in range(30)], "text(10)"),
    ("o", ["6222020000000000000"] * 9, "free_text(500)"),
    ("银行卡号", ["6222020000000000000"] * 9, "bank_card"),
    ("p", ["a" * 64, "b" * 64] * 5, "hex(64)"),
    ("姓名", ["欧阳小明", "Smith"] * 5, "person(50)"),
    ("xm", ["某某"] * 5, "person(50)"),
    ("q", ["王小明", "李四", "张三丰"] * 5, "person(50)"),
    ("单位名称", ["王家村委会", "李家村委会"] * 5, "text(10)"),
    ("住址", ["黑龙江省大兴安岭地区呼玛县"] * 3, "address(200)"),
    ("备注", ["请回电13912345678", "好"], "free_text(500)"),
    ("r", ["道路运输"], "text(10)"),
    ("s", [None, None], "text(200)"),
    ("手机号", [None, " "], "mobile"),
]


@pytest.mark.parametrize(("name", "values", "expected"), GUESSES, ids=[g[0] for g in GUESSES])
def test_types_are_guessed(name: str, values: list[Any], expected: str) -> None:
    found = guess(pl.Series(name, values, strict=False), SourceColumn(name), today=TODAY)
    assert found.type == expected


def test_the_share_is_of_the_values_that_the_validator_takes() -> None:
    mobiles = pl.Series("手机", ["13912345678", "139 1234 5678", None, " ", "13912345679", "x"])
    assert guess(mobiles, SourceColumn("手机"), today=TODAY).share == 0.5


def test_what_the_source_says_is_used() -> None:
    """Comments are titles and hints, a declared length is the length, NOT NULL is required."""
    entry = {
        "name": "t_qy",
        "comment": "企业",
        "key": ["id"],
        "columns": [
            {"name": "id", "type": "BIGINT", "nullable": False, "comment": "编号"},
            {"name": "c1", "type": "VARCHAR(120)", "nullable": False, "comment": "企业名称"},
            {"name": "c2", "type": "VARCHAR(18)", "comment": "法定代表人姓名"},
            {"name": "c3", "type": "TIMESTAMP"},
        ],
    }
    columns = {"id": [1, 2], "c1": ["甲", "乙"], "c2": ["某某", None], "c3": [None, None]}
    made = _draft(pl.DataFrame(columns, schema_overrides={"c3": pl.Datetime}), Facts.of(entry))
    fields = {item.name: item for item in made.resource.fields}
    assert (made.resource.title, made.resource.key, made.key_from) == ("企业", ("id",), "source")
    assert {name: item.type.spec for name, item in fields.items()} == {
        "id": "integer",
        "c1": "text(120)",
        "c2": "person(18)",
        "c3": "datetime",
    }
    assert [fields[n].title for n in ("id", "c1", "c3")] == ["编号", "企业名称", "c3"]
    assert [fields[n].required for n in ("id", "c1", "c2")] == [True, True, False]
    assert made.first[0]["c2"] == "某*"


def test_a_key_is_proposed_where_the_source_has_none() -> None:
    uscc = ["11232700MB1C531139", "11220000013544541J", "11430000006122244L"]
    frame = pl.DataFrame({"序号": ["1", "2", "3"], "名称": ["甲", "乙", "丙"], "代码": uscc})
    made = _draft(frame)
    assert (made.resource.key, made.key_from) == (("code",), "unique")
    digits = pl.DataFrame(
        {
            "学校名称": [f"学校{n}" for n in range(20)],
            "学校标识码": [f"{n:010d}" for n in range(20)],
        }
    )
    assert _draft(digits).resource.key == ("school_id_code",)
    twice = pl.DataFrame({"年": ["1", "1", "2", "2"], "月": ["1", "2", "1", "2"]})
    assert _draft(twice).key_from == "unique"
    assert len(_draft(twice).resource.key) == 2
    none = _draft(pl.DataFrame({"a": ["x", "x"]}))
    assert (none.key_from, none.refused) == ("none", 1)
    assert "no column has unique values" in catalog_text(none, "en")


def test_names_are_proposed() -> None:
    assert field_name("统一社会信用代码", 1) == "uscc"
    assert field_name("注册资本（万元）", 2) == "registered_capital"
    assert field_name("奇怪的列", 3) == "f3"
    assert field_name("XM", 4) == "XM"
    frame = pl.DataFrame({"姓名": ["a"], "name": ["b"], "NAME": ["c"], "cd_id": ["d"], "f1": ["e"]})
    names = [item.name for item in _draft(frame).resource.fields]
    assert len({name.lower() for name in names}) == 5
    assert names[1] == "name"
    assert names[0] != "name"
    assert "cd_id" not in names


def test_what_would_be_refused_is_told_masked() -> None:
    mobiles = ["13912345678"] * 8 + ["13812345678x", "1381234567"]
    made = _draft(pl.DataFrame({"id": list(range(10)), "手机": mobiles}))
    told = {refusal.rule: refusal.count for refusal in made.refusals}
    assert (told, made.refused) == ({"length": 1, "pattern": 2}, 2)
    text = catalog_text(made, "zh") + "".join(row["手机"] for row in made.first)
    assert "会拒收 2 条" in text
    assert not any(mobile in text for mobile in mobiles)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
cells = (
    st.none()
    | st.sampled_from(
        [
            "男",
            "女",
            "1",
            "0",
            "2026-01-02",
            "11010519491231002X",
            "a: b",
            "#",
            "'",
            '"',
            "1.5",
            "\n",
        ]
    )
    | st.text(st.characters(codec="utf-8"), max_size=8)
)


@settings(max_examples=30)
@given(st.lists(names, min_size=1, max_size=5, unique=True), st.data())
def test_the_loader_takes_every_draft_and_reads_what_was_meant(
    columns: list[str], data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 12))
    frame = pl.DataFrame(
        {name: data.draw(st.lists(cells, min_size=rows, max_size=rows)) for name in columns},
        schema=dict.fromkeys(columns, pl.String),
    )
    made = _draft(frame)
    catalog = _load(HEAD + catalog_text(made, "zh"))
    loaded = catalog.resources["drafted"]
    assert loaded.fields == made.resource.fields
    assert loaded.key == made.resource.key
    assert {n: dict(t.values) for n, t in catalog.tables.items()} == {
        n: dict(t.values) for n, t in made.tables.items()
    }
    checked = compile_resource(loaded, catalog.tables).check(
        frame, today=TODAY, claimed=ClaimedKeys()
    )
    assert checked.rejected.height == made.refused
    assert not checked.ignored_columns


def _draft(frame: pl.DataFrame, facts: Facts | None = None) -> Draft:
    return draft(
        frame,
        facts or Facts("来源"),
        name="drafted",
        code="399999/1",
        department=DATA,
        today=TODAY,
    )


def _load(text: str) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        return load(path)
