"""Thirty sources, one of each poison: the others are sealed, each is named, each has an end.

The commands that end them are those of a table in docs/operations.md: a state without a test,
or a test without a row there, fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from exchange.log import Message, raw_topic
from exchange.pipeline.messages import pull_key
from tests.cli.conftest import Run
from tests.pipeline.place import Place, Record, catalog, records, source, write_csv, write_table
from tests.support.servers import Server, nobody
from tests.support.workbooks import minimal_xlsx

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TESTS = Path(__file__).parents[1]
ROWS = 5
FILES, TABLES, SERVED = 8, 8, 4
CHINESE = re.compile("[\u4e00-\u9fff]")
GOOD = [
    *(f"file{n}" for n in range(FILES)),
    *(f"table{n}" for n in range(TABLES)),
    *(f"served{n}" for n in range(SERVED)),
]
POISONS = (
    *("damaged", "huge", "header", "endless", "outside", "raises", "exits", "dead", "limit"),
    "foreign",
)
CONNECTOR = """\
import sys
from pathlib import Path
import polars as pl
from exchange.connect import connector

FRAME = pl.DataFrame({"id": ["r1"], "no": ["n1"], "name": ["x"], "issued": ["2026-01-01"]})

@connector("author")
def author(*, how: str, base: Path):
    yield FRAME
    if (base / "mended").exists():
        return
    if how == "exit":
        sys.exit("this library gives up")
    class Strange(Exception):
        pass
    raise Strange("of the author's own")
"""


@dataclass(frozen=True)
class Poison:
    """What is done about one poison: the state as the page names it, and what ends it."""

    state: str
    told: str
    """What status and doctor say of it."""
    end: Callable[[Path, Run, Server], None]


def good_row(name: str) -> list[Record]:
    return [
        Record(f"{name}-{row.id}", row.no, row.name, row.issued)
        for row in records(ROWS, dirty=False)
    ]


def table_of(name: str) -> str:
    return source("sql", name, f'url: "sqlite:///{name}.db", table: cases, cursor_column: seq')


def served_of(name: str, variable: str = "SERVED_URL") -> str:
    return source("sql", name, f"url: env:{variable}, table: poison_cases, cursor_column: seq")


def folder_of(name: str) -> str:
    return source("files", name, f"folder: drops/{name}, settle: 0")


def author_of(name: str, how: str) -> str:
    return source('"author.py:author"', name, f"how: {how}")


SOURCES = (
    "".join(folder_of(f"file{n}") for n in range(FILES))
    + "".join(table_of(f"table{n}") for n in range(TABLES))
    + "".join(served_of(f"served{n}") for n in range(SERVED))
    + "".join(map(folder_of, ("damaged", "huge", "header", "endless", "outside")))
    + author_of("raises", "raise")
    + author_of("exits", "exit")
    + served_of("dead", "DEAD_URL")
    + table_of("limit")
    + table_of("foreign")
)


@pytest.fixture
def place(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    names = (*GOOD, *POISONS)
    assert len(names) == 30
    place = Place.make(
        tmp_path / "node", catalog(*names, limits={"limit": "{max_count: 1}"}), SOURCES
    )
    _fill(place.folder)
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute("DROP TABLE IF EXISTS poison_cases")
        database.execute(
            "CREATE TABLE poison_cases AS SELECT i AS seq, 'r' || i AS id, 'n' || i AS no,"
            f" '名称' AS name, date '2026-01-01' AS issued FROM generate_series(1, {ROWS}) i"
        )
        database.execute("ALTER TABLE poison_cases ADD PRIMARY KEY (seq)")
        monkeypatch.setenv("SERVED_URL", postgres.url)
        monkeypatch.chdir(place.folder)
        with nobody() as address:
            monkeypatch.setenv("DEAD_URL", f"postgresql://nobody@{address}/none")
            yield place
        database.execute("DROP TABLE poison_cases")


def _fill(folder: Path) -> None:
    """Write what the sources read: real files and tables, good and poisoned."""
    titles = ("id", "no", "name", "issued")
    for number in range(FILES):
        name = f"file{number}"
        path = folder / "drops" / name / "a.csv"
        write_csv(path, good_row(name))
        if number == 1:
            path.write_bytes(path.read_text("utf-8").encode("gb18030"))
        if number == 2:
            path.unlink()
            rows = [(row.id, row.no, row.name, row.issued) for row in good_row(name)]
            path.with_suffix(".xlsx").write_bytes(minimal_xlsx([titles, *rows]))
    for name in (*(f"table{number}" for number in range(TABLES)), "foreign"):
        write_table(folder / f"{name}.db", good_row(name))
    bad = [Record(f"b{n}", f"b{n}", "坏", "?") for n in range(3)]
    write_table(folder / "limit.db", [*good_row("limit"), *bad])
    (folder / "author.py").write_text(CONNECTOR, encoding="utf-8")
    for name in ("damaged", "header", "endless", "outside"):
        write_csv(folder / "drops" / name / "z_good.csv", good_row(name))
    drops = folder / "drops"
    rows = [(row.id, row.no, row.name, row.issued) for row in good_row("huge")]
    (drops / "huge").mkdir()
    stray = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    (drops / "huge" / "a.xlsx").write_bytes(minimal_xlsx([titles, *rows], more=stray))
    whole = minimal_xlsx([titles, *rows])
    (drops / "damaged" / "a.xlsx").write_bytes(whole[: len(whole) // 2])
    (drops / "header" / "a.csv").write_text("编号,名字\n1,甲\n", encoding="utf-8")
    with (drops / "endless" / "a.csv").open("wb") as stream:
        stream.truncate(1 << 40)
    os.mkfifo(drops / "endless" / "pipe.csv")
    (drops / "outside" / "a.csv").symlink_to("/etc/passwd")


def _write_foreign(place: Place) -> None:
    """Somebody writes into a raw topic what no node of ours wrote."""
    with place.node() as node:
        node.context.ensure("foreign")
        with node.log.transaction("intruder") as tx:
            tx.append(Message(raw_topic("foreign"), b"no frame", headers={"rows": "7"}))


# --- what ends each -------------------------------------------------------------------------------


def _replace_file(folder: Path, _run: Run, _server: Server) -> None:
    damaged = folder / "drops" / "damaged" / "a.xlsx"
    damaged.unlink()
    write_csv(damaged.with_suffix(".csv"), [Record("d9", "d9", "改", "2026-01-01")])


def _change_catalog(folder: Path, run: Run, _server: Server) -> None:
    (folder / "drops" / "header" / "a.csv").write_text("id,no,name,issued\nh9,h9,甲,2026-01-01\n")
    retried = run("source", "retry", "header", "--json")
    assert retried.json == {"source": "header", "changed": True}
    assert run("source", "retry", "header", "--json").json["changed"] is False


def _move_away(name: str, *files: str) -> Callable[[Path, Run, Server], None]:
    def end(folder: Path, _run: Run, _server: Server) -> None:
        for file in files:
            (folder / "drops" / name / file).unlink()

    return end


def _mend_connector(folder: Path, run: Run, _server: Server) -> None:
    (folder / "mended").touch()
    assert run("connector", "check", "raises").code == 0


def _start_database(_folder: Path, _run: Run, server: Server) -> None:
    os.environ["DEAD_URL"] = server.url


def _release(_folder: Path, run: Run, _server: Server) -> None:
    assert run("release", "limit").code == 0


def _dismiss(_folder: Path, run: Run, _server: Server) -> None:
    (message,) = run("quarantine", "list", "foreign", "--json").json["messages"]
    shown = run("quarantine", "show", message["address"])
    assert "exchange.raw.foreign/0/0, 8 bytes, SHA-256 " in shown.out
    assert "records unknown" in shown.out
    assert "记录数不明" in run("quarantine", "show", message["address"], lang="zh").out
    arguments = ("--address", message["address"], "--reason", "不是本系统写入", "--apply")
    assert run("quarantine", "dismiss", "foreign", *arguments).code == 0


ENDS = {
    "damaged": Poison("file-refused", "a.xlsx", _replace_file),
    "header": Poison("header-refused", "a.csv: the source lacks required columns", _change_catalog),
    "endless": Poison("file-refused", "a.csv", _move_away("endless", "a.csv", "pipe.csv")),
    "outside": Poison(
        "file-refused", "a.csv points outside the folder", _move_away("outside", "a.csv")
    ),
    "raises": Poison("connector-fails", "Strange: of the author's own", _mend_connector),
    "exits": Poison("connector-fails", "SystemExit: this library gives up", _mend_connector),
    "dead": Poison("source-away", "refused", _start_database),
    "limit/0": Poison("over-limits", "the limit", _release),
    "foreign": Poison("message-unreadable", "cannot be read as records", _dismiss),
}
ELSEWHERE = {
    "settings-refused": "cli/test_poison.py::_check_that_settings_are_refused",
    "topic-anew": "cli/test_poison.py::_check_that_a_topic_made_anew_has_an_end",
    "topic-deleted": "cli/test_cluster.py::test_a_topic_that_was_deleted_comes_back_by_apply_alone",
    "deletions-wait": "cli/test_deletions.py::"
    "test_deletions_wait_for_a_person_who_accepts_or_refuses",
    "difference-lost": "cli/test_deletions.py::test_a_lost_state_has_an_end",
    "receipt-wrong": "pipeline/test_province.py::"
    "test_a_wrong_receipt_halts_its_resource_and_no_other",
    "batch-refused": "cli/test_cascade.py::test_a_refused_batch_is_sent_again_as_it_was",
    "batch-gap": "pipeline/test_clocks.py::test_a_gap_is_told_and_the_missing_batch_goes_first",
    "number-taken": "pipeline/test_clocks.py::test_a_number_in_use_is_let_in_by_a_person",
    "sealed-early": "pipeline/test_clocks.py::"
    "test_what_was_sealed_with_a_clock_ahead_is_sealed_again",
    "clock-wrong": "pipeline/test_clocks.py::test_a_province_whose_clock_is_wrong",
    "seal-stopped": "pipeline/test_seals.py::"
    "test_a_running_node_stops_with_its_seal_and_goes_on_with_it",
    "log-lost": "audit/test_lost_parts.py::test_each_part_and_each_pair_is_rebuilt",
    "evidence-other": "pipeline/test_evidence_writer.py::test_a_replaced_folder_is_not_continued",
    "resource-dropped": "pipeline/test_faults.py::"
    "test_a_resource_dropped_from_the_catalog_is_told_and_its_data_waits",
    "records-refused": "cli/test_quarantine.py::test_a_corrected_file_goes_back_once",
}
"""Where what ends a state is shown: file and function."""


def states() -> dict[str, str]:
    """Read the table of the page: the state of each row, and the command that ends it."""
    section = PAGE.read_text("utf-8").partition("## What stands still, and what ends it")[2]
    table = section.partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z-]+)` \|.*\| ([^|]+) \|$", table, re.MULTILINE))


def test_every_state_of_the_page_has_an_end_that_is_tested() -> None:
    found = states()
    assert set(found) == {poison.state for poison in ENDS.values()} | ELSEWHERE.keys()
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"\ndef {name}(" in (TESTS / file).read_text("utf-8"), place
    assert all("`exchange " in command for command in found.values())


def test_thirty_sources_one_of_each_poison(place: Place, run: Run, postgres: Server) -> None:
    _check_that_settings_are_refused(place.folder / "exchange.yaml", run)
    _write_foreign(place)
    with place.receiver():
        first = run("run", "--once", "--json")
        assert first.code == 3, first.err
        _check_that_the_good_is_sealed(sealed(place))
        _check_that_each_is_named(run)
        again = run("run", *POISONS, "--once", "--json")
        assert again.json["pulled"] == 0, "nothing comes twice"
        _check_that_the_good_is_sealed(sealed(place))

        for poison in ENDS.values():
            poison.end(place.folder, run, postgres)
        last = run("run", *POISONS, "--once", "--json")
        assert last.code == 0, last.err
        assert run("status", "--json").json["attention"] == []
        rows = sealed(place)
        assert (rows["damaged"], rows["header"]) == (ROWS + 1, ROWS + 1)
        assert (rows["limit"], rows["dead"]) == (ROWS, ROWS)
        _check_that_a_topic_made_anew_has_an_end(place, run)


def sealed(place: Place) -> dict[str, int]:
    """Count the sealed records by resource; all are receipted."""
    rows: dict[str, int] = {}
    with place.node() as node:
        for row in node.store.deliveries.find(limit=1_000):
            assert row.state == "receipted"
            rows[row.resource] = rows.get(row.resource, 0) + row.rows
    return rows


def _check_that_settings_are_refused(settings: Path, run: Run) -> None:
    sound = settings.read_text("utf-8")
    bad = sound.replace("connector: sql, with", 'connector: sql, cron: "0 25 * * *", with', 1)
    settings.write_text(bad, "utf-8")
    refused = run("run", "--once")
    assert refused.code == 3
    for told in (refused.err, run("doctor").out):
        assert "sources.table0.cron" in told
        assert "0 25 * * *" in told
    settings.write_text(sound, "utf-8")


def _check_that_the_good_is_sealed(rows: dict[str, int]) -> None:
    """Of the poisoned sources, too, what is good is sealed."""
    beside = ("damaged", "huge", "header", "endless", "outside", "foreign")
    assert {name: rows.get(name) for name in GOOD} == dict.fromkeys(GOOD, ROWS)
    assert {name: rows.get(name) for name in beside} == dict.fromkeys(beside, ROWS)
    assert (rows["raises"], rows["exits"]) == (1, 1)


def _check_that_each_is_named(run: Run) -> None:
    """Status and doctor say what is wrong, in both languages, and what to do."""
    attention = {item["subject"]: item for item in run("status", "--json").json["attention"]}
    assert set(attention) == set(ENDS)
    checks = {check["name"]: check for check in run("doctor", "--json").json["checks"]}
    for subject, poison in ENDS.items():
        of_resource = poison.state in {"over-limits", "message-unreadable"}
        check = checks[f"{'resource' if of_resource else 'source'} {subject}"]
        item = attention[subject]
        assert check["grade"] in {"warn", "fail"}
        assert item["do"].startswith("exchange ")
        assert check["hint"]["en"]
        for text in (item["what"], check["text"]):
            assert poison.told in text["en"]
            assert CHINESE.search(text["zh"])
    healthy = [checks[f"source {name}"]["grade"] for name in GOOD]
    assert set(healthy) == {"ok"}
    told = run("source", "notes", "endless").out
    assert "a.csv" in told
    assert "pipe.csv" in told
    assert "XFD1048576" in run("source", "notes", "huge").out


def _check_that_a_topic_made_anew_has_an_end(place: Place, run: Run) -> None:
    """The connector has a cursor, and cannot be told a value to start from."""
    _make_topic_anew(place, "file0")
    assert run("run", "file0", "--once", "--json").code == 6
    (item,) = run("status", "--json").json["attention"]
    assert item["subject"] == "file0"
    assert "made anew" in item["what"]["en"]
    assert run("source", "rewind", "file0", "--to", "3").code == 3
    shown = run("source", "rewind", "file0", "--to-beginning", "--json")
    assert shown.json["applied"] is False
    assert run("run", "file0", "--once", "--json").code == 6, "a dry run ends nothing"
    assert run("source", "rewind", "file0", "--to-beginning", "--apply").code == 0
    assert run("run", "file0", "--once", "--json").code == 0
    assert run("status", "--json").json["attention"] == []
    with place.node() as node:
        (*_, entry) = node.store.audit.find()
        assert (entry.action, entry.subject) == ("source.rewind", "file0")
    assert sealed(place)["file0"] == 2 * ROWS, "it was read again from its beginning"


def _make_topic_anew(place: Place, name: str) -> None:
    """Let the raw topic end before what the last pull wrote: as if it were made anew."""
    with place.node() as node:
        state = node.context.pull_state(name)
        assert state is not None
        with node.log.transaction(pull_key(name)) as tx:
            tx.append(replace(state, since=(10_000,)).to_message(name))
