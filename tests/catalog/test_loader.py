"""The loader: one good catalog, and every mistake with its line and a suggestion."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import example as explicit
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.catalog.loader import FileErrors, Problem, load, loads
from exchange.catalog.model import Catalog, Physical, Sensitivity, ShareType, UpdateCycle
from exchange.catalog.problems import CATALOG
from tests.catalog.conftest import ROOT, SMALL


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(FileErrors) as caught:
        loads(text)
    return caught.value.problems


def edited(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def test_a_small_catalog_is_read(small: str) -> None:
    catalog = loads(small)
    people = catalog.resources["people"]
    assert catalog.digest.startswith("sm3:")
    assert people.department.name == "营商环境建设监督局"
    assert [field.name for field in people.fields][:4] == ["a_name", "a_id_no", "a_kind", "code"]
    assert people.field("a_id_no").required_when == "a_kind = '个人'"
    assert people.field("a_name").sensitivity is Sensitivity.S3
    assert people.field("sex").sensitivity is Sensitivity.S3
    assert people.field("note").doc == "可空"
    assert people.field("money").type.physical is Physical.DECIMAL
    assert people.rules[0].id == "a_id_length"
    assert people.rules[0].fields == ("a_id_no",)
    assert people.rules[1].fields == ("born",)
    assert people.unique == (("a_name", "a_kind"),)
    assert people.columns == {"编号": "code"}
    assert people.limits.max_percent == 1.5
    assert people.share_type is ShareType.UNCONDITIONAL
    assert people.update_cycle is UpdateCycle.DAILY
    assert people.version == 1
    with pytest.raises(KeyError):
        people.field("nobody")


def test_the_digest_is_of_the_content(small: str) -> None:
    assert loads(small).digest == loads("# a remark\n" + small).digest
    assert loads(small).digest != loads(small.replace("次数", "数量")).digest


MISTAKES = {
    "unknown key": ("    title: 人员", "    titel: 人员", 15, "did you mean 'title'"),
    "missing key": ("    cycle: daily\n", "", 14, "add 'cycle: …'"),
    "duplicate key": ("    share: 1", "    share: 1\n    share: 2", 18, ":17 already"),
    "duplicate field": ("count: 次数", "sex: 次数", 26, ":25 already"),
    "fields that differ in case": ("count: 次数", "SEX: 次数", 26, ":25 already"),
    "unknown type": ("次数 integer", "次数 interger", 26, "did you mean 'integer'"),
    "type without length": ("text(200)", "text", 25, "how long it may be: text(200)"),
    "type with leading zero": ("text(200)", "text(0200)", 25, "from 1 to"),
    "full-width brackets": ("备注 text(200)", "备注 text（200）", 25, "full-width"),
    "argument where none goes": ("次数 integer", "次数 integer(3)", 26, "write integer"),
    "too much precision": ("decimal(16,6)", "decimal(39,6)", 26, "at most 38"),
    "unquoted decimal": ('"金额 decimal(16,6)"', "金额 decimal(16,6)", 26, "quote it"),
    "field without title": ("备注 text(200)", "text(200)", 25, "write 'title type'"),
    "required twice": ("编号 digits(10)!", "编号 digits(10)! when count > 1", 25, "required: !"),
    "unknown sensitivity": ("code(sex) S3", "code(sex) S5", 25, "the level is S1 to S4"),
    "code without table": ("code(sex)", "code()", 25, "write the table's key"),
    "unknown table": ("code(sex)", "code(sexe)", 25, "did you mean 'sex'"),
    "table without values": (
        "values: {0: 未知, 1: 男, 2: 女, 9: 未说明}",
        "values: {}",
        6,
        "{code: label}",
    ),
    "table with empty values": (
        "values: {0: 未知, 1: 男, 2: 女, 9: 未说明}",
        "values: ''",
        6,
        "{code: label}",
    ),
    "rule with missing field": ("born <= today", "bron <= today", 28, "did you mean 'born'"),
    "rule that is not boolean": ("born <= today", "count + 1", 28, "comparison"),
    "rule without fields": ("born <= today", "1 = 1", 28, "name fields"),
    "rule with an aggregate": ("born <= today", "count > AVG(count)", 28, "without aggregates"),
    "rule that may raise": ("born <= today", "CAST(note AS INT) > 1", 28, "TRY_CAST"),
    "rule with a cast to a date": (
        "born <= today",
        "TRY_CAST(note AS DATE) <= today",
        28,
        "a field of the type date",
    ),
    "rule with a place that may be negative": (
        "born <= today",
        "SUBSTR(note, 1, count) = 'a'",
        28,
        "constants",
    ),
    "rule with a column as pattern": (
        "born <= today",
        "REGEXP_LIKE(note, note)",
        28,
        "patterns as constants",
    ),
    "rule with an exponent": ("born <= today", "POWER(count, count) > 1", 28, "exponents"),
    "rule whose text is a pattern": ("born <= today", "STRPOS(note, 'a.c') > 0", 28, "'%text%'"),
    "rule over two types": ("born <= today", "count > 'x'", 28, "quotes and types"),
    "rule with text as date": ("born <= today", "born < '2020-01-01'", 28, "DATE '2099-12-31'"),
    "rule that is no SQL": ("born <= today", "born <=", 28, "check brackets"),
    "rule that is too long": ("born <= today", "ok AND " * 400 + "ok", 28, "several rules"),
    "rule without message": (
        "born <= today | 出生日期在将来 | born in the future",
        "born <= today",
        28,
        "blanks around |",
    ),
    "rule with wide bars": (
        "born <= today | 出生日期在将来 | born in the future",
        "born <= today ｜ 将来",
        28,
        "full-width",
    ),
    "rule with wide comparison": ("born <= today", "born ＜＝ today", 28, "full-width"),
    "condition with missing field": ("$kind = '个人'", "$sort = '个人'", 9, "one of"),
    "key that is no field": ("key: [code]", "key: [cod]", 19, "did you mean 'code'"),
    "key that is optional": ("key: [code]", "key: [sex]", 19, "put ! behind"),
    "empty key": ("key: [code]", "key: []", 19, "write key: [field]"),
    "key as text": ("key: [code]", "key: code", 19, "write [code]"),
    "unique over no field": (
        "unique: [[a_name, a_kind]]",
        "unique: [[a_nam]]",
        20,
        "did you mean 'a_name'",
    ),
    "column for no field": ("{编号: code}", "{编号: cod}", 21, "did you mean 'code'"),
    "percent over 100": ("max_percent: 1.5", "max_percent: 150", 22, "0 to 100"),
    "leading zeros": ("max_count: 100", "max_count: 0100", 22, "without leading zeros: 100"),
    "full-width number": ("max_count: 100", "max_count: １００", 22, "full-width"),
    "version zero": ("share: 1", "share: 1\n    version: 0", 18, "write 1 or more"),
    "no number": ("max_count: 100", "max_count: many", 22, "write a number"),
    "malformed resource code": ("code: 307001/1", "code: 30700/1", 14, "such as 307001/1"),
    "unknown department": ("department: data", "department: date", 16, "did you mean 'data'"),
    "unknown share type": ("share: 1", "share: 4", 17, "one of: 1 (shared without"),
    "share without condition": ("share: 1", "share: 2", 17, "add condition"),
    "unknown cycle": ("cycle: daily", "cycle: dayly", 18, "did you mean 'daily'"),
    "unknown group": ("use: holder", "use: holders", 24, "did you mean 'holder'"),
    "bad prefix": ("prefix: a_", "prefix: 1_", 24, "a letter first"),
    "reserved field name": ("count: 次数", "today: 次数", 26, "rename it"),
    "control column": ("count: 次数", "CD_Batch: 次数", 26, "rename it"),
    "bad field name": ("count: 次数", "次数: 次数", 26, "a letter, then"),
    "bad resource name": ("  people:", "  People:", 13, "a lower-case letter"),
    "wrong check digit": ("11232700MB1C531139", "11232700MB1C531138", 4, "character 18 would be 9"),
    "wrong inner check digit": (
        "11232700MB1C531139",
        "11232700MB1C531129",
        4,
        "character 17 would be 3",
    ),
    "placeholder department": ("11232700MB1C531139", "000000000000000000", 4, "a placeholder"),
    "short department code": ("11232700MB1C531139", "11232700", 4, "18 digits and capital"),
    "malformed area": ("code: 232700", "code: 2327", 2, "six digits"),
    "tab": ("    title: 人员", "\ttitle: 人员", 15, "indent with blanks"),
    "full-width colon": ("    title: 人员", "    title：人员", 15, "write ':'"),
    "full-width colon in braces": (
        "{use: holder, prefix: a_}",
        "{use：holder, prefix: a_}",
        24,
        "write ':'",
    ),
    "anchor": ("key: [code]", "key: &k [code]", 19, "groups: and use:"),
    "alias": ("key: [code]", "key: *k", 19, "groups: and use:"),
    "tag": ("title: 人员", "title: !!str 人员", 15, "every value is read as text"),
    "open quote": ("title: 人员", "title: '人员", 15, "close the quote"),
    "two documents": ("resources:", "---\nresources:", 12, "two files"),
    "deep nesting": ("key: [code]", "key: " + "[" * 40 + "]" * 40, 19, "brackets are closed"),
    "control character": ("title: 人员", "title: 人\x07员", 15, "remove it"),
    "key that is a list": ("title: 人员", "[a]: 人员", 15, "check braces"),
    "group in a group": (
        "{name: 姓名 person(50)!,",
        "{use: holder, name: 姓名 person(50)!,",
        9,
        "uses no other",
    ),
    "list as text": ("title: 人员", "title: [人员]", 15, "check indentation"),
    "empty title": ("title: 人员", "title: ''", 15, "write a text"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_at_its_line_with_advice(name: str) -> None:
    old, new, line, advice = MISTAKES[name]
    result = problems(edited(old, new))
    assert any(p.line == line and advice in p.show("en") for p in result), [
        p.show("en") for p in result
    ]
    assert all(p.what.zh and p.hint.zh and p.file == "catalog.yaml" for p in result)


@pytest.mark.parametrize("name", [n for n in MISTAKES if n not in {"group in a group", "tab"}])
def test_one_mistake_brings_few_problems(name: str) -> None:
    old, new, _, _ = MISTAKES[name]
    assert len(problems(edited(old, new))) <= 2


def test_all_mistakes_are_told_at_once() -> None:
    text = SMALL
    for name in ("unknown cycle", "unknown type", "percent over 100", "wrong check digit"):
        old, new, _, _ = MISTAKES[name]
        text = text.replace(old, new, 1)
    assert len(problems(text)) == 4


def test_two_resources_with_one_code() -> None:
    _, _, people = SMALL.partition("  people:\n")
    result = problems(SMALL + "  others:\n" + people)
    assert [p.line for p in result] == [30]
    assert "catalog.yaml:14" in result[0].what.en


def test_two_resources_with_one_name() -> None:
    _, _, people = SMALL.partition("  people:\n")
    result = problems(SMALL + "  people:\n" + people)
    assert [p.line for p in result] == [29]


def test_texts_that_look_like_something_else_stay_texts() -> None:
    catalog = loads(
        edited("{0: 未知, 1: 男, 2: 女, 9: 未说明}", "{00: yes, 1: 2026-01-01, 2: 1_000, 9: null}")
    )
    assert catalog.tables["sex"].values == {
        "00": "yes",
        "1": "2026-01-01",
        "2": "1_000",
        "9": "null",
    }


def test_labels_may_be_their_own_codes() -> None:
    catalog = loads(edited("{0: 未知, 1: 男, 2: 女, 9: 未说明}", "[男, 女]"))
    assert catalog.tables["sex"].values == {"男": "男", "女": "女"}


def test_a_province_sets_its_own_code_rule() -> None:
    own = edited('version: "1"', 'version: "1"\nresource_code: "[A-Z]{2}[0-9]{4}"')
    assert "malformed" in problems(own)[0].what.en
    assert loads(own.replace("307001/1", "HL0001")).resources["people"].code == "HL0001"
    broken = edited('version: "1"', 'version: "1"\nresource_code: "["')
    assert "regular expression" in problems(broken)[0].what.en


def test_problems_read_well_for_people_and_machines() -> None:
    error = FileErrors(CATALOG, [problem := problems(edited("cycle: daily", "cycle: dayly"))[0]])
    assert str(error).startswith("1 problem in the catalog (catalog.yaml:18: unknown update cycle")
    assert "第" not in problem.show("zh")
    assert problem.as_dict()["line"] == 18


def test_billions_of_laughs_stay_out() -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    assert "anchors" in problems(laughs)[0].what.en


def test_a_huge_text_is_refused() -> None:
    assert "too large" in problems("# " + "x" * (4 * 1024 * 1024))[0].what.en


def test_many_problems_are_cut_off() -> None:
    text = SMALL + "".join(f"  R{i}: {{}}\n" for i in range(2000))
    assert len(problems(text)) == 500


class TestFiles:
    def test_sections_are_gathered_from_included_files(self, tmp_path: Path, small: str) -> None:
        head, _, resources = small.partition("resources:\n")
        (tmp_path / "catalog").mkdir()
        (tmp_path / "catalog" / "people.yaml").write_text("resources:\n" + resources, "utf-8")
        main = tmp_path / "catalog.yaml"
        main.write_text(head + "resources: {}\ninclude: [catalog/*.yaml]\n", "utf-8")
        assert load(main).digest == loads(small).digest

    def test_a_problem_names_the_included_file(self, tmp_path: Path, small: str) -> None:
        (tmp_path / "more.yaml").write_text("tables:\n  sex: {title: x, values: [y]}\n", "utf-8")
        main = tmp_path / "catalog.yaml"
        main.write_text(small + "include: [more.yaml]\n", "utf-8-sig")
        with pytest.raises(FileErrors) as caught:
            load(main)
        problem = caught.value.problems[0]
        assert problem.file.endswith("more.yaml")
        assert "catalog.yaml:6 already" in problem.what.en

    @pytest.mark.parametrize("path", ["../other.yaml", "/etc/hostname", "missing.yaml", "."])
    def test_includes_stay_inside_the_folder(self, tmp_path: Path, small: str, path: str) -> None:
        main = tmp_path / "in" / "catalog.yaml"
        main.parent.mkdir()
        (tmp_path / "other.yaml").write_text("{}", "utf-8")
        main.write_text(small + f"include: [{path}]\n", "utf-8")
        with pytest.raises(FileErrors):
            load(main)

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path: Path, small: str) -> None:
        main = tmp_path / "in" / "catalog.yaml"
        main.parent.mkdir()
        (tmp_path / "other.yaml").write_text("{}", "utf-8")
        (main.parent / "link.yaml").symlink_to(tmp_path / "other.yaml")
        main.write_text(small + "include: [link.yaml]\n", "utf-8")
        with pytest.raises(FileErrors, match="1 problem"):
            load(main)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileErrors) as caught:
            load(tmp_path / "none.yaml")
        assert "No such file" in caught.value.problems[0].what.en

    def test_a_file_in_gbk(self, tmp_path: Path, small: str) -> None:
        main = tmp_path / "catalog.yaml"
        main.write_bytes(small.encode("gbk"))
        with pytest.raises(FileErrors) as caught:
            load(main)
        assert "GBK" in caught.value.problems[0].what.zh
        assert "UTF-8" in caught.value.problems[0].hint.zh

    def test_a_pipe_is_no_file(self, tmp_path: Path, small: str) -> None:
        main = tmp_path / "catalog.yaml"
        main.write_text(small + "include: [more.yaml]\n", "utf-8")
        os.mkfifo(tmp_path / "more.yaml")
        with pytest.raises(FileErrors) as caught:
            load(main)
        assert "not a regular file" in caught.value.problems[0].what.en

    def test_a_text_includes_nothing(self, small: str) -> None:
        assert "no files" in problems(small + "include: [more.yaml]\n")[0].what.en


def attempt(text: str) -> None:
    """Anything but FileErrors fails the test."""
    with contextlib.suppress(FileErrors):
        loads(text)


@given(st.text(max_size=200))
@explicit("\ud800")
@explicit("? [a]\n: b")
@explicit("")
@explicit("%YAML 9.9\n---\na")
@explicit("version: |\n  a\n\x85")
def test_any_text_is_a_catalog_or_a_list_of_problems(text: str) -> None:
    attempt(text)


@settings(max_examples=300)
@given(st.data())
def test_any_edit_is_a_catalog_or_a_list_of_problems(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SMALL)))
    end = data.draw(st.integers(start, min(len(SMALL), start + 20)))
    piece = data.draw(
        st.text(max_size=8)
        | st.sampled_from(
            [
                "[",
                "]",
                "{",
                "}",
                ": ",
                "\n",
                "'",
                "!",
                "*a",
                "&a ",
                "- ",
                "()",
                "$",
                " | ",
                " when ",
                "use: ",
            ]
        )
    )
    attempt(SMALL[:start] + piece + SMALL[end:])


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                "born",
                "count",
                "note",
                "ok",
                "money",
                "today",
                "(",
                ")",
                "'x'",
                "1",
                "NOT",
                "AND",
                "OR",
                "=",
                "<",
                "IN",
                "LIKE",
                "IS NULL",
                "-",
                "*",
                "CAST",
                "AS",
                "INT",
                "COUNT",
                "OVER",
                "CASE WHEN",
                "THEN",
                "END",
                "||",
                "::",
                "date",
                "INTERVAL '1 day'",
                "[1]",
                "SELECT",
                ",",
                "~",
            ]
        ),
        max_size=10,
    )
)
def test_any_condition_is_taken_or_explained(words: list[str]) -> None:
    attempt(SMALL.replace("born <= today", " ".join(words) or "''", 1))


def test_the_example_has_what_the_prefecture_needs(example: Catalog) -> None:
    assert set(example.resources) == {
        *("divisions", "credit_license", "credit_penalty"),
        *("hotline_order", "eseal_registry", "universities"),
    }
    penalty = example.resources["credit_penalty"]
    assert penalty.key == ("cf_wsh", "cf_cfjgdm", "cf_xdr_mc")
    assert len(penalty.fields) == 30
    assert len(example.resources["credit_license"].fields) == 28
    assert len(example.resources["hotline_order"].fields) == 45


def test_every_resource_of_the_example_takes_at_most_25_lines() -> None:
    lines = (ROOT / "catalog.yaml").read_text("utf-8").split("resources:\n")[1].split("\n")
    starts = [n for n, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    blocks = [lines[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    lengths = {b[0].strip(" :"): sum(1 for line in b if line.strip()) for b in blocks}
    assert len(lengths) == 6
    assert all(length <= 25 for length in lengths.values()), lengths


def test_two_hundred_resources_load_in_two_seconds(small: str) -> None:
    head, _, people = small.partition("  people:\n")
    text = head + "".join(
        f"  people{i}:\n" + people.replace("307001/1", f"307001/{i}") for i in range(1, 201)
    )
    begin = time.process_time()
    assert len(loads(text).resources) == 200
    assert time.process_time() - begin < 2
