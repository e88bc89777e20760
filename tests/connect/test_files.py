"""The files connector on what departments send: encodings, ragged rows, titles, Excel."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import xlsxwriter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exchange.connect import ExchangeError, Misconfigured, Rejected, Text
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors.files import child, files
from exchange.connectors.files.decoding import chance_lines, count_utf8
from exchange.connectors.files.encoding import encoding_of
from exchange.connectors.files.folder import MAX_FILES
from exchange.connectors.files.refusal import MAX_REFUSALS
from exchange.connectors.files.text import TextFormat, TextPosition, read_text
from tests.support.conformity import conform
from tests.support.folder import Folder, end, pull_all, records, waits
from tests.support.workbooks import minimal_xlsx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.connect import Cursor, Pulled

COLUMNS = ("code", "name", "_row", "_defect")
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# --- what every connector must do -------------------------------------------------------------


def _changes(folder: Folder, rows: list[tuple[str, str]], kind: str) -> Changes:
    """A new file, a file with other content, a file that is gone, and a folder that is away."""

    def late() -> list[tuple[str, ...]]:
        folder.put("9.csv", "code,name\n99999,late\n")
        return [("99999", "late")]

    def update() -> list[tuple[str, ...]]:
        changed = [("00000", "changed"), *rows[1:100]]
        if kind == "xlsx":
            folder.sheet("0.xlsx", [("code", "name"), *changed])
        else:
            text = io.StringIO()
            csv.writer(text).writerows([("code", "name"), *changed])
            folder.put("0.csv", text.getvalue())
        return [("00000", "changed")]

    def delete() -> list[tuple[str, ...]]:
        (folder.path / ("0.xlsx" if kind == "xlsx" else "0.csv")).unlink()
        return list(rows[:100])

    @contextlib.contextmanager
    def outage() -> Iterator[None]:
        away = folder.path.rename(folder.path.with_name("away"))
        yield
        away.rename(folder.path)

    return Changes(late=late, update=update, delete=delete, outage=outage)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["utf-8", "gb18030", "quoted", "xlsx"])
def test_files_conforms(kind: str, check: Callable[[Case], None], folder: Folder) -> None:
    rows = [(f"{i:05}", f"张三\n{i}" if kind == "quoted" else f"张三{i}") for i in range(200)]
    for part in range(2):
        chosen = rows[part * 100 : part * 100 + 100]
        if kind == "xlsx":
            folder.sheet(f"{part}.xlsx", [("code", "name"), *chosen])
        else:
            text = io.StringIO()
            csv.writer(text).writerows([("code", "name"), *chosen])
            data = text.getvalue().encode("utf-8" if kind == "quoted" else kind)
            folder.put(f"{part}.csv", data)
    options = {"block_bytes": 300, "batch_rows": 20}
    conform(
        f"files {kind}",
        check,
        Case(
            open=lambda: folder.source(**options),
            rows=rows,
            identity=("code", "name"),
            news_only=True,
            changes=_changes(folder, rows, kind),
            broken={
                "folder": lambda: folder.source(folder="nowhere"),
                "column": lambda: folder.source(columns=["nmae"]),
                "outside": lambda: folder.source(glob="../*"),
            },
        ),
    )


# --- exactly once -----------------------------------------------------------------------------


def test_each_file_is_taken_once_and_a_changed_one_again(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n1,甲\n")
    pulls = folder.pull()
    assert [p.frame.height for p in pulls] == [1]
    assert folder.pull(pulls[-1].cursor) == []
    os.utime(path, (1, 1))
    same = folder.pull(pulls[-1].cursor)
    assert [p.frame.height for p in same] == [0], "the same content saved again"
    assert folder.pull(same[-1].cursor) == []
    path.write_text("code,name\n1,甲\n2,乙\n")
    changed = folder.pull(same[-1].cursor)
    assert [p.frame.height for p in changed] == [2]
    folder.put("b.csv", "code,name\n3,丙\n")
    (new,) = folder.pull(changed[-1].cursor)
    assert records(new.frame) == [("3", "丙")]
    assert new.locator == "b.csv"
    path.unlink()
    assert folder.pull(new.cursor) == []
    path.write_text("code,name\n1,甲\n2,乙\n")
    assert sum(p.frame.height for p in folder.pull(new.cursor)) == 0, "it came back unchanged"


def test_a_file_that_is_being_written_waits(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n1,甲\n")

    def pull(sleep: Callable[[float], None]) -> list[Pulled]:
        source = files.open({"folder": str(folder.path), "settle": 5}, lambda _: "", sleep=sleep)
        return list(source.pull())

    def writing(_seconds: float) -> None:
        with path.open("a") as stream:
            stream.write("2,乙\n")

    assert waits(pull(writing))
    slept: list[float] = []
    assert sum(p.frame.height for p in pull(slept.append)) == 2, "it stood still"
    assert slept == [5]


def test_a_file_changed_while_it_is_read_is_told(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n" + "1,甲\n" * 200)
    stream = folder.source(block_bytes=300).pull()
    next(stream)
    with path.open("a") as more:
        more.write("2,乙\n")
    with pytest.raises(ExchangeError, match="changed while"):
        list(stream)


def test_only_tables_within_the_folder_are_read(folder: Folder, tmp_path: Path) -> None:
    inner = Folder(tmp_path / "in")
    inner.put("a.csv", "code,name\n1,甲\n")
    inner.put("~$a.xlsx", b"lock")
    inner.put(".hidden.csv", "code\n9\n")
    inner.put("readme.md", "# no table")
    inner.put("deep/b.csv", "code,name\n2,乙\n")
    assert inner.frame()["code"].to_list() == ["1"]
    assert inner.frame(glob="**/*.csv")["code"].to_list() == ["1", "2"]
    secret = folder.put("secret.csv", "code,name\n3,丙\n")
    for link in ("link.csv", "deep.csv"):
        (inner.path / link).symlink_to(secret)
        with pytest.raises(Misconfigured, match="outside the folder"):
            inner.pull()
        (inner.path / link).unlink()
    for glob in ("../*.csv", "/etc/*"):
        with pytest.raises(Misconfigured, match="outside the folder"):
            inner.pull(glob=glob)


def test_a_bad_file_does_not_hold_up_the_others(folder: Folder) -> None:
    folder.put("a.xlsx", b"PK\x03\x04 damaged")
    folder.put("b.csv", "code,name\n1,甲\n")
    folder.put("c.xls", "<html><table><tr><td>1</td></tr></table></html>")
    stream = folder.source().pull()
    assert records(next(stream).frame) == [("1", "甲")]
    with pytest.raises(Rejected, match="xlsx is damaged"):
        end(stream)
    with pytest.raises(Rejected, match="web page"):
        folder.pull(glob="c.*")


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_a_refused_file_is_not_read_again_until_it_changes(folder: Folder) -> None:
    """It is named by each pull; the process that reads workbooks is not even started for it."""
    damaged = b"PK\x03\x04 damaged"
    path = folder.put("a.xlsx", damaged)
    folder.put("b.csv", "code,name\n1,甲\n")
    others = children()
    stream = folder.source().pull()
    assert records(next(stream).frame) == [("1", "甲")]
    assert children() - others, "a process reads it"
    pulls, first = pull_all(stream)
    cursor = pulls[-1].cursor
    assert cursor is not None
    assert pulls[-1].complete
    assert json.loads(json.dumps(cursor)) == cursor
    folder.put("c.csv", "code,name\n2,乙\n")
    stream = folder.source().pull(cursor)
    assert records(next(stream).frame) == [("2", "乙")]
    assert children() == others, "nobody reads it"
    pulls, again = pull_all(stream)
    assert str(again) == str(first)
    cursor = pulls[-1].cursor
    os.utime(path, (1, 1))
    assert str(pull_all(folder.source().pull(cursor))[1]) == str(first), "the same content"
    for changed in (
        pull_all(folder.source(read_memory=1024).pull(cursor)),
        pull_all(folder.source().pull(folder.source().retry(cursor))),
    ):
        assert str(changed[1]) == str(first), "it is read again, and is no better"
    folder.put("a.xlsx", minimal_xlsx([("code", "name"), ("3", "丙")]))
    pulls = folder.pull(cursor)
    assert [records(p.frame) for p in pulls if p.frame.height] == [[("3", "丙")]]
    assert "refused" not in (pulls[-1].cursor or {})
    path.unlink()
    assert folder.pull(cursor) == [], "a file that is gone is refused no more"


def test_only_so_many_refused_files_are_remembered(folder: Folder) -> None:
    for number in range(MAX_REFUSALS + 3):
        folder.put(f"{number:03}.csv", "no header")
    pulls, error = pull_all(folder.source(columns=["code"]).pull())
    cursor = pulls[-1].cursor or {}
    assert len(cursor["refused"]) == MAX_REFUSALS
    assert f"{MAX_REFUSALS + 3} files were not read" in str(error)
    _, again = pull_all(folder.source(columns=["code"]).pull(cursor))
    assert f"{MAX_REFUSALS + 3} files were not read" in str(again)


def test_a_header_that_was_refused_is_shown_again_without_its_records(folder: Folder) -> None:
    folder.put("a.csv", "code,name\n1,甲\n")
    refusal = Misconfigured(Text("否", "not this one"), hint=Text("否", "no"))

    def pull(cursor: Cursor | None, *, refuse: bool) -> tuple[list[Pulled], ExchangeError | None]:
        pulls: list[Pulled] = []
        stream = folder.source().pull(cursor)
        try:
            pulled = next(stream, None)
            while pulled is not None:
                pulls.append(pulled)
                rows = refuse and bool(pulled.frame.width)
                pulled = stream.throw(refusal) if rows else next(stream, None)
        except ExchangeError as error:
            return pulls, error
        return pulls, None

    first, error = pull(None, refuse=True)
    assert [p.frame.height for p in first] == [1, 0]
    assert "not this one" in str(error)
    second, error = pull(first[-1].cursor, refuse=True)
    assert [(p.frame.columns, p.frame.height) for p in second] == [([*COLUMNS], 0), ([], 0)]
    assert "not this one" in str(error)
    third, error = pull(second[-1].cursor, refuse=False)
    assert [p.frame.height for p in third] == [0, 1]
    assert error is None


def test_all_sheets_have_a_header_before_the_first_record_comes(folder: Folder) -> None:
    good = [("code", "name"), *((str(n), "甲") for n in range(50))]
    folder.put("a.xlsx", minimal_xlsx({"一": good, "二": [("项目", "金额"), ("x", "y")]}))
    pulls, error = pull_all(folder.source(sheets="all", batch_rows=10).pull())
    assert [p.frame.height for p in pulls] == [0]
    assert "a.xlsx/二" in str(error)
    folder.put("a.xlsx", minimal_xlsx({"一": good, "二": [("code", "x"), ("7", "y")]}))
    pulls = folder.pull(sheets="all", batch_rows=100)
    assert [(p.locator, p.frame.height) for p in pulls] == [
        *(("a.xlsx/一", 0), ("a.xlsx/二", 0), ("a.xlsx/一", 50), ("a.xlsx/二", 1))
    ]
    resumed = folder.pull(pulls[0].cursor, sheets="all", batch_rows=100)
    assert sum(p.frame.height for p in resumed) == 51


def test_a_link_that_leads_outside_holds_up_no_other_file(folder: Folder, tmp_path: Path) -> None:
    inner = Folder(tmp_path / "in")
    secret = folder.put("secret.csv", "code,name\n3,丙\n")
    inner.put("b.csv", "code,name\n1,甲\n")
    (inner.path / "a.csv").symlink_to(secret)
    pulls, error = pull_all(inner.source().pull())
    assert [records(p.frame) for p in pulls if p.frame.width] == [[("1", "甲")]]
    assert "a.csv points outside the folder" in str(error)


@pytest.mark.parametrize(
    "head", [b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"<html>"]
)
def test_a_file_without_end_is_refused(folder: Folder, head: bytes) -> None:
    """A terabyte of nothing: neither its content nor its digest is read to the end."""
    with (folder.path / "a.csv").open("wb") as stream:
        stream.write(head)
        stream.truncate(1 << 40)
    folder.put("b.csv", "code,name\n1,甲\n")
    pulls, error = pull_all(folder.source().pull())
    assert [records(p.frame) for p in pulls if p.frame.width] == [[("1", "甲")]]
    assert "a.csv" in str(error)
    assert "a.csv" in str(pull_all(folder.source().pull(pulls[-1].cursor))[1])


LINES = [b"a,b", "张三,1".encode(), "张三,1".encode("gbk"), "é".encode(), b"\xff", b"", b"\r"]


@given(st.lists(st.sampled_from(LINES) | st.binary(max_size=6), min_size=1))
def test_lines_are_counted_by_columns_as_one_by_one(lines: list[bytes]) -> None:
    data = b"\n".join(lines)
    beyond = [line for line in data.split(b"\n") if not line.isascii()]
    good = [line for line in beyond if line.decode(errors="ignore").encode() == line]
    if data:
        assert count_utf8(data) == (len(good), len(beyond))


def test_the_cursor_stays_bounded(folder: Folder) -> None:
    values = {f"{i:06}.csv": [1, 1, "0" * 64] for i in range(MAX_FILES + 5)}
    folder.put("new.csv", "code,name\n1,甲\n")
    (pulled,) = folder.pull({"files": values})
    assert pulled.cursor is not None
    assert len(pulled.cursor["files"]) == MAX_FILES + 1
    assert len(json.dumps(pulled.cursor)) < 768 * 1024


# --- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"], ids=lambda name: name
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"], ids=["comma", "tab", "semi", "pipe"])
def test_encodings_and_delimiters_are_found(
    folder: Folder, encoding: str, end: str, delimiter: str
) -> None:
    # 俓 and 誠 have the bytes of | and \ within them in GBK.
    rows = [("编码", "名称", "备注"), ("01", "张俓誠", "大兴安岭"), ("02", "李四", "")]
    folder.put("a.txt", end.join(delimiter.join(row) for row in rows).encode(encoding))
    frame = folder.frame()
    assert frame.columns == ["编码", "名称", "备注", "_row", "_defect"]
    assert records(frame) == [("01", "张俓誠", "大兴安岭"), ("02", "李四", None)]
    assert frame["_row"].to_list() == [2, 3]
    assert frame["_defect"].null_count() == 2


def test_encodings_decide_late_and_by_majority(folder: Folder) -> None:
    plain = "code,name\n" + "1,a\n" * 200
    for encoding in ("utf-8", "gb18030"):
        folder.put(f"{encoding}.csv", (plain + "2,大兴安岭\n").encode(encoding))
        frame = folder.frame(glob=f"{encoding}.csv", block_bytes=64)
        assert frame["name"][-1] == "大兴安岭"
    damaged = ("code,name\n" + "1,大兴安岭\n" * 9).encode() + b"2,\xff\xfe\n3,ok\n"
    assert encoding_of(damaged) == "utf-8"
    folder.put("damaged.csv", damaged)
    frame = folder.frame(glob="damaged.csv")
    assert frame.height == 11
    assert frame["name"].to_list()[:9] == ["大兴安岭"] * 9
    assert frame.filter(pl.col("_defect").is_not_null())["code"].to_list() == ["2"]


def test_irregular_rows_come_with_what_is_wrong(folder: Folder) -> None:
    folder.put(
        "a.csv",
        "code,name,note\n"
        "1,甲,ok\n"
        "2,乙\n"
        "3,丙,x,surplus\n"
        '4,"丁\n'
        "5,戊,after a stray quote\n"
        '6,"己, ""A"" 己",ok\n'
        '7,"two\nlines",ok\n'
        "\n"
        "8,a\0b,ok\n"
        ",,\n"
        "9,壬,ok\n",
    )
    frame = folder.frame()
    result = frame.select("code", "_row", "_defect").rows()
    result = frame.select("code", "_row", "_defect").rows()
    values = {code: (row, defect) for code, row, defect in result}
    assert list(values) == ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert [row for row, _ in values.values()] == [2, 3, 4, 5, 6, 7, 8, 11, 13]
    assert {code for code, (_, defect) in values.items() if defect} == {"2", "3", "4", "8"}
    assert values["2"][1] == "2 cells where the header has 3\n2,乙"
    assert values["3"][1] == "4 cells where the header has 3\n3,丙,x,surplus"
    assert "quote" in values["4"][1]
    assert "NUL" in values["8"][1]
    names = dict(frame.select("code", "name").rows())
    assert names["6"] == '己, "A" 己'
    assert names["7"] == "two\nlines"


def test_titles_and_group_rows_are_notes_not_records(folder: Folder) -> None:
    head = "附件1：,,\n名单,,\n编码,名称,备注\n"
    folder.put("a.csv", head + "北京市（2所）,,\n1,甲,\n2,乙,x\n天津市（1所）,,\n3,丙,\n")
    (pulled,) = folder.pull()
    assert records(pulled.frame) == [("1", "甲", None), ("2", "乙", "x"), ("3", "丙", None)]
    assert [(n.row, n.kind, n.text) for n in pulled.notes] == [
        (1, "title", "附件1："),
        (2, "title", "名单"),
        (4, "group", "北京市（2所）"),
        (7, "group", "天津市（1所）"),
    ]
    (pulled,) = folder.pull(group_rows="record")
    assert pulled.frame.height == 5
    folder.put("many.csv", "a,b,c\n" + "1,,\n" * 3000)
    with pytest.raises(Misconfigured, match="group_rows: record"):
        folder.pull(glob="many.csv")


def test_headers_can_be_named(folder: Folder) -> None:
    folder.put("a.csv", "1,甲,x\n2,乙,y\n")
    frame = folder.frame(header=0, columns=["code", "name", "note"])
    assert records(frame) == [("1", "甲", "x"), ("2", "乙", "y")]
    with pytest.raises(Misconfigured, match="needs the names"):
        folder.pull(header=0)
    folder.put("a.csv", "code,name,name,\n1,甲,乙,z\n")
    assert folder.frame(header=1).columns[:4] == ["code", "name", "name_2", "column_4"]
    with pytest.raises(Misconfigured, match="did you mean 'name'"):
        folder.pull(columns=["code", "nmae"])


def test_empty_files_and_only_headers(folder: Folder) -> None:
    folder.put("b.csv", "code,name\n")
    (pulled,) = folder.pull()
    assert pulled.frame.height == 0
    assert folder.pull(pulled.cursor) == []
    folder.put("a.csv", "")
    with pytest.raises(Misconfigured, match="is empty"):
        folder.pull(glob="a.csv")


CELLS = st.text(
    st.characters(codec="gb18030", exclude_characters="\r\0"),
    max_size=6,
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12),
    st.sampled_from(["utf-8", "gb18030"]),
    st.integers(min_value=16, max_value=200),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_table_survives_text(
    rows: list[list[str]],
    encoding: str,
    block: int,
    end: str,
    always: bool,  # noqa: FBT001
) -> None:
    numbered = [[f"#{i}", *row] for i, row in enumerate(rows)]
    text = io.StringIO(newline="")
    quoting: Any = csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=end, quoting=quoting).writerows(
        [["a", "b", "c", "d"], *numbered]
    )
    data = text.getvalue().encode(encoding)
    assume(encoding != "utf-8" or not chance_lines(data))  # nobody can tell these from GBK
    how = TextFormat(encoding, ",", 1, (), "record", block)
    seen = bytearray()
    whole = list(read_text(io.BytesIO(data), how, TextPosition(), "x", seen.extend))
    assert bytes(seen) == data
    frame = pl.concat([part.frame for part in whole])
    assert records(frame) == [tuple(cell or None for cell in row) for row in numbered]
    assert frame["_defect"].null_count() == frame.height
    for place, part in enumerate(whole):
        stream = io.BytesIO(data)
        rest = list(read_text(stream, how, TextPosition(*part.position), "x", lambda _: None))
        both = pl.concat([p.frame for p in (*whole[: place + 1], *rest)])
        assert both.equals(frame), "resumed at any position it goes on there"


@given(st.lists(st.text('ab,"\n甲', max_size=12), max_size=20), st.integers(16, 120))
def test_no_line_of_any_text_is_lost(lines: list[str], block: int) -> None:
    """However broken: each character of each line is in a cell or in the defect's original."""
    data = ("x,y\n" + "\n".join(f"{i}·{line}" for i, line in enumerate(lines))).encode()
    how = TextFormat("utf-8", ",", 1, (), "record", block)
    parts = list(read_text(io.BytesIO(data), how, TextPosition(), "x", lambda _: None))
    text = "\n".join(
        "\n".join(str(cell) for cell in row if cell is not None)
        for part in parts
        for row in part.frame.rows()
    )
    for i in range(len(lines)):
        assert f"{i}·" in text


# --- spreadsheets -----------------------------------------------------------------------------


def test_cells_read_as_a_person_reads_them(folder: Folder) -> None:
    header = ["编码", "金额", "日期", "时刻", "是否", "身份证"]
    folder.sheet(
        "a.xlsx",
        [
            ["附件1："],
            [None],
            header,
            [
                4111010001,
                0.1 + 0.2,
                date(2024, 2, 29),
                datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001 - Excel knows no zones
                True,
                "232701199001010011",
            ],
            [
                123456789012345,
                -1.5,
                date(2024, 3, 1),
                datetime(2024, 1, 2),  # noqa: DTZ001
                False,
                232701199001010011,
            ],
            [None, None, None, None, None, None],
            ["合计"],
            [5, 1e-7, None, None, None, "x"],
        ],
    )
    (pulled,) = folder.pull()
    frame = pulled.frame
    assert frame["编码"].to_list() == ["4111010001", "123456789012345", "5"]
    assert frame["金额"].to_list() == ["0.3", "-1.5", "0.0000001"]
    assert frame["是否"].to_list() == ["TRUE", "FALSE", None]
    assert frame["时刻"].to_list() == ["2024-01-02 03:04:05", "2024-01-02 00:00:00", None]
    assert frame["_row"].to_list() == [4, 5, 8]
    assert frame["身份证"][0] == "232701199001010011"
    assert frame["_defect"].is_not_null().to_list() == [False, True, False]
    assert "15 digits" in frame["_defect"][1]
    assert [(n.row, n.kind) for n in pulled.notes] == [(1, "title"), (7, "group")]
    assert pulled.locator == "a.xlsx/表一"


def test_merged_cells_count_for_each_row(folder: Folder) -> None:
    folder.sheet(
        "a.xlsx",
        [["部门", "事项", "次"], [None, "甲", 1], [None, "乙", 2], ["b", "丙", 3]],
        A2_A3="林业局",
    )
    assert records(folder.frame()) == [
        ("林业局", "甲", "1"),
        ("林业局", "乙", "2"),
        ("b", "丙", "3"),
    ]


def test_tables_may_start_anywhere(folder: Folder) -> None:
    folder.sheet("a.xlsx", [[None] * 4, [None, None, "code", "name"], [None, None, "1", "甲"]])
    frame = folder.frame()
    assert records(frame) == [("1", "甲")]
    assert frame["_row"].to_list() == [3]


def test_sheets_are_chosen_and_the_others_told(folder: Folder) -> None:
    book = xlsxwriter.Workbook(folder.path / "a.xlsx")
    book.add_worksheet("空")
    for name in ("一", "二"):
        sheet = book.add_worksheet(name)
        for number, row in enumerate((["code", "name"], ["1", name])):
            sheet.write_row(number, 0, row)
    hidden = book.add_worksheet("隐藏")
    hidden.write_row(0, 0, ["code", "name"])
    hidden.hide()
    book.close()
    (pulled,) = folder.pull()
    assert records(pulled.frame) == [("1", "一")]
    assert [(n.kind, n.text) for n in pulled.notes] == [("sheet", "二"), ("hidden sheet", "隐藏")]
    assert folder.frame(sheet="二")["name"].to_list() == ["二"]
    assert folder.frame(sheet=3)["name"].to_list() == ["二"]
    with pytest.raises(Misconfigured, match="has no sheet"):
        folder.pull(sheet="三")


def test_a_text_table_named_xls_is_read(folder: Folder) -> None:
    folder.put("a.xls", "编码\t名称\n1\t甲\n".encode("gbk"))
    assert records(folder.frame()) == [("1", "甲")]


def test_a_zip_bomb_is_refused(folder: Folder) -> None:
    path = folder.path / "bomb.xlsx"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as member,
    ):
        for _ in range(child.MAX_UNZIPPED // (16 << 20) + 1):
            member.write(bytes(16 << 20))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(Rejected, match="zip bomb"):
        folder.pull()


@pytest.mark.skipif(not SHARED.exists(), reason="the ministry's file is not beside the project")
def test_the_ministrys_list_of_universities(folder: Folder) -> None:
    shutil.copy(SHARED / "universities-2025.xls", folder.path)
    pulls = folder.pull()
    frame = pl.concat([p.frame for p in pulls])
    notes = [note for p in pulls for note in p.notes]
    assert frame.height == 2919
    assert len(notes) == 33
    assert sum(note.kind == "group" for note in notes) == 31
    assert frame["序号"].to_list() == [str(i) for i in range(1, 2920)]
    codes = frame["学校标识码"]
    assert codes.str.contains("^[0-9]{10}$").all()
    assert codes.n_unique() == 2919
    assert frame["_defect"].null_count() == 2919
