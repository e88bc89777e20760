"""Files are untrusted: whatever the process that reads them does, the node goes on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter

from exchange.connect import Denied, Misconfigured, Rejected, Transient
from exchange.connectors.files.book import SheetFormat
from exchange.connectors.files.process import ReaderProcess
from tests.support.folder import Folder, end, records

MANY = 4_000
"""Rows of one frame each: far more than a socket holds, so that the process waits with the rest."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def reader() -> Iterator[ReaderProcess]:
    with ReaderProcess(memory=512, seconds=60) as reader:
        yield reader


def request(**how: Any) -> dict[str, Any]:
    options = {key: getattr(SheetFormat(), key) for key in SheetFormat.__slots__}
    return {"want": "records", "how": {**options, **how}, "start": (0, 0), "place": "a.xlsx"}


def workbook(path: Path, rows: int) -> Path:
    book = xlsxwriter.Workbook(path, {"constant_memory": True})
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["code", "name"])
    for row in range(1, rows + 1):
        sheet.write_row(row, 0, [f"{row:06}", "甲" * 10])
    book.close()
    return path


def pid_of(reader: ReaderProcess) -> int:
    assert reader._process is not None
    return reader._process.pid


@pytest.mark.parametrize("how", [signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU])
def test_a_process_that_dies_costs_one_file(
    folder: Folder, reader: ReaderProcess, how: signal.Signals
) -> None:
    path = workbook(folder.path / "a.xlsx", MANY)
    with path.open("rb") as stream:
        answers = reader.read(stream, request(batch_rows=1))
        assert next(answers)["columns"] == [["000001"], ["甲" * 10]]
        first = pid_of(reader)
        os.kill(first, how)
        with pytest.raises(Rejected, match=r"ends the program|takes longer"):
            list(answers)
        assert not Path(f"/proc/{first}").exists(), "it is waited for"
        rest = list(reader.read(stream, request()))
    assert sum(len(part["rows"]) for part in rest) == MANY
    assert pid_of(reader) != first


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_process_that_was_stopped_says_nothing_about_the_file(
    folder: Folder, reader: ReaderProcess, how: signal.Signals
) -> None:
    path = workbook(folder.path / "a.xlsx", MANY)
    with path.open("rb") as stream:
        answers = reader.read(stream, request(batch_rows=1))
        next(answers)
        os.kill(pid_of(reader), how)
        with pytest.raises(Transient, match="stopped"):
            list(answers)


def test_one_process_reads_many_files_and_inherits_nothing(
    folder: Folder, reader: ReaderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASES_URL", "postgresql://user:secret@host/db")
    path = workbook(folder.path / "a.xlsx", 3)
    names = set()
    for _ in range(3):
        with path.open("rb") as stream:
            (part,) = reader.read(stream, request())
        assert part["rows"] == [2, 3, 4]
        names.add(pid_of(reader))
    (pid,) = names
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {entry.partition(b"=")[0] for entry in environment if entry} <= {b"LC_ALL", b"TZ"}
    targets = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    assert sorted(t.partition(":")[0] for t in targets) == ["/dev/null"] * 3 + ["socket"]
    reader.close()
    assert not Path(f"/proc/{pid}").exists()


def test_leaving_early_ends_the_process(folder: Folder) -> None:
    workbook(folder.path / "a.xlsx", MANY)
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    names = set(path.read_text().split())
    stream = folder.source(batch_rows=1).pull()
    next(stream)
    children = set(path.read_text().split()) - names
    assert children
    stream.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_node_that_is_killed_leaves_no_process(folder: Folder) -> None:
    path = workbook(folder.path / "a.xlsx", MANY)
    script = (
        "import sys, os, signal\n"
        "from tests.connect.test_files_reader import ReaderProcess, request, pid_of\n"
        "reader = ReaderProcess(memory=512, seconds=60)\n"
        "answers = reader.read(open(sys.argv[1], 'rb'), request(batch_rows=1))\n"
        "next(answers)\n"
        "print(pid_of(reader), flush=True)\n"
        "sys.stdin.read()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as node:
        assert node.stdout is not None
        pid = int(node.stdout.readline())
        handle = os.pidfd_open(pid)
        node.communicate()
    assert node.returncode == -signal.SIGKILL
    ended, _, _ = select.select([handle], [], [], 120)
    os.close(handle)
    assert ended


def test_a_file_that_takes_all_memory_is_refused(folder: Folder) -> None:
    folder.sheet("b.xlsx", [("code", "name"), ("1", "甲")])
    template = folder.path / "b.xlsx"
    item = b"<si><t>" + b"x" * 9_000 + b"</t></si>"
    with (
        zipfile.ZipFile(template) as source,
        zipfile.ZipFile(folder.path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            if entry != "xl/sharedStrings.xml":
                target.writestr(entry, source.read(entry))
        with target.open("xl/sharedStrings.xml", "w") as member:
            member.write(b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">')
            for _ in range(70):
                member.write(item * 120)
            member.write(b"</sst>")
    stream = folder.source(read_memory=64).pull()
    assert records(next(stream).frame) == [("1", "甲")]
    with pytest.raises(Rejected, match=r"a.xlsx.*64 MiB"):
        end(stream)


def test_a_file_that_takes_too_long_is_refused(folder: Folder) -> None:
    folder.sheet("b.xlsx", [("code", "name"), ("1", "甲")])
    row = b"<row><c><v>1</v></c><c><v>2</v></c><c><v>3</v></c></row>"
    with (
        zipfile.ZipFile(folder.path / "b.xlsx") as source,
        zipfile.ZipFile(folder.path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            if entry != "xl/worksheets/sheet1.xml":
                target.writestr(entry, source.read(entry))
        with target.open("xl/worksheets/sheet1.xml", "w") as member:
            name = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
            member.write(b'<worksheet xmlns="' + name + b'"><sheetData>')
            head = (
                b'<row><c t="str"><v>%s</v></c><c t="str"><v>b</v></c><c t="str"><v>c</v></c></row>'
            )
            member.write(head % b"a")
            for _ in range(120):
                member.write(row * 10_000)
            member.write(b"</sheetData></worksheet>")
    stream = folder.source(read_seconds=1, batch_rows=100_000).pull()
    frames: list[pl.DataFrame] = []
    with pytest.raises(Rejected, match=r"a.xlsx.*takes longer"):
        frames.extend(pulled.frame for pulled in stream if pulled.frame.width)
    assert [("1", "甲")] in [records(frame) for frame in frames], "the other file goes on"


def test_what_is_no_file_is_told_and_not_waited_for(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe.csv")
    (folder.path / "folder.xlsx").mkdir()
    folder.put("a.csv", "code,name\n1,甲\n")
    assert folder.frame()["code"].to_list() == ["1"]
    told = folder.notes(glob="*.csv") + folder.notes(glob="*.xlsx")
    assert [text.partition("：")[0] for _, _, text in told] == ["pipe.csv", "folder.xlsx"]
    assert ["no regular file" in text for _, _, text in told] == [True, False]
    assert "a folder" in told[1][2]


def test_each_refused_file_is_named(folder: Folder) -> None:
    folder.put("a.xlsx", b"PK\x03\x04 damaged")
    folder.put("b.csv", "code,name\n1,甲\n")
    folder.put("c.xls", "<html>no table</html>")
    folder.put("d.csv", "nothing")
    stream = folder.source(columns=["code"]).pull()
    assert records(next(stream).frame) == [("1", "甲")]
    with pytest.raises(Rejected) as refused:
        end(stream)
    for name in ("a.xlsx", "c.xls", "d.csv"):
        assert name in refused.value.what.en
        assert name in refused.value.what.zh
    assert "export the file again" in refused.value.hint.en


def test_a_file_without_rights_is_named(folder: Folder) -> None:
    secret = folder.put("a.csv", "code,name\n1,甲\n")
    folder.put("b.csv", "code,name\n2,乙\n")
    secret.chmod(0)
    if os.access(secret, os.R_OK):  # root reads all: a link to nowhere stands for it
        secret.unlink()
        secret.symlink_to(folder.path / "gone.csv")
        assert folder.frame()["code"].to_list() == ["2"]
        assert folder.notes()[0][2].startswith("a.csv：")
        return
    stream = folder.source().pull()
    assert records(next(stream).frame) == [("2", "乙")]
    with pytest.raises(Denied, match=r"a.csv may not be read"):
        end(stream)


def test_xml_with_entities_is_refused(folder: Folder) -> None:
    folder.sheet("b.xlsx", [("code", "name"), ("1", "甲")])
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    with (
        zipfile.ZipFile(folder.path / "b.xlsx") as source,
        zipfile.ZipFile(folder.path / "a.xlsx", "w") as target,
    ):
        for entry in source.namelist():
            data = source.read(entry).decode()
            if entry == "xl/sharedStrings.xml":
                data = data.replace("<sst", f"{bomb}<sst", 1).replace("code", "&b;")
            target.writestr(entry, data)
    (folder.path / "b.xlsx").unlink()
    with pytest.raises(Rejected, match="DOCTYPE"):
        folder.pull()


def test_a_file_that_grows_comes_to_an_end(folder: Folder) -> None:
    path = folder.put("a.csv", "code,name\n" + "1,甲\n" * 100)
    stream = folder.source(block_bytes=64).pull()
    rows: list[int] = []
    with path.open("a") as more:

        def grow() -> None:
            for pulled in stream:
                rows.append(pulled.frame.height)
                more.write("2,乙\n" * 100)
                more.flush()

        with pytest.raises(Transient, match="changed while"):
            grow()
    assert 0 < sum(rows) <= 101


def test_wrong_sheets_name_those_there_are(folder: Folder) -> None:
    folder.sheet("a.xlsx", [("code", "name"), ("1", "甲")])
    with pytest.raises(Misconfigured, match=r"no sheet 表二.*there are: 表一"):
        folder.pull(sheet="表二")
