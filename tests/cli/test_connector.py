from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, company, uscc, write_companies


def test_list_describes_every_setting(run: Run) -> None:
    connectors = run("connector", "list", "--json").json["connectors"]
    (sql,) = (connector for connector in connectors if connector["name"] == "sql")
    assert {"url", "table"} <= {setting["name"] for setting in sql["settings"]}
    assert "数据库地址" in run("connector", "list", lang="zh").out
    assert "database address" in run("connector", "list").out


@pytest.mark.usefixtures("folder")
def test_check_says_what_it_saw(run: Run) -> None:
    assert "companies can be read" in run("connector", "check", "companies").out
    assert run("connector", "check", "companies", "--json").json["ok"] is True


def test_check_of_what_is_not_there(folder: Path, run: Run) -> None:
    unknown = run("connector", "check", "firms")
    assert unknown.code == 3
    assert "companies" in unknown.err
    (folder / "companies.db").unlink()
    result = run("connector", "check", "companies", "--json")
    assert result.code in {3, 4}
    assert '"hint"' in result.err
    assert result.out == ""


@pytest.mark.usefixtures("folder")
def test_preview_masks_by_the_catalog(run: Run) -> None:
    result = run("connector", "preview", "companies", "--rows", "2")
    assert result.code == 0
    assert f"uscc 统一社会信用代码 = {uscc(1)}" in result.out
    assert "contact 联系电话 = 138****1111" in result.out
    assert "13800001111" not in result.out
    assert "秘密" not in result.out
    assert "internal" in result.err
    answer = run("connector", "preview", "companies", "--rows", "2", "--json").json
    assert [row["contact"] for row in answer["rows"]] == ["138****1111"] * 2
    assert {row["internal"] for row in answer["rows"]} == {"***"}
    fields = {column["column"]: column["field"] for column in answer["columns"]}
    assert (fields["contact"], fields["internal"]) == ("contact", None)
    assert "— 3" not in result.out


def test_preview_of_an_empty_source(folder: Path, run: Run) -> None:
    write_companies(folder, [])
    result = run("connector", "preview", "companies", lang="zh")
    assert result.code == 0
    write_companies(folder, [company(1, contact=None)])
    assert "contact" not in run("connector", "preview", "companies").out
