"""From a source that nobody described to sealed records: discover, draft, check, run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import python_calamine as calamine
import xlsxwriter

from tests.cli.conftest import Run, grades, uscc
from tests.support import web_service
from tests.support.old_site import COLUMNS, PASSWORD, USER, OldSite
from tests.support.old_site import records as old_records
from tests.support.servers import Server
from tests.support.web_service import serving


def add_source(folder: Path, name: str, connector: str, options: str) -> None:
    path = folder / "exchange.yaml"
    text = path.read_text(encoding="utf-8")
    entry = f"\nsources:\n  {name}:\n    resource: {name}\n    connector: {connector}\n"
    path.write_text(
        text.replace("\nsources:\n", f"{entry}    with: {options}\n", 1), encoding="utf-8"
    )


def take_up(folder: Path, run: Run, source: str, rows: int, *arguments: str) -> Any:
    """Put a draft into the catalog as it is, and run what it describes up to its seal."""
    drafted = run("catalog", "draft", source, *arguments)
    assert drafted.code == 0, drafted.err
    (folder / "catalog").mkdir()
    (folder / "catalog" / f"{source}.yaml").write_text(drafted.out, encoding="utf-8")
    path = folder / "catalog.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\ninclude: [catalog/*.yaml]\n", encoding="utf-8")
    checked = run("catalog", "check")
    assert checked.code == 0, checked.out
    assert run("run", "--once", "--only", "pull").code == 0
    done = run("run", "--once", "--only", "seal", "--json")
    assert done.json["accepted"] == rows + 5, "the node has five good companies of its own"
    (status,) = [r for r in run("status", "--json").json["resources"] if r["resource"] == source]
    assert (status["batches"], status["quarantine"]) == (1, 0)
    return drafted


@pytest.fixture
def drops(folder: Path) -> Path:
    """A folder as departments fill it, and a source that names nothing but the folder."""
    drops = folder / "drops"
    drops.mkdir()
    rows = "".join(f"{n},{uscc(n)},企业{n},存续\r\n" for n in range(1, 31))
    (drops / "企业.csv").write_bytes(
        f"企业登记一览表,,,\r\n序号,统一社会信用代码,企业名称,状态\r\n{rows}".encode("gb18030")
    )
    with xlsxwriter.Workbook(drops / "学校.xlsx") as book:
        for name in ("名单", "说明"):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, ["学校名称", "校长姓名", "联系电话"])
            sheet.write_row(1, 0, ["一中", "王小明", "13812345678"])
    (drops / "numbers.csv").write_text("1,13812345678\n2,13812345679\n", encoding="utf-8")
    (drops / "scan.pdf").write_bytes(b"%PDF")
    add_source(folder, "firms", "files", "{folder: drops, settle: 0}")
    return drops


@pytest.mark.usefixtures("drops")
def test_a_folder_is_discovered(run: Run) -> None:
    entries = run("connector", "discover", "firms", "--json").json["entries"]
    found = {entry["name"]: entry for entry in entries}
    csv = found["企业.csv"]
    assert (csv["encoding"], csv["delimiter"], csv["header"], csv["rows"]) == (
        "gb18030",
        ",",
        2,
        30,
    )
    assert csv["columns"][1]["name"] == "统一社会信用代码"
    sheet = found["学校.xlsx/名单"]
    assert (sheet["header"], sheet["rows"], sheet["with"]["sheet"]) == (1, 1, "名单")
    assert found["学校.xlsx/说明"]["kind"] == "sheet"
    assert found["scan.pdf"]["kind"] == "skipped"
    assert [number for number, _ in found["numbers.csv"]["top"]][:2] == [1, 2]
    shown = run("connector", "discover", "firms").out
    assert "header in row 2" in shown
    assert "138****5678" in shown
    assert "13812345678" not in shown


def test_a_drafted_file_is_sealed(drops: Path, folder: Path, run: Run) -> None:
    for name in ("学校.xlsx", "numbers.csv"):
        (drops / name).unlink()
    drafted = take_up(folder, run, "firms", 30, "--file", "企业.csv", "--excel", "draft.xlsx")
    assert "uscc: 统一社会信用代码 uscc!" in drafted.out
    assert "key: [uscc]" in drafted.out
    book = calamine.CalamineWorkbook.from_path(str(folder / "draft.xlsx"))
    assert book.sheet_names[0] == "fields"
    rows = book.get_sheet_by_index(0).to_python()
    assert rows[2][:2] == ["统一社会信用代码", "uscc"]


@pytest.mark.usefixtures("drops")
def test_a_sheet_is_drafted_masked(run: Run) -> None:
    made = run("catalog", "draft", "firms", "--file", "学校.xlsx", "--sheet", "说明", "--json")
    types = {column["column"]: column["type"] for column in made.json["columns"]}
    assert types == {"学校名称": "text(10)", "校长姓名": "person(50)", "联系电话": "mobile"}
    assert "王小明" not in made.out
    nothing = run("catalog", "draft", "firms", "--file", "none.csv")
    assert nothing.code == 3


@pytest.mark.usefixtures("drops")
def test_a_preview_needs_no_catalog_entry(run: Run) -> None:
    shown = run("connector", "preview", "firms", "--rows", "2")
    assert shown.code == 0
    assert "numbers.csv" in shown.err, "the file that cannot be read is named"
    for fact in ("企业.csv", "encoding gb18030", "header in row 2", "[title 1]", "scan.pdf"):
        assert fact in shown.err
    assert "draft one" in shown.err
    assert f"统一社会信用代码 uscc = {uscc(1)}" in shown.out
    assert "— 3" not in shown.out
    checked = run("connector", "check", "firms")
    assert "has no resource firms" in checked.err


def test_what_a_source_says_is_not_carried_out_by_a_terminal(drops: Path, run: Run) -> None:
    for path in drops.iterdir():
        path.unlink()
    text = "id,\x1b]0;title\x07name\n1,\x1b[2J\x9b31m\n2,b\n"
    (drops / "a\x1b[2J.csv").write_text(text, encoding="utf-8")
    for command in (
        ("connector", "discover", "firms"),
        ("connector", "preview", "firms"),
        ("catalog", "draft", "firms"),
    ):
        answer = run(*command)
        assert answer.code == 0, answer.err
        assert not set("\x1b\x07\x9b") & set(answer.out + answer.err), command


def test_a_preview_without_header_shows_the_top_rows_masked(drops: Path, run: Run) -> None:
    for name in ("企业.csv", "学校.xlsx"):
        (drops / name).unlink()
    shown = run("connector", "preview", "firms")
    assert shown.code == 3
    assert "138****5678" in shown.out
    assert "say with header in which row it stands (0: none)" in shown.err


def test_columns_are_compared_with_the_catalog(drops: Path, folder: Path, run: Run) -> None:
    """A required column that a file lacks is told before a pull is refused for it."""
    for name in ("学校.xlsx", "numbers.csv"):
        (drops / name).unlink()
    path = folder / "exchange.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("resource: firms", "resource: companies"), encoding="utf-8")
    told = run("connector", "check", "firms").err
    assert "required fields that the source lacks" in told
    assert "uscc" in told
    assert grades(run("doctor", "--json"))["source firms"] == "warn"


def test_a_database_is_discovered(folder: Path, run: Run) -> None:
    with closing(sqlite3.connect(folder / "other.db")) as database, database:
        database.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, code VARCHAR(8) UNIQUE)")
        database.execute("CREATE TABLE b (n TEXT)")
        database.execute("CREATE VIEW v AS SELECT * FROM a")
        database.executemany("INSERT INTO a (code) VALUES (?)", [("x",), ("y",)])
    add_source(folder, "other", "sql", '{url: "sqlite:///other.db"}')
    entries = {
        e["name"]: e for e in run("connector", "discover", "other", "--json").json["entries"]
    }
    assert {name: entry["kind"] for name, entry in entries.items()} == {
        "a": "table",
        "b": "table",
        "v": "view",
    }
    assert (entries["a"]["rows"], entries["a"]["key"], entries["a"]["unique"]) == (
        2,
        ["id"],
        [["code"]],
    )
    several = run("catalog", "draft", "other")
    assert several.code == 3
    assert "--table" in several.err
    one = run("connector", "discover", "other", "--table", "a").out
    assert "VARCHAR(8)" in one
    assert run("catalog", "draft", "other", "--table", "aa").code == 3
    assert run("catalog", "draft", "other", "--table", "b").code == 0


def test_an_unknown_postgres_table_with_chinese_columns_is_sealed(
    folder: Path, run: Run, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as database:
        for statement in _ALLOWANCE.split(";"):
            database.execute(statement)
    monkeypatch.setenv("MZ_URL", postgres.url)
    add_source(folder, "allowance", "sql", "{url: env:MZ_URL, table: 民政.低保}")
    (entry,) = run("connector", "discover", "allowance", "--json").json["entries"]
    assert (entry["name"], entry["comment"], entry["key"]) == ("民政.低保", "低保对象", ["编号"])
    assert entry["rows"] == 40
    drafted = take_up(folder, run, "allowance", 40)
    for line in (
        "title: 低保对象",
        "key: [number]",
        "number: 编号 digits(12)!",
        "name: 姓名 person(50)!",
        "resident_id: 身份证号 resident_id",
        "amount: 金额 decimal(10,2)",
        "xb: 性别 code(allowance_xb)",
        "更新时间: update_time",
    ):
        assert line in drafted.out
    assert "王小明" not in drafted.err
    assert "11010519491231002X" not in drafted.err


_ALLOWANCE = """
DROP SCHEMA IF EXISTS 民政 CASCADE;
CREATE SCHEMA 民政;
CREATE TABLE 民政.低保 (编号 varchar(12) PRIMARY KEY, 姓名 text NOT NULL, 身份证号 char(18),
    金额 numeric(10,2), xb text, 更新时间 timestamptz);
COMMENT ON TABLE 民政.低保 IS '低保对象';
COMMENT ON COLUMN 民政.低保.xb IS '性别';
INSERT INTO 民政.低保 SELECT to_char(i, 'FM000000000000'), '王小明', '11010519491231002X', i * 1.5,
    CASE i % 2 WHEN 0 THEN '男' ELSE '女' END, now() FROM generate_series(1, 40) i
"""


def test_an_unknown_service_and_an_old_site_are_discovered_and_drafted(
    folder: Path, run: Run
) -> None:
    records: list[Any] = [{"id": n, "name": f"企业{n}", "at": {"city": "漠河"}} for n in range(9)]
    with serving(web_service.pages(records)) as service, serving(OldSite(old_records(9))) as site:
        base = site.url.removesuffix(urlsplit(site.url).path)
        add_source(folder, "firms", "rest", f'{{url: "{service.url}", paging: page}}')
        login = f'login_url: "{base}/login.asp", user: {USER}, secret: "file:password"'
        add_source(folder, "cases", "webtable", f'{{url: "{base}/list.asp", {login}}}')
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        (folder / "password").chmod(0o600)
        shown = run("connector", "discover", "firms").out
        assert '"records": "data.list"' in " ".join(shown.split())
        (entry,) = run("connector", "discover", "firms", "--table", "data.list", "--json").json[
            "entries"
        ]
        assert entry["with"]["total"] == "data.total"
        drafted = run("catalog", "draft", "firms", "--table", "data.list", "--json")
        assert [column["column"] for column in drafted.json["columns"]] == ["id", "name", "at_city"]
        drafted = run("catalog", "draft", "cases", "--json")
        assert [column["column"] for column in drafted.json["columns"]] == list(COLUMNS)
