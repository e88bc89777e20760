"""The typical mistakes of a clerk: each with its line, its cause and its cure, zh and en."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from exchange.catalog.loader import FileErrors, load
from exchange.catalog.types import TYPES, BadType, parse_type
from exchange.catalog.words import COMMON_TYPES, SYNONYMS, SYNTAX, TYPE_SYNONYMS

GOOD = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
tables:
  state: {title: 企业状态, values: {1: 存续, 2: 注销}}
resources:
  companies:
    code: 307001/1
    title: 企业基本信息
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [uscc]
    fields:
      - {uscc: 统一社会信用代码 uscc!, name: 企业名称 text(200)!}
      - {founded: 成立日期 date!, status: 企业状态 code(state)!}
    rules:
      past: founded <= today | 成立日期不晚于今天 | founded not after today
"""
SECOND = """\
resources:
  others: {code: 307001/1, title: 其他, department: data, share: 1, cycle: daily, key: [a],
           fields: [{a: 甲 text(2)!}]}
"""


class Mistake(NamedTuple):
    """What is written instead, in which line it shows, and what is said of it."""

    right: str
    wrong: str
    line: int
    what: str
    cure: str


MISTAKES = {
    "indentation": Mistake(
        "    code: 307001/1", "   code: 307001/1", 10, "缩进不对", "缩进 4 格，上一行 3 格"
    ),
    "too deep": Mistake("    title", "      title", 10, "缩进不对", "缩进 6 格，上一行 4 格"),
    "not inside": Mistake(
        "  companies:\n", "companies:\n", 8, "不在“resources”里面", "多缩进 2 个空格"
    ),
    "full-width colon": Mistake("title: 企业基", "title：企业基", 10, "全角冒号", "改为半角“:”"),
    "colon in braces": Mistake("{uscc: ", "{uscc：", 17, "字段名", "“：”是全角字符"),
    "full-width bracket": Mistake("text(200)", "text（200）", 17, "看不懂字段", "改为半角“(”"),
    "full-width braces": Mistake("{founded", "｛founded", 18, "缩进不对，或值里有冒号", "“{”"),
    "full-width list": Mistake("[uscc]", "【uscc】", 15, "应为列表", "改为半角“[”"),
    "full-width comma": Mistake("uscc!, name", "uscc!，name", 17, "缺少逗号", "改为半角“,”"),
    "comma in a value": Mistake(
        "date!", "decimal(16,6)!", 18, "逗号把值断开了", '加引号，如 "金额 decimal(16,6)"'
    ),
    "no bracket": Mistake("key: [uscc]", "key: uscc", 15, "应为列表", "写 [uscc]"),
    "unknown type": Mistake("date!", "dat!", 18, "未知的类型“dat”", "是不是“date”？"),
    "type in words": Mistake("date!", "日期!", 18, "未知的类型“日期”", "“日期”写作 date"),
    "type of a database": Mistake("text(200)!", "字符串(200)!", 17, "未知的类型", "写作 text(200)"),
    "no such type": Mistake("date!", "农历!", 18, "未知的类型", "text(200) 文本、integer 整数"),
    "no length": Mistake("text(200)!", "text!", 17, "没有写长度", "text(200)"),
    "duplicate code": Mistake("resources:\n", SECOND, 11, "“307001/1”重复", "改名或删除"),
    "missing title": Mistake(
        "    title: 企业基本信息\n", "", 9, "缺少 title（名称）", "加上“title: …”"
    ),
    "share type in words": Mistake("share: 1", "share: 无条件共享", 12, "共享类型", "写作 1"),
    "no such share type": Mistake(
        "share: 1", "share: 4", 12, "共享类型“4”", "1 无条件共享, 2 有条件共享, 3 不予共享"
    ),
    "cycle in words": Mistake("cycle: daily", "cycle: 每日", 13, "更新周期", "“每日”写作 daily"),
    "cycle otherwise": Mistake("cycle: daily", "cycle: 每天", 13, "更新周期", "写作 daily"),
    "no such cycle": Mistake("cycle: daily", "cycle: 偶尔", 13, "更新周期", "weekly 每周"),
    "level in words": Mistake("sensitivity: S1", "sensitivity: 公开", 14, "分级", "写作 S1"),
    "code table": Mistake("code(state)", "code(stat)", 18, "代码表", "是不是“state”？"),
    "code table by title": Mistake("code(state)", "code(企业状态)", 18, "代码表", "不写名称"),
    "tab": Mistake("    title", "\ttitle", 10, "制表符", "用空格缩进"),
    "rule with an unknown field": Mistake(
        "founded <= today", "fuonded <= today", 20, "不存在的字段“fuonded”", "是不是“founded”？"
    ),
    "rule by title": Mistake(
        "founded <= today", "成立日期 <= today", 20, "不存在的字段", "“成立日期”写作 founded"
    ),
    "key by title": Mistake(
        "[uscc]", "[统一社会信用代码]", 15, "未知的主键字段", "“统一社会信用代码”写作 uscc"
    ),
    "department by name": Mistake(
        "department: data",
        "department: 大兴安岭地区营商环境建设监督局",
        11,
        "未知的部门",
        "写作 data",
    ),
    "deep nesting": Mistake(
        "    fields:\n", f"    fields: {'[' * 30}{']' * 30}\n", 16, "嵌套超过 16 层", "括号是否配对"
    ),
    "two documents": Mistake("resources:\n", "---\nresources:\n", 7, "只能有一个", "删除“---”"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_has_line_cause_and_cure(tmp_path: Path, mistake: Mistake) -> None:
    path = tmp_path / "catalog.yaml"
    assert mistake.right in GOOD
    path.write_text(GOOD.replace(mistake.right, mistake.wrong, 1), "utf-8")
    with pytest.raises(FileErrors) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.line == mistake.line, problem.show("zh")
    assert mistake.what in problem.what.zh
    assert mistake.cure in problem.hint.zh
    assert problem.what.en
    assert problem.hint.en
    assert not re.search("None|Error|expected|not allowed", problem.show("zh"))


def test_the_catalog_without_a_mistake_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(GOOD, "utf-8")
    assert load(path).resources["companies"].title == "企业基本信息"


def test_a_file_in_gbk_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_bytes(GOOD.encode("gbk"))
    with pytest.raises(FileErrors) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.show("zh") == (
        f"{path}:2: 文件不是 UTF-8 编码，看来是 GBK (在编辑器中另存为 UTF-8)"
    )


def test_what_people_write_for_a_type_names_one_that_exists() -> None:
    for word, example in TYPE_SYNONYMS.items():
        with pytest.raises(BadType) as caught:
            parse_type(word)
        assert caught.value.hint.zh == f"“{word}”写作 {example}"
        assert example.partition("(")[0] in TYPES
    assert set(COMMON_TYPES) <= set(TYPES)


def test_no_synonym_is_a_value_itself() -> None:
    assert not set(SYNONYMS) & set(SYNONYMS.values())
    assert all(what.zh and hint.zh for what, hint in SYNTAX.values())
