from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exchange.connect.conformance import CHECKS
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


def test_a_new_connector_passes_its_own_tests_and_is_listed(folder: Path, run: Run) -> None:
    made = run("connector", "new", "ledger", "--json")
    assert made.code == 0
    assert sorted(Path(path).name for path in made.json["files"]) == [
        "data.csv",
        "ledger.py",
        "pyproject.toml",
        "test_ledger.py",
    ]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "ledger"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert tested.returncode == 0, tested.stdout
    assert f"{len(CHECKS)} passed" in tested.stdout
    assert "not tested" in tested.stdout, "what its case cannot try is told"
    again = run("connector", "new", "ledger")
    assert again.code == 3
    for name in ("Ledger", "class", "polars", "json", "sql"):
        assert run("connector", "new", name).code == 3
    settings = folder / "exchange.yaml"
    entry = "  mine:\n    resource: companies\n    connector: ledger/ledger.py:ledger\n"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(
        text.replace(
            "\nsources:\n", f"\nsources:\n{entry}    with: {{path: ledger/data.csv}}\n", 1
        ),
        encoding="utf-8",
    )
    names = [item["name"] for item in run("connector", "list", "--json").json["connectors"]]
    assert "ledger/ledger.py:ledger" in names
    assert "a CSV file" in run("connector", "list", "ledger/ledger.py:ledger").out
    schema = run("connector", "list", "sql", "--schema").json
    assert schema["properties"]["url"]["writeOnly"] is True
    assert run("connector", "check", "mine").code == 0
