"""Tables of dBase and FoxPro: written by another library, read to the digit, or refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dbf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import Rejected
from exchange.connectors.files.book import SheetFormat, Start, read_book
from exchange.connectors.files.dbf import read_dbf
from tests.support.folder import Folder

DBASE = "NAME C(12); FEE N(10,2); RATE F(8,3); BORN D; OPEN L"
FOXPRO = "NAME C(12); AGE I; FEE Y; RATE B; AT T; BORN D NULL; OPEN L"


def written(
    path: Path, rows: Sequence[tuple[Any, ...]], fields: str = DBASE, kind: str = "db3"
) -> Path:
    """Write a table with the library ``dbf``."""
    table = dbf.Table(str(path), fields, codepage="cp936", dbf_type=kind)
    # The library opens a new table twice, and leaves the first time to the collector.
    first = (table._meta.dfd, table._meta.mfd)
    with table.open(mode=dbf.READ_WRITE):
        for row in rows:
            table.append(row)
    for stream in (*first, table._meta.dfd, table._meta.mfd):
        if stream is not None:
            stream.close()
    return path


def values(data: bytes) -> tuple[list[tuple[Any, ...]], list[str | None], list[str]]:
    """Return records, defects and notes."""
    (part,) = read_book(read_dbf(data), SheetFormat(), Start(), "t.dbf")
    rows = list(zip(*part.columns, strict=True))
    return rows, part.defects, [remark.text for remark in part.notes]


def test_dbase_is_read_to_the_digit(tmp_path: Path) -> None:
    rows = [
        ("张俊", 1234567.89, 1.5, date(1999, 12, 31), True),
        ("丙 ", -0.5, -0.125, None, False),
        ("", None, None, date(2026, 2, 28), None),
    ]
    records, defects, notes = values(written(tmp_path / "t.dbf", rows).read_bytes())
    assert records == [
        ("张俊", "1234567.89", "1.500", "1999-12-31", "TRUE"),
        ("丙", "-0.50", "-0.125", None, "FALSE"),
        (None, None, None, "2026-02-28", None),
    ]
    assert defects == [None] * 3
    assert notes == []


def test_visual_foxpro_is_read_to_the_digit(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 1, 8, 0, 1)  # noqa: DTZ001 - there is no zone in it
    rows = [
        ("王五", -7, 12345.6789, 0.1, moment, date(1999, 1, 2), True),
        ("六", 2**31 - 2, -0.0001, 1e300, None, dbf.Null, False),
    ]
    path = written(tmp_path / "t.dbf", rows, FOXPRO, "vfp")
    assert values(path.read_bytes())[0] == [
        ("王五", "-7", "12345.6789", "0.1", "2026-11-01 08:00:01", "1999-01-02", "TRUE"),
        ("六", "2147483646", "-0.0001", "1e+300", None, None, "FALSE"),
    ]


def test_deleted_rows_and_memos_are_noted(tmp_path: Path) -> None:
    rows = [(name, f"备注{name}") for name in ("甲", "乙", "丙")]
    data = written(tmp_path / "t.dbf", rows, "NAME C(10); NOTE M").read_bytes()
    head, width = struct.unpack_from("<HH", data, 8)
    records, _, notes = values(changed(data, head + width, b"*"))
    assert records == [("甲",), ("丙",)]
    assert notes == [
        "rows that are marked as deleted: 1",
        "memos lie in another file and are not read: NOTE",
    ]


def test_rows_that_look_like_titles_are_records(tmp_path: Path) -> None:
    """A table of a database has no group rows and no footers."""
    rows = [("北京市", None), ("合计", 3), ("制表人：甲", None), ("甲", 1)]
    path = written(tmp_path / "t.dbf", rows, "NAME C(20); N N(4,0)")
    assert [name for name, _ in values(path.read_bytes())[0]] == [name for name, _ in rows]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.fixture
def table(tmp_path: Path) -> bytes:
    rows = [("张三", 1.25, 0.5, date(2026, 1, 2), True), ("李四", 2, 1, date(2026, 1, 3), False)]
    return written(tmp_path / "t.dbf", rows).read_bytes()


HEAD, WIDTH = 32 + 5 * 32 + 1, 1 + 12 + 10 + 8 + 8 + 1


@pytest.mark.parametrize(
    ("at", "new", "error"),
    [
        (4, b"\3", "it counts 3 rows, and holds 2"),
        (4, b"\1", "it counts 1 rows, and holds 2"),
        (10, b"\x30", "counts 2 rows"),
        (14, b"\1", "transaction"),
        (15, b"\1", "encryption"),
        (29, b"\3", "0x03 is not a Chinese one"),
        (32 + 11, b"P", "is of type 'P'|memo"),
        (32 + 11, b"Z", "NAME is of type 'Z'"),
        (32 + 16, b"\x0b", "fields do not make up its rows"),
        (HEAD - 1, b"x", "description of its fields is damaged"),
        (HEAD, b"?", "the mark of a row is damaged"),
        (32 + 3 * 32 + 16, b"\7", "BORN has a wrong length"),
    ],
)
def test_a_damaged_table_is_refused(at: int, new: bytes, error: str, table: bytes) -> None:
    assert len(table) in (HEAD + 2 * WIDTH, HEAD + 2 * WIDTH + 1)
    if new == b"P":
        assert values(changed(table, at, new))[2] == [
            "memos lie in another file and are not read: NAME"
        ]
        return
    with pytest.raises(Rejected, match=error):
        values(changed(table, at, new))


@pytest.mark.parametrize(
    ("at", "new", "defect"),
    [
        (1, b"\xff\xff", "NAME: bytes that are not gb18030"),
        (1, b"a\0bb", "NAME: a NUL character"),
        (13, b"**********", "FEE: a number that did not fit"),
        (13, b"1.2.3     ", "FEE: no number"),
        (31, b"20260230", "BORN: no date"),
        (31, b"2026 1 2", "BORN: no date"),
        (39, b"x", "OPEN: neither true nor false"),
    ],
)
def test_a_value_that_cannot_be_read_costs_its_row(
    at: int, new: bytes, defect: str, table: bytes
) -> None:
    _, defects, _ = values(changed(table, HEAD + at, new))
    assert defects == [defect, None]


@pytest.mark.parametrize("mark", [0x00, 0x57, 0x7A, 0x4D])
def test_gbk_is_known_by_its_mark_or_its_bytes(mark: int, table: bytes) -> None:
    records, _, _ = values(changed(table, 29, bytes([mark])))
    assert [name for name, *_ in records] == ["张三", "李四"]


def test_a_folder_of_tables_is_pulled(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    rows = [(f"张{n}", n, 0, date(2026, 1, 2), True) for n in range(30)]
    written(folder.path / "1.DBF", rows)
    (entry,) = folder.source().discover()
    assert [column["name"] for column in entry["columns"]][:2] == ["NAME", "FEE"]
    pulls = list(folder.source(batch_rows=7).pull())
    names = [name for pulled in pulls for name in pulled.frame["NAME"].to_list()]
    assert names == [f"张{n}" for n in range(30)]
    assert len(pulls) > 1
    rest = [
        name for p in folder.source(batch_rows=7).pull(pulls[0].cursor) for name in p.frame["NAME"]
    ]
    assert rest == names[7:]


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 80))
def test_any_bytes_are_read_or_refused(body: bytes, count: int, width: int) -> None:
    field = struct.pack("<11sc4xBB14x", b"A", b"C", max(0, width - 1), 0)
    head = struct.pack("<B3xIHH20x", 3, count, 65, width)
    for data in (head + field + b"\r" + body, head + body):
        try:
            values(data)
        except Rejected:
            continue
