from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import polars as pl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from exchange.cli.corrections import MAX_BYTES, read_corrections
from exchange.errors import Rejected
from exchange.log.frames import decode_frame, encode_frame
from exchange.validate.refused_records import RefusedRecords, defects, replay, show
from exchange.validate.sheet import ADDRESS, SHEET, export
from tests.validate.samples import DEPARTMENT, LICENCE, TABLES, check, field, good

MASKED = LICENCE.model_copy(
    update={
        "department": DEPARTMENT,
        "columns": {"姓名": "holder"},
        "fields": tuple(
            field("holder", "person(20)", required=True) if item.name == "holder" else item
            for item in LICENCE.fields
        ),
    }
)


def _refused(frame: pl.DataFrame) -> RefusedRecords:
    """Check, and carry what is refused through the log's codec."""
    rejected = decode_frame(encode_frame(check(frame).rejected))
    return RefusedRecords(
        0, 17, rejected, source="files", locator="许可.xlsx/Sheet1", pulled_at="2026"
    )


def _bad(count: int = 2) -> pl.DataFrame:
    return good(count).with_columns(
        holder=pl.lit("张三丰"),
        phone=pl.lit("139000"),
        _row=pl.int_range(5, 5 + count),
        extra=pl.lit("13900001111"),
    )


def test_show_masks_by_field() -> None:
    first, second = show(_refused(_bad()), MASKED)
    assert (first.address, second.address) == ("0-17-0", "0-17-1")
    assert (first.row, first.locator) == (5, "许可.xlsx/Sheet1")
    assert first.values["holder"] == "张**"
    assert first.values["person"][3:14] == "*" * 11
    assert first.values["code"] == _bad()["code"][0]
    assert "extra" not in first.values
    (reason,) = first.reasons
    assert reason["rule"] == "pattern"
    assert reason["value"] == "***"
    assert "139000" not in str(first.as_dict())


def test_a_broken_record_is_searched_in_every_column() -> None:
    frame = good(1).with_columns(
        kind=pl.lit("11010519491231002X"), _defect=pl.lit("17 cells: 13900001111")
    )
    (result,) = show(_refused(frame), LICENCE)
    assert "11010519491231002X" not in str(result)
    assert "13900001111" not in str(result)
    assert result.reasons[0]["value"] == "17 cells: 139****1111"


def test_replay_gives_the_source_rows_back() -> None:
    frame = _bad()
    assert replay(_refused(frame), MASKED).equals(frame)


def _sheet(path: Path) -> Sequence[Sequence[object]]:
    with CalamineWorkbook.from_path(path) as book:
        return book.get_sheet_by_name(SHEET).to_python()


def test_export_for_the_department(tmp_path: Path) -> None:
    path = tmp_path / "隔离.xlsx"
    assert export([_refused(_bad())], MASKED, path) == 2
    titles, names, first, second = _sheet(path)
    assert titles[:6] == ["隔离编号（请勿修改）", "来源", "位置", "行号", "取数时间", "拒收原因"]
    assert titles[7] == "字段holder"
    assert names[7] == "holder"
    assert first[:4] == ["0-17-0", "files", "许可.xlsx/Sheet1", "5"]
    assert first[5] == "字段phone：格式不符（手机号码）"
    assert first[7] == "张**"
    assert second[0] == "0-17-1"


def test_the_export_explains_itself_marks_and_offers(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    bad = _bad(3).with_columns(state=pl.Series(["9", "1", "1"]))
    export([_refused(bad)], MASKED, path, TABLES)
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["说明", SHEET, "代码表"]
    assert "红色" in str(list(book["说明"].iter_rows(values_only=True)))
    sheet = book[SHEET]
    names = [cell.value for cell in sheet[2]]
    marked = {
        (cell.row, names[cell.column - 1])
        for row in sheet.iter_rows(min_row=3)
        for cell in row
        if cell.fill.fgColor.rgb == "FFFFC7CE"
    }
    assert marked == {(3, "phone"), (4, "phone"), (5, "phone"), (3, "state")}
    (rule,) = sheet.data_validations.dataValidation
    column = openpyxl.utils.get_column_letter(names.index("state") + 1)
    assert str(rule.sqref) == f"{column}3:{column}5"
    first, last = rule.formula1.replace("$", "").removeprefix("代码表!").strip("='").split(":")
    codes = [cell.value for (cell,) in book["代码表"][f"{first.rpartition('!')[2]}:{last}"]]
    assert codes == list(TABLES["state"].values)
    assert book["代码表"]["B2"].value == "有效"


def test_a_defect_is_told_to_the_department(tmp_path: Path) -> None:
    frame = good(1).with_columns(_defect=pl.lit("17 cells instead of 16"))
    (result,) = show(_refused(frame), LICENCE)
    assert result.reasons[0]["en"].endswith(": 17 cells instead of 16")
    export([_refused(frame)], LICENCE, tmp_path / "x.xlsx")
    assert "17 cells instead of 16" in str(_sheet(tmp_path / "x.xlsx")[2][5])
    assert defects(_refused(frame).frame) == {"17 cells instead of 16": 1}


def test_a_hostile_workbook_is_refused_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as member:
            for _ in range(600):
                member.write(bytes(1 << 20))
    with pytest.raises(Rejected, match="zip bomb"):
        read_corrections(path)
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Rejected, match="128 MiB"):
        read_corrections(large)


def test_nothing_in_a_record_becomes_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "http://evil.example", "1"]
    frame = pl.concat([good(1)] * len(evil)).with_columns(holder=pl.Series(evil), phone=pl.lit("x"))
    export([_refused(frame)], LICENCE, path)
    with zipfile.ZipFile(path) as book:
        xml = book.read("xl/worksheets/sheet2.xml").decode()
    assert "<f>" not in xml
    assert "<hyperlink" not in xml
    assert xml.count("<c ") == xml.count("inlineStr")
    # The carriage return, which a reader would lose, is shown as its symbol.
    assert [row[7] for row in _sheet(path)[2:]] == [*evil[:5], "␍=1", *evil[6:]]


def test_export_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be written"):
        export([_refused(_bad())], MASKED, tmp_path / "none" / "x.xlsx")


def _corrected(path: Path, target: Path, changes: dict[tuple[int, str], object]) -> None:
    """Save the sheet as a person would who changed a few cells."""
    rows = [list(row) for row in _sheet(path)]
    for (line, name), value in changes.items():
        rows[2 + line][rows[1].index(name)] = value
    if target.suffix == ".csv":
        with target.open("w", encoding="gb18030", newline="") as file:
            csv.writer(file).writerows(rows)
        return
    with xlsxwriter.Workbook(target) as book:
        sheet = book.add_worksheet()
        for line, row in enumerate(rows):
            sheet.write_row(line, 0, row)


@pytest.mark.parametrize("name", ["back.xlsx", "back.csv"])
def test_a_corrected_file_changes_what_was_changed(tmp_path: Path, name: str) -> None:
    refused = _refused(_bad(3).with_columns(_defect=pl.Series([None, "slipped", None])))
    export([refused], MASKED, tmp_path / "x.xlsx")
    changes = {(0, "phone"): "13900002222", (1, "phone"): 13900003333, (1, "kind"): ""}
    _corrected(tmp_path / "x.xlsx", tmp_path / name, changes)
    corrections = read_corrections(tmp_path / name)
    back = replay(refused, MASKED, {a: c for a, c in corrections.items() if a != "0-17-2"})
    assert back["phone"].to_list() == ["13900002222", "13900003333"]
    assert back["kind"].to_list() == ["法人", None]
    assert back["_defect"].to_list() == [None, None]
    # The masked name was left alone: the real one goes back.
    assert back.drop("phone", "kind", "_defect").equals(
        refused.frame[:2].drop("phone", "kind", "_defect", "_reasons")
    )
    assert check(back).rejected.is_empty()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=4))
def test_a_file_nobody_touched_changes_nothing(
    tmp_path: Path, values: Sequence[str | None]
) -> None:
    frame = pl.concat([good(1)] * len(values)).with_columns(
        holder=pl.Series(values, dtype=pl.String), phone=pl.lit("x")
    )
    refused = _refused(frame)
    export([refused], LICENCE, tmp_path / "x.xlsx")
    assert replay(refused, LICENCE, read_corrections(tmp_path / "x.xlsx")).equals(frame)


def test_typed_columns_become_text_where_they_are_corrected() -> None:
    frame = check(good(2)).accepted.drop("cd_operation").with_columns(state=pl.lit("9"))
    refused = _refused(frame)
    back = replay(refused, LICENCE, {"0-17-1": {"state": "1", "fine": "13.50"}})
    assert back["fine"].to_list() == ["13.50"]
    assert back["changed"].equals(frame["changed"][1:])
    assert (
        check(back).accepted["fine"].to_list()[0] == pl.Series(["13.5"]).cast(pl.Decimal(7, 2))[0]
    )


def test_codes_that_became_numbers_are_refused_by_row(tmp_path: Path) -> None:
    export([_refused(_bad())], MASKED, tmp_path / "x.xlsx")
    _corrected(tmp_path / "x.xlsx", tmp_path / "y.xlsx", {(1, "person"): 110105194912310021})
    with pytest.raises(Rejected, match="row 4"):
        read_corrections(tmp_path / "y.xlsx")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.xlsx", b"junk"),
        ("x.csv", b"a,b\n1,2\n"),
        ("x.csv", b"\xff\xff"),
        ("x.csv", b'"open'),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Rejected):
        read_corrections(tmp_path / name)
    with pytest.raises(Rejected):
        read_corrections(tmp_path / f"missing-{name}")
    assert ADDRESS not in data.decode("latin-1")


def test_the_original_of_a_broken_line_is_not_shown() -> None:
    frame = pl.DataFrame({"_defect": ["5 cells where the header has 4\nA1,欧阳小明,x", None]})
    assert defects(frame) == {"5 cells where the header has 4": 1}
