"""What people sent, one test for each kind: read right, or refused with the reason."""

from __future__ import annotations

import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import python_calamine as calamine
import xlsxwriter
import xlwt

from exchange.connect import Misconfigured, Rejected
from exchange.connectors.files.folder import MAX_BYTES, cursor_bytes
from exchange.connectors.files.formats import Format, Odd
from exchange.connectors.files.taken import Taken
from tests.support.folder import Folder, records
from tests.support.workbooks import minimal_xlsx, ods, xlsb

HEAD = "序号,名称,日期\n"
TITLES = ["序号", "名称", "日期"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def defects(frame: pl.DataFrame) -> list[str | None]:
    return frame["_defect"].to_list()


# --- spreadsheets -----------------------------------------------------------------------------


def test_a_stray_cell_in_the_last_corner_costs_one_cell(folder: Folder) -> None:
    rows = '<row r="1048576"><c r="XFD1048576"><v>0</v></c></row>'
    folder.put("a.xlsx", minimal_xlsx([TITLES, ["1", "甲", "d"]], more=rows))
    (pulled,) = folder.pull(read_memory=64)
    assert records(pulled.frame) == [("1", "甲", "d")]
    assert [(n.row, n.kind, n.text) for n in pulled.notes] == [
        (1_048_576, "outside", "XFD1048576: 0")
    ]


def test_error_cells_refuse_their_record(folder: Folder) -> None:
    cells = "".join(
        f'<row><c t="str"><v>{i}</v></c><c t="e"><v>{e}</v></c></row>'
        for i, e in enumerate(["#N/A", "#REF!", "#DIV/0!"])
    )
    folder.put("a.xlsx", minimal_xlsx([["id", "n"]], more=cells))
    frame = folder.frame()
    assert frame["id"].to_list() == ["0", "1", "2"]
    result = defects(frame)
    assert [t.split(":")[1] for t in result if t] == [
        " the error #N/A (cell row 2)",
        " the error #REF! (cell row 3)",
        " the error #DIV/0! (cell row 4)",
    ]


def test_formulas_without_a_result_refuse_their_record(folder: Folder) -> None:
    cells = (
        '<row r="2"><c r="A2"><v>1</v></c><c r="B2"><f>1+1</f></c></row>'
        '<row r="3"><c r="A3"><v>2</v></c><c r="B3"><f>1+1</f><v>2</v></c></row>'
        '<row r="4"><c r="A4"><v>3</v></c><c r="B4"><f>1+1</f><v></v></c></row>'
        '<row r="5"><c r="A5"><v>4</v></c><c r="B5" t="str"><f>""</f><v></v></c></row>'
    )
    folder.put("a.xlsx", minimal_xlsx([["id", "n"]], more=cells))
    frame = folder.frame()
    assert records(frame) == [("1", None), ("2", "2"), ("3", None), ("4", None)]
    assert [t and "cell B" in t and "save it" in t for t in defects(frame)] == [
        True,
        None,
        True,
        None,
    ]


def test_formulas_that_wait_for_their_calculation_refuse_their_record(folder: Folder) -> None:
    book = xlsxwriter.Workbook(folder.path / "a.xlsx")
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["id", "n"])
    sheet.write_row(1, 0, ["1", 5])
    sheet.write_string(2, 0, "2")
    sheet.write_formula(2, 1, "=1+1")  # written with the result 0, which means nothing
    book.close()
    old = xlwt.Workbook()
    page = old.add_sheet("S")
    rows: list[list[Any]] = [["id", "n"], ["1", 5], ["2", xlwt.Formula("1+1")]]
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            page.write(row, column, cell)
    old.save(str(folder.path / "b.xls"))
    for name in ("a.xlsx", "b.xls"):
        frame = folder.frame(glob=name)
        assert frame["id"].to_list() == ["1", "2"]
        first, second = defects(frame)
        assert first is None
        assert second is not None
        assert "not calculated yet" in second
        assert "B3" in second


FORMATS = [
    ("000000", 123, "000123"),
    ("00000000000", 4572123456, "04572123456"),
    ("0000-0000", 12345678, "1234-5678"),
    ("000000;@", 10020, "010020"),
    ('"A"000', 7, "A007"),
    ('0"-B"', 7, "7-B"),
    ('"男";;"女"', 1, "男"),
    ('"男";;"女"', 0, "女"),
    ("00", -5, "-05"),
    ("000;(000)", -5, "(005)"),
    ("0.00%", 0.125, "0.125"),
    ("#,##0.00", 1234.5, "1234.5"),
    ('"￥"#,##0.00', 1234.5, "1234.5"),
    ('0.00"万元"', 1.5, "1.5"),
    ("0", 12.5, "12.5"),
    ("0.00E+00", 12345, "12345"),
    ("# ?/?", 0.5, "0.5"),
    ("@", 5, "5"),
    ("General", 5, "5"),
    ("#,##0;[Red]-#,##0", -1234, "-1234"),
    ('_ * #,##0.00_ ;_ * -#,##0.00_ ;_ * "-"??_ ;_ @_ ', 1234, "1234"),
    ("0;-0;;@", 0, "0"),
    ("0,", 12345, None),
    ('0!.0,"万"', 12345, None),
    (";;;", 5, None),
    ("000", 12.5, None),
    ("[>=100]000;00000", 5, None),
    ("G/通用格式", 20240, "20240"),
    ('G/通用格式"人"', 5, "5"),
    ("[$-804]aaaa;@", 46349, "2026-11-23"),
    ('"KJ"General', 5, "KJ5"),
    ('"第"General"号"', 5, "第5号"),
    ('"第"@"号"', 5, "第5号"),
    ("0,000", 12345, "12345"),
    ("0,000", 12, None),
    ("#,000", 123, "123"),
    ('"KJ"General', 1234567890123456, None),
    ('#,##0;-#,##0;"-"', 0, "0"),
    ('_ * #,##0.00_ ;_ * -#,##0.00_ ;_ * "-"??_ ;_ @_ ', 0, "0"),
    ('#,##0;-#,##0;"零"', 0, "0"),
]


def test_a_header_that_comes_again_is_no_record(folder: Folder) -> None:
    folder.put("a.csv", f"{HEAD}1,甲,d\n{HEAD}2,乙,e\n".encode())
    folder.put("b.xlsx", minimal_xlsx([TITLES, ["3", "丙", "f"], TITLES, ["4", "丁", "g"]]))
    pulls = folder.pull()
    rows = [row for pulled in pulls for row in records(pulled.frame)]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    notes = [(n.row, n.kind) for pulled in pulls for n in pulled.notes]
    assert notes == [(3, "header"), (3, "header")]


@pytest.mark.parametrize(
    "text", ["a,b,c,\n1,2,3\n4,5,6\n", "a,b,c\n1,2,3,\n4,5,6,\n", "a,b,c,\n1,2,3,\n4,5,6,\n"]
)
def test_a_delimiter_at_the_end_is_no_column(folder: Folder, text: str) -> None:
    folder.put("a.csv", text.encode())
    frame = folder.frame()
    assert frame.select("a", "b", "c").rows() == [("1", "2", "3"), ("4", "5", "6")]
    assert defects(frame) == [None, None]


def test_a_cell_behind_the_last_delimiter_is_too_many(folder: Folder) -> None:
    lines = [f"{number},2,3," for number in range(60)]
    folder.put("a.csv", "\n".join(["a,b,c", *lines, "7,8,9,10"]).encode())
    *good, last = defects(folder.frame())
    assert (set(good), last) == ({None}, "4 cells where the header has 3\n7,8,9,10")


def test_digits_that_a_spreadsheet_shall_keep_come_bare(folder: Folder) -> None:
    folder.put("a.csv", b'a,b\n="00123",x\n"=""00456""",y\n')
    assert folder.frame()["a"].to_list() == ["00123", "00456"]


def test_what_a_browser_hides_is_no_value(folder: Folder) -> None:
    page = """<table><tr><td>a</td><td>b</td></tr>
    <tr><td>1</td><td><span style="display: none">99</span>6</td></tr>
    <tr style="display:none"><td>2</td><td>7</td></tr>
    <tr><td>3</td><td><select><option>甲<option>乙</select></td></tr>
    <tr><td>4</td><td><input value="77"></td></tr>
    <tr><td x:str="00123">123</td><td x:num="0.123456789">0.12</td></tr></table>"""
    folder.put("a.xls", page.encode())
    frame = folder.frame()
    told = [(text or "").split(": ")[-1].split(" (")[0] for text in defects(frame)]
    field = "a form field within a cell"
    assert told == ["", "a hidden row", field, field, ""]
    assert [row for row in records(frame) if row[0] in ("1", "00123")] == [
        ("1", "6"),
        ("00123", "0.123456789"),
    ]


def test_a_folder_of_long_names_does_not_fill_its_own_memory() -> None:
    """Files that are gone are forgotten; names that are passed over are remembered as digests."""
    taken = Taken()
    for number in range(1000):
        taken.done(f"{number:04}{'很长的文件名' * 30}.csv", (number, 1), "0" * 64)
    taken.forget({})
    assert sum(map(cursor_bytes, taken.files)) <= MAX_BYTES
    assert list(taken.files)[-1].startswith("0999"), "the newest stay"
    names = [f"{number:04}{'很长的文件名' * 30}.pdf" for number in range(4_000)]
    assert len(taken.told(names)) == 4_000
    assert taken.told([*names, "b.pdf"]) == ["b.pdf"]
    assert len(json.dumps(taken.cursor(), ensure_ascii=False).encode()) < 700_000


def test_folders_that_are_not_read_are_named(folder: Folder) -> None:
    (folder.path / "sub").mkdir()
    folder.put("sub/b.csv", f"{HEAD}1,甲,d\n".encode())
    folder.put("a.csv", f"{HEAD}1,甲,d\n".encode())
    notes = [n for pulled in folder.pull() for n in pulled.notes]
    assert [(n.kind, "sub" in n.text) for n in notes] == [("passed over", True)]
    assert not [n for pulled in folder.pull(glob="**/*") for n in pulled.notes]


def test_an_empty_file_is_called_so(folder: Folder) -> None:
    folder.put("a.csv", b"\n\n")
    with pytest.raises(Misconfigured, match="is empty"):
        folder.pull()


def test_a_length_of_time_is_no_moment_of_1900() -> None:
    assert Format("h:mm").show(0.5) == "12:00:00"
    assert Format("h:mm").show(1.5) == Odd(
        "1.5", "more than a day, under a format for times of day"
    )
    assert Format("h:mm").show(46349.5) == datetime(2026, 11, 23, 12)  # noqa: DTZ001


def test_lines_in_gbk_that_are_utf8_by_chance_are_told(folder: Folder) -> None:
    """The bytes of 谢小平 are those of лСƽ: a line in another encoding, unless the file is GBK."""
    lines = b"id,name\n" + "1,谢小平\n2,郑伟\n3,石山\n".encode("gbk")
    folder.put("a.csv", lines + "4,25°C\n5,规格αβ\n6,×é\n".encode())
    frame = folder.frame()
    assert [defect is not None for defect in defects(frame)] == [True] * 3 + [False] * 3
    folder.put("b.csv", lines)
    pulled = folder.frame(encoding="gbk", glob="b.*")
    assert records(pulled) == [("1", "谢小平"), ("2", "郑伟"), ("3", "石山")]


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_numbers_come_as_their_format_shows_them(folder: Folder, kind: str) -> None:
    if kind == "xlsx":
        book = xlsxwriter.Workbook(folder.path / "a.xlsx")
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["id", "n"])
        for row, (code, number, _) in enumerate(FORMATS, start=1):
            sheet.write(row, 0, f"#{row}")
            sheet.write_number(row, 1, number, book.add_format({"num_format": code}))
        book.close()
    else:
        old = xlwt.Workbook()
        page = old.add_sheet("S")
        page.write(0, 0, "id")
        page.write(0, 1, "n")
        for row, (code, number, _) in enumerate(FORMATS, start=1):
            page.write(row, 0, f"#{row}")
            page.write(row, 1, number, xlwt.easyxf(num_format_str=code))
        old.save(str(folder.path / "a.xls"))
    frame = folder.frame()
    for (code, number, shown), value, defect in zip(
        FORMATS, frame["n"], defects(frame), strict=True
    ):
        if shown is None:
            assert defect is not None, (code, number, value)
            assert code in defect
        else:
            assert (value, defect) == (shown, None), code


@pytest.mark.parametrize("number", [-1, 60, 2_958_466, 0.5])
def test_dates_that_never_were_refuse_their_record(folder: Folder, number: float) -> None:
    book = xlsxwriter.Workbook(folder.path / "a.xlsx")
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["id", "d"])
    sheet.write_string(1, 0, "1")
    sheet.write_number(1, 1, number, book.add_format({"num_format": "yyyy-mm-dd"}))
    book.close()
    (defect,) = defects(folder.frame())
    assert defect is not None
    assert "B2" in defect


def test_dates_of_the_chinese_edition_are_dates(folder: Folder) -> None:
    # Formats 31 and 57 have no code in the file: 年月日 of the edition.
    cells = '<row r="2"><c r="A2" s="1"><v>45000</v></c><c r="B2" s="2"><v>45000.5</v></c></row>'
    folder.put("a.xlsx", minimal_xlsx([["a", "b"]], more=cells, formats=(0, 31, 57)))
    assert records(folder.frame()) == [("2023-03-15", "2023-03-15 12:00:00")]


def test_merges_beside_the_table_do_not_matter(folder: Folder) -> None:
    rows: list[list[Any]] = [[None, *TITLES], *([None, f"{i}", "甲", f"{i}00"] for i in (1, 2, 3))]
    for merge in ("A2:A4", "H2:H4", "A9:A12", "E1:E4"):
        folder.put("a.xlsx", minimal_xlsx(rows, merges=[merge]))
        assert folder.frame()["日期"].to_list() == ["100", "200", "300"], merge


def test_a_title_that_is_merged_into_the_table_is_no_record(folder: Folder) -> None:
    rows: list[list[Any]] = [TITLES, [None, None, None], ["1", "甲", "d"]]
    folder.put("a.xlsx", minimal_xlsx(rows, merges=["A1:A2", "B1:B2", "C1:C2"]))
    assert records(folder.frame()) == [("1", "甲", "d")]


TWO_ROWS: list[list[Any]] = [
    ["名单", None, None, None, None],
    ["序号", "名称", "地址", None, "日期"],
    [None, None, "市", "县", None],
    ["1", "甲", "哈尔滨", "道里", "d1"],
    ["2", "乙", "大兴安岭", "呼玛", "d2"],
]
OPTIONS: list[dict[str, Any]] = [{}, {"columns": ["序号", "地址/市"]}, {"header": 2}]
NAMES = ["序号", "名称", "地址/市", "地址/县", "日期"]


def test_headers_of_two_rows_are_joined(folder: Folder) -> None:
    folder.put("a.xlsx", minimal_xlsx(TWO_ROWS, merges=["C2:D2", "A2:A3", "B2:B3", "E2:E3"]))
    text = "\n".join(",".join(cell or "" for cell in row) for row in TWO_ROWS)
    folder.put("b.csv", text)
    for name in ("a.xlsx", "b.csv"):
        for options in OPTIONS:
            (pulled,) = folder.pull(glob=name, **options)
            assert pulled.frame.columns[:5] == NAMES
            assert records(pulled.frame)[0] == ("1", "甲", "哈尔滨", "道里", "d1")
            assert pulled.frame.height == 2
            assert [(n.row, n.kind) for n in pulled.notes] == [(1, "title")]


def test_headers_of_three_rows_are_joined(folder: Folder) -> None:
    folder.put("a.csv", "id,地址,,,备注\n,市,县,,\n,,名,码,\n1,a,b,c,d\n")
    frame = folder.frame()
    assert frame.columns[:5] == ["id", "地址/市", "地址/县/名", "地址/县/码", "备注"]
    assert records(frame) == [("1", "a", "b", "c", "d")]


def test_repeated_titles_are_refused_by_name(folder: Folder) -> None:
    folder.put("a.csv", "序号,名称,日期,日期\nA1,甲,1,2\n")
    with pytest.raises(Misconfigured, match="repeats column titles: 日期"):
        folder.pull()
    assert folder.frame(header=1).columns[:4] == ["序号", "名称", "日期", "日期_2"]
    assert folder.frame(columns=["序号", "名称"]).height == 1
    with pytest.raises(Misconfigured, match="repeats"):
        folder.pull(columns=["日期"])


def test_white_space_in_titles_does_not_count(folder: Folder) -> None:
    rows = [["序\n号", " 企业名称", "成立  日期"], ["1", "甲", "d"]]
    folder.put("a.xlsx", minimal_xlsx(rows))
    frame = folder.frame(columns=["序号", "企业名称", "成立日期"])
    assert frame.columns[:3] == ["序号", "企业名称", "成立日期"]


def test_prose_on_the_first_sheet_is_no_table(folder: Folder) -> None:
    folder.put(
        "a.xlsx",
        minimal_xlsx(
            {
                "填报说明": [["请按要求填报"], ["一、…"]],
                "码表": [["a", "b"], ["1", "2"]],
                "数据": [TITLES, ["1", "甲", "d"]],
            },
            hidden=("码表",),
        ),
    )
    (pulled,) = folder.pull()
    assert pulled.locator == "a.xlsx/数据"
    assert [(n.kind, n.text) for n in pulled.notes] == [
        ("sheet", "填报说明"),
        ("hidden sheet", "码表"),
    ]
    assert folder.frame(sheet="码表").columns[:2] == ["a", "b"]
    with pytest.raises(Misconfigured, match=r"the sheets are: 填报说明, 码表 \(hidden\), 数据"):
        folder.pull(sheet="填报说明", columns=["序号"])


SHEETS: dict[str, Any] = {
    "一": [TITLES, ["1", "甲", "d"]],
    "二": [TITLES, ["2", "乙", "d"]],
    "三": [["3", "丙", "d"], ["4", "丁", "d"]],
}


def test_several_sheets_are_read(folder: Folder) -> None:
    folder.put("a.xlsx", minimal_xlsx(SHEETS))
    (pulled,) = folder.pull()
    assert [n.text for n in pulled.notes] == ["二", "三"]
    items = folder.pull(sheets=["一", 2])
    assert [p.locator for p in items if p.frame.height] == ["a.xlsx/一", "a.xlsx/二"]
    assert pl.concat([p.frame for p in items])["序号"].to_list() == ["1", "2"]
    with pytest.raises(Misconfigured, match=r"三 has the columns.*further_sheets: continue"):
        folder.pull(sheets="all")
    folder.put("a.xlsx", minimal_xlsx({"一": SHEETS["一"], "三": SHEETS["三"]}))
    options: dict[str, Any] = {"sheets": "all", "further_sheets": "continue", "batch_rows": 1}
    frame = folder.frame(**options)
    assert frame["序号"].to_list() == ["1", "3", "4"]
    for pulled in folder.pull(**options):
        rest = folder.pull(pulled.cursor, **options)
        values = [row[0] for row in pulled.frame.rows()]
        more = [row[0] for p in rest for row in p.frame.rows()]
        assert (values + more) == ["1", "3", "4"][-len(values + more) :] or not values + more


def test_an_xls_of_several_sheets(folder: Folder) -> None:
    book = xlwt.Workbook()
    for name, rows in SHEETS.items():
        sheet = book.add_sheet(name)
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                sheet.write(row, column, cell)
    book.save(str(folder.path / "a.xls"))
    (pulled,) = folder.pull()
    assert [n.text for n in pulled.notes] == ["二", "三"]
    assert folder.frame(sheets=[1, 2])["名称"].to_list() == ["甲", "乙"]


def test_a_password_is_told(folder: Folder) -> None:
    compound = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1000)
    folder.put("a.xlsx", compound + "EncryptedPackage".encode("utf-16-le") + bytes(1000))
    with pytest.raises(Rejected, match=r"a.xlsx the workbook has a password"):
        folder.pull()


def test_excel_5_is_read_by_its_code_page(folder: Folder) -> None:
    from tests.support.workbooks import biff5

    rows = [["序号", "名称"], ["1", "黑龙江省"]]
    folder.put("a.xls", biff5(rows, codepage=936))
    assert records(folder.frame()) == [("1", "黑龙江省")]
    folder.put("a.xls", biff5([["id", "name"], ["1", "黑龙江省"]], codepage=None))
    (defect,) = defects(folder.frame())
    assert defect is not None
    assert "unknown code page" in defect


def test_opendocument_and_binary_workbooks(folder: Folder) -> None:
    rows: list[list[Any]] = [["id", "n", "d"], ["1", 123, "甲"]]
    folder.put("a.ods", ods(rows, shown={(1, 1): "00123"}))
    assert records(folder.frame(glob="a.ods")) == [("1", "00123", "甲")]
    folder.put("a.xlsb", xlsb(rows, formats={(1, 1): "00000"}, errors={(2, 1): 0x2A}))
    with calamine.load_workbook(folder.path / "a.xlsb") as book:
        theirs = book.get_sheet_by_index(0).to_python()
    assert theirs == [["id", "n", "d"], ["1", 123.0, "甲"], ["", "", ""]]
    frame = folder.frame(glob="a.xlsb")
    assert records(frame) == [("1", "00123", "甲"), (None, "#N/A", None)]
    assert [d and "#N/A (cell B3)" in d for d in defects(frame)] == [None, True]


# --- web pages and XML ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        "<style>td{mso-number-format:'\\@';}\n.a{x:1;y:2}</style>\n{table}",
        "<div>\r\n\t{table}</div>",
        "<html><body>{table}</body></html>",
        "<!DOCTYPE html><p>x</p>{table}",
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">{table}</html>',
        (
            'MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary="x"\r\n\r\n--x\r\n'
            'Content-Type: text/html; charset="utf-8"\r\n\r\n<html>{table}</html>\r\n--x--\r\n'
        ),
    ],
    ids=["style", "div", "html", "doctype", "xhtml", "mhtml"],
)
def test_tables_of_web_pages_are_read(folder: Folder, page: str) -> None:
    table = (
        "<table><tr><th>序号</th><th>名称</th><th>日期</th></tr>"
        "<tr><td>007</td><td rowspan=2>甲&amp;乙<br>x</td><td> d\n1 </td></tr>"
        "<tr><td>008</td><td>d2</td></tr></table>"
    )
    folder.put("a.xls", page.replace("{table}", table))
    frame = folder.frame()
    assert records(frame) == [("007", "甲&乙\nx", "d 1"), ("008", "甲&乙\nx", "d2")]


def test_pages_in_gbk_and_pages_without_a_table(folder: Folder) -> None:
    table = "<table><tr><td>序号</td><td>名称</td></tr><tr><td>1</td><td>甲乙丙</td></tr></table>"
    for head in ("<meta charset=gb2312>", ""):
        folder.put("a.xls", (head + table).encode("gbk"))
        assert records(folder.frame()) == [("1", "甲乙丙")]
    folder.put("a.xls", b"<meta charset=utf-8>" + table.encode("gbk"))
    with pytest.raises(Rejected, match="not in the encoding utf-8"):
        folder.pull()
    folder.put("a.xls", "<html><p>登录超时</p></html>")
    with pytest.raises(Rejected, match=r"a.xls a web page, no table"):
        folder.pull()
    folder.put("a.xls", '<?xml version="1.0"?><a><b>1</b></a>')
    with pytest.raises(Rejected, match="an XML file, no table"):
        folder.pull()


def test_excel_2003_xml_is_read(folder: Folder) -> None:
    cell = '<Cell{a}><Data ss:Type="{t}">{v}</Data></Cell>'
    head = "".join(cell.format(a="", t="String", v=v) for v in ("id", "n", "d"))
    row = (
        cell.format(a="", t="String", v="1")
        + cell.format(a=' ss:StyleID="s1"', t="Number", v="123")
        + cell.format(a="", t="DateTime", v="2024-02-29T00:00:00.000")
    )
    bad = cell.format(a="", t="String", v="2") + cell.format(a=' ss:Index="3"', t="Error", v="#N/A")
    folder.put(
        "a.xls",
        '<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>'
        '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" '
        'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"><Styles><Style ss:ID="s1">'
        '<NumberFormat ss:Format="00000"/></Style></Styles><Worksheet ss:Name="S"><Table>'
        f"<Row>{head}</Row><Row>{row}</Row><Row>{bad}</Row></Table></Worksheet></Workbook>",
    )
    frame = folder.frame()
    assert records(frame) == [("1", "00123", "2024-02-29"), ("2", None, "#N/A")]
    assert [d and "#N/A" in d for d in defects(frame)] == [None, True]


# --- text -------------------------------------------------------------------------------------


def test_utf_16_is_read(folder: Folder) -> None:
    text = HEAD + "".join(f"{i},大兴安岭,2023\n" for i in range(300))
    for name, data in {
        "le": text.encode("utf-16-le"),
        "be": text.encode("utf-16-be"),
        "marked": text.encode("utf-16"),
        "crlf": text.replace("\n", "\r\n").encode("utf-16"),
    }.items():
        folder.put("a.csv", data)
        pulls = folder.pull(block_bytes=512)
        frame = pl.concat([p.frame for p in pulls])
        assert frame["序号"].to_list() == [str(i) for i in range(300)], name
        assert frame["名称"].unique().to_list() == ["大兴安岭"]
        middle = len(pulls) // 2
        rest = folder.pull(pulls[middle].cursor, block_bytes=512)
        assert sum(p.frame.height for p in rest) == sum(p.frame.height for p in pulls[middle + 1 :])
        assert folder.pull(pulls[-1].cursor) == []
    folder.put("a.csv", text.encode("utf-16-le") + b"4\x00,\x00\x00\xd8,\x00x\x00")
    assert defects(folder.frame())[-1] is not None, "half a pair"


def test_lines_that_end_in_cr_alone(folder: Folder) -> None:
    folder.put("a.csv", '序号,名称\r1,甲\r2,"乙\r丙"\r'.encode("gbk"))
    (pulled,) = folder.pull()
    assert records(pulled.frame) == [("1", "甲"), ("2", "乙\r丙")]
    assert folder.pull(pulled.cursor) == []


def test_line_ends_within_cells_stay(folder: Folder) -> None:
    folder.put("a.csv", b'id,n\r\n1,"a\r\nb"\r\n2,"a\nb"\r\n3,"a\rb"\r\n4,x\r\n')
    assert folder.frame()["n"].to_list() == ["a\r\nb", "a\nb", "a\rb", "x"]


def test_lines_of_another_encoding_are_refused(folder: Folder) -> None:
    gbk = [f"A{i},王五,2023\n".encode("gbk") for i in range(6)]
    utf8 = [line.encode() for line in ("B1,张三,2023\n", "B2,哈尔滨市,2023\n")]
    folder.put("a.csv", HEAD.encode("gbk") + b"".join(gbk + utf8))
    frame = folder.frame()
    assert frame["名称"].to_list()[:6] == ["王五"] * 6
    assert [d is not None for d in defects(frame)] == [False] * 6 + [True] * 2
    folder.put(
        "a.csv", HEAD.encode() + b"".join([*utf8, *utf8, *utf8, gbk[0], "C,侣,1\n".encode("gbk")])
    )
    frame = folder.frame()
    assert [d is not None for d in defects(frame)] == [False] * 6 + [True] * 2
    folder.put("a.csv", HEAD.encode() + b"".join(gbk))
    with pytest.raises(Rejected, match="line 1, near the header, is not in gb18030"):
        folder.pull()
    folder.put("a.csv", HEAD.encode("gbk") + b"".join(utf8 * 3))
    with pytest.raises(Rejected, match="line 1, near the header, is not in utf-8"):
        folder.pull()


def test_big5_is_refused_by_name(folder: Folder) -> None:
    rows = "1,臺北市政府,2023\n2,高雄市,2023\n"
    for head in ("序號,名稱,日期\n", "id,name,d\n"):
        folder.put("a.csv", (head + rows).encode("big5"))
        with pytest.raises(Rejected, match="Big5"):
            folder.pull()
    rare = "1,张三,2023\n2,李喆,2023\n3,王堃镕,2023\n4,○○市,①\n"
    folder.put("a.csv", (HEAD + rare).encode("gb18030"))
    assert folder.frame()["名称"].to_list() == ["张三", "李喆", "王堃镕", "○○市"]


def test_the_delimiter_is_the_one_that_rows_agree_on(folder: Folder) -> None:
    folder.put("a.txt", "序号\t名称\t日期\nA1\t1,234,567,890\td1\n")
    assert records(folder.frame()) == [("A1", "1,234,567,890", "d1")]
    folder.put("a.txt", "id;a;b\n1;1,5;2,5\n2;3,5;4,5\n")
    assert records(folder.frame())[0] == ("1", "1,5", "2,5")
    folder.put("a.txt", '说明：a;b;c;d\nid,note\n1,"x;y;z;u"\n2,"x;y;z;v"\n')
    assert records(folder.frame()) == [("1", "x;y;z;u"), ("2", "x;y;z;v")]


def test_a_single_column_is_read(folder: Folder) -> None:
    folder.put("a.csv", "序号\n1\n\n2\n")
    assert records(folder.frame()) == [("1",), ("2",)]
    folder.put("a.xlsx", minimal_xlsx([["序号"], ["1"], ["2"]]))
    assert records(folder.frame(glob="a.xlsx")) == [("1",), ("2",)]


def test_footers_are_noted_unless_they_are_records(folder: Folder) -> None:
    lines = "1,甲,2023\n合计,1,\n制表人：张三,审核人：李四,\n填报日期：2023年5月1日,,\n备注：x,y\n"
    folder.put("a.csv", HEAD + lines)
    table = [TITLES, *(line.split(",") for line in lines.splitlines())]
    folder.put("a.xlsx", minimal_xlsx([[c or None for c in row] for row in table]))
    for name in ("a.csv", "a.xlsx"):
        (pulled,) = folder.pull(glob=name)
        assert records(pulled.frame) == [("1", "甲", "2023")]
        assert [(n.row, n.kind) for n in pulled.notes] == [
            (3, "footer"),
            (4, "footer"),
            (5, "group"),
            (6, "footer"),
        ]
        assert "审核人：李四" in pulled.notes[1].text
        frame = folder.frame(glob=name, footer="record", group_rows="record")
        assert frame.height == 5
    folder.put("a.csv", HEAD + "1,合计公司,2023\n2,说明书厂,2023\n小计划,x,1\n")
    assert folder.frame(glob="a.csv").height == 3


def test_rows_with_a_cell_too_many_say_so(folder: Folder) -> None:
    folder.put("a.csv", HEAD + "1,甲,2023,\n")
    assert defects(folder.frame()) == ["4 cells where the header has 3\n1,甲,2023,"]


# --- what is passed over ----------------------------------------------------------------------


def test_files_that_are_passed_over_are_noted_once(folder: Folder) -> None:
    for name in ("data.json", "data.xml", "fee.dat"):
        folder.put(name, "x")
    with zipfile.ZipFile(folder.path / "数据.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    raw = (folder.path / "数据.zip").read_bytes()
    folder.put("数据.zip", raw.replace(b"readme.txt", "名单.xls".encode("gbk").ljust(10, b"x")))
    folder.put("DATA.CSV", HEAD + "1,甲,2023\n")
    pulls = folder.pull()
    items = [note.text for p in pulls for note in p.notes if note.kind == "passed over"]
    assert [text.partition("：")[0] for text in items] == [
        "data.json",
        "data.xml",
        "fee.dat",
        "数据.zip",
    ]
    assert "名单.xls" in items[-1]
    assert records(pulls[-1].frame) == [("1", "甲", "2023")]
    assert folder.pull(pulls[-1].cursor) == []
    assert folder.frame(glob="*.csv").height == 1, "case does not count"
    folder.put("more.rar", "x")
    (again,) = folder.pull(pulls[-1].cursor)
    assert [note.text.partition("：")[0] for note in again.notes] == ["more.rar"]
