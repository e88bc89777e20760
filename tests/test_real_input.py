"""Real input as it comes: docs/real-input.md, walked and counted to the digit."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from python_calamine import CalamineWorkbook

from exchange.node.node import Node
from exchange.settings import load
from tests.support.servers import Server, free_port
from tests.support.shell import Shell

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
DIVISIONS, UNIVERSITIES = DATA / "divisions-china.csv", DATA / "universities-2025.xls"
PAGE = (ROOT / "docs" / "real-input.md").read_text()

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="needs divisions-china.csv and universities-2025.xls in ../shared/data beside this tree",
)


@pytest.fixture
def divisions(postgres: Server) -> Iterator[str]:
    """Load the divisions as the page does; yield the address of the database."""
    (create,) = re.findall(r'-c "(create table [^"]*)"', PAGE)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS divisions")
        connection.execute(create)
        with connection.cursor().copy("COPY divisions FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(DIVISIONS.read_bytes())
        yield postgres.url
        connection.execute("DROP TABLE divisions")


def documented() -> dict[str, dict[str, int]]:
    """Return the counts of the page's table, by resource."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    names = ("sealed", "quarantine", "batches", "receipts")
    return {
        cells[0]: {n: int(c.replace(",", "")) for n, c in zip(names, cells[2:], strict=True)}
        for cells in lines
        if cells[0] in {"divisions", "universities"}
    }


def test_every_record_ends_in_a_receipt_unchanged(tmp_path: Path, divisions: str) -> None:
    shell = Shell(tmp_path)
    shell.environ["DIVISIONS_DB"] = divisions
    shell.run(f"exchange init node --port {free_port()}")
    shell.folder /= "node"
    configure(shell.folder)
    for department in ("civil", "education"):
        shell.run(f"exchange seal make {department}")
    with shell.background("exchange receiver serve --config province/exchange.yaml"):
        document = json.loads(shell.run("exchange run --once --json"))
    assert document["errors"] == {}
    assert document["pulled"] == document["accepted"] == 44_703 + 2_919
    status = json.loads(shell.run("exchange status --json"))["resources"]
    sealed = {item["resource"]: export(shell, item["resource"]) for item in status}
    assert {
        entry["resource"]: {
            "sealed": len(sealed[entry["resource"]]),
            **{name: entry[name] for name in ("quarantine", "batches", "receipts")},
        }
        for entry in status
    } == documented()

    check_divisions(sealed["divisions"])
    check_universities(sealed["universities"])
    check_notes(shell)


def configure(node: Path) -> None:
    """Take the catalog, the folder and the settings that the page takes."""
    shutil.copy(ROOT / "catalog.yaml", node / "catalog.yaml")
    (node / "inbox").mkdir()
    shutil.copy(UNIVERSITIES, node / "inbox")
    path = node / "exchange.yaml"
    text = re.sub(r"^(seals|sources):.*\n(?:[ #].*\n)*", "", path.read_text(), flags=re.MULTILINE)
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path.write_text(text + block)
    province = node / "province" / "exchange.yaml"
    (scope,) = re.findall(r"departments: \[.*\]", province.read_text())
    province.write_text(province.read_text().replace(scope, "departments: any"))


def export(shell: Shell, resource: str) -> list[dict[str, Any]]:
    """Export and verify all batches and receipts of a resource; read them with plain fastavro."""
    listed = json.loads(shell.run(f"exchange cascade list {resource} --json"))["deliveries"]
    numbers = sorted(item["batch_no"] for item in listed)
    for number in numbers:
        shell.run(f"exchange cascade export {resource} {number} --to evidence")
    files = sorted((shell.folder / "evidence").glob(f"{resource}-*"))
    assert len(files) == 2 * len(numbers)
    answers = shell.run(f"exchange verify {' '.join(map(str, files))} --json").splitlines()
    items = [json.loads(answer) for answer in answers]
    assert all(entry["ok"] for entry in items)
    assert {item["file"] for item in items} >= {str(path) for path in files}
    records: list[Any] = []
    for path in files:
        if path.suffix == ".avro":
            with path.open("rb") as stream:
                records += fastavro.reader(stream)
    return records


def check_divisions(records: list[dict[str, Any]]) -> None:
    with DIVISIONS.open(encoding="utf-8", newline="") as stream:
        expected = {row["code"]: row for row in csv.DictReader(stream)}
    assert len(expected) == len(records) == 44_703
    for record in records:
        row = expected[record["code"]]
        values = {name: record[name] or "" for name in row}
        assert values == row
        assert record["cd_operation"] == "I"


def sheet() -> list[list[Any]]:
    workbook = CalamineWorkbook.from_path(UNIVERSITIES)
    return workbook.get_sheet_by_index(0).to_python(skip_empty_area=False)


def check_universities(records: list[dict[str, Any]]) -> None:
    rows = [row for row in sheet() if isinstance(row[0], float)]
    assert len(records) == len(rows) == 2_919
    names = ("seq", "name", "school_code", "authority", "city", "school_level", "remark")
    for record, row in zip(records, rows, strict=True):
        # Most codes are numbers in the sheet: 4111010001.0 shows as ten digits.
        number = f"{row[2]:.0f}" if isinstance(row[2], float) else row[2]
        items = [int(row[0]), row[1], number, *row[3:]]
        assert [record[name] or "" for name in names] == items
        assert re.fullmatch(r"\d{10}", record["school_code"])


def check_notes(shell: Shell) -> None:
    """Titles and group rows are no records, and are kept with their places."""
    (listed,) = json.loads(shell.run("exchange quarantine list --json"))["notes"]
    assert sum(listed["kinds"].values()) == 33
    with Node(load(shell.folder / "exchange.yaml")) as node:
        notes = node.store.pulls.notes(listed["pull"])
    expected = {
        place: " ".join(row[0].split())
        for place, row in enumerate(sheet(), start=1)
        if row[0] and not any(row[1:])
    }
    assert {note.row: " ".join(note.text.split()) for note in notes} == expected
    kinds = Counter(note.kind for note in notes)
    assert kinds["group"] == 31
    groups = [note.text for note in notes if note.kind == "group"]
    assert all(re.fullmatch(r".+[（(]\d+所[)）]", text.strip()) for text in groups)
