"""Database cases through a whole node: what is sealed in the end, and what is told."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from exchange.cli.main import main
from exchange.errors import Misconfigured
from exchange.log import Entry, quarantine_topic, sealed_topic
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import Runner
from exchange.text import Text
from tests.pipeline.place import EAGER, Place, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

CATALOG = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
resources:
  cases:
    code: 307001/1
    title: 办件
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [id]
    fields:
      - {id: 编号 integer!, name: 名 text(5000), at: 时 datetime}
"""


class Cases:
    """A node with one SQLite source: (id, name, at)."""

    def __init__(self, folder: Path, *, extra: str = "", columns: str = "") -> None:
        self.path = folder / "node" / "cases.db"
        options = 'url: "sqlite:///cases.db", table: cases, cursor_column: at, batch_rows: 10'
        line = f"\n  cases: {{resource: cases, connector: sql{extra}, with: {{{options}}}}}"
        self.place = Place.make(folder / "node", CATALOG, line)
        self.change(f"CREATE TABLE cases (id INTEGER PRIMARY KEY, name TEXT, at TEXT{columns})")

    def change(self, statement: str, values: Sequence[Any] = ()) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(statement, values)

    def fill(self, count: int) -> None:
        for i in range(1, count + 1):
            self.change(
                "INSERT INTO cases (id, name, at) VALUES (?, ?, ?)",
                (i, f"n{i}", f"2026-11-01 08:00:{i:02}"),
            )

    def run(self) -> RunOutcome:
        with self.place.node() as node:
            return Runner(node, policy=EAGER, stages=("pull", "seal")).once()

    def sealed(self) -> list[dict[str, Any]]:
        """Read all sealed records, in order."""
        with self.place.node() as node:
            values = [entry.value for entry in entries(node.log, sealed_topic("cases"))]
        return [row for v in values for row in fastavro.reader(io.BytesIO(v))]  # type: ignore[misc]

    def newest(self) -> dict[int, str]:
        return {row["id"]: row["name"] for row in self.sealed()}

    def kept(self) -> list[Entry]:
        with self.place.node() as node:
            return list(entries(node.log, quarantine_topic("cases")))

    def notes(self) -> list[str]:
        items = [json.loads(e.value) for e in self.kept() if e.headers["kind"] == "notes"]
        return [note["text"] for notes in items for note in notes]

    def command(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.chdir(self.place.folder)
        return main(["--lang", "en", *arguments], dict(os.environ))


def test_the_newer_version_wins_after_a_broken_pull(tmp_path: Path) -> None:
    """The old version was sealed, the new one refused as a repeated key for ever."""
    cases = Cases(tmp_path)
    cases.fill(50)
    with cases.place.node() as node:
        pulling = node.pull_stage("cases").run()
        next(pulling)
        next(pulling)
        pulling.close()  # killed behind two frames
    for i in (1, 2, 15):
        at = f"2026-11-02 08:00:{i:02}"
        cases.change("UPDATE cases SET name = ?, at = ? WHERE id = ?", ("new", at, i))
    outcome = cases.run()
    assert (outcome.quarantined, outcome.errors) == (0, {})
    expected = {i: f"n{i}" for i in range(1, 51)} | dict.fromkeys((1, 2, 15), "new")
    assert cases.newest() == expected
    assert [row["name"] for row in cases.sealed() if row["id"] == 1] == ["n1", "new"]
    with cases.place.node() as node:
        pulls = node.store.pulls.find(source="cases", limit=10)
    assert [pull.state for pull in pulls] == ["done", "done"], "both are over, none stays open"
    assert sum(pull.pulled for pull in pulls) == outcome.pulled + 20


def test_a_key_that_comes_twice_in_one_pull_is_still_refused(tmp_path: Path) -> None:
    cases = Cases(tmp_path)
    settings = cases.place.folder / "exchange.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(
        text.replace("table: cases", 'query: "SELECT 1 AS id, name, at FROM cases", key: [name]')
    )
    cases.fill(3)
    outcome = cases.run()
    assert (outcome.accepted, outcome.quarantined) == (1, 2)


def test_a_long_column_that_nobody_named_costs_nothing(tmp_path: Path) -> None:
    """3.2 MB beside the record had it refused as too large."""
    cases = Cases(tmp_path, columns=", scan TEXT")
    cases.fill(3)
    cases.change("UPDATE cases SET scan = ? WHERE id = 2", ("x" * 3_200_000,))
    outcome = cases.run()
    assert (outcome.accepted, outcome.quarantined) == (3, 0)
    assert cases.newest() == {1: "n1", 2: "n2", 3: "n3"}
    assert outcome.ignored == {"cases": ["scan"]}, "it is told all the same"


def test_a_missing_optional_column_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was sealed empty, nothing said, doctor green."""
    cases = Cases(tmp_path)
    cases.fill(3)
    assert not cases.run().absent
    cases.change("ALTER TABLE cases RENAME COLUMN name TO nane")
    cases.change("INSERT INTO cases VALUES (4, 'x', '2026-11-02 08:00:00')")
    outcome = cases.run()
    assert outcome.absent == {"cases": ["name"]}
    notes = [Text.split(note) for note in cases.notes()]
    assert notes[0] == Text(
        "没有列 name：数据项 name 为空", "there is no column name: the field name is empty"
    )
    assert [("nane" in note.zh, "nane" in note.en) for note in notes[1:]] == [(True, True)]
    cases.change("INSERT INTO cases VALUES (5, 'x', '2026-11-02 08:00:01')")
    cases.run()
    assert len(cases.notes()) == 2, "once, not with every pull"
    for arguments in (["connector", "check", "cases"], ["doctor"], ["status"]):
        cases.command(monkeypatch, *arguments)
        text = "".join(capsys.readouterr())
        assert "columns that the catalog names" in text, arguments
        assert "name" in text
    assert cases.newest()[4] is None


def test_a_missing_optional_column_may_stop_its_source(tmp_path: Path) -> None:
    cases = Cases(tmp_path, extra=", drift: stop")
    cases.fill(3)
    cases.change("ALTER TABLE cases RENAME COLUMN name TO nane")
    outcome = cases.run()
    error = outcome.errors[Where("pull", "cases")]
    assert isinstance(error, Misconfigured)
    assert "lacks columns that the catalog names: name" in error.what.en
    assert cases.sealed() == []
    cases.change("ALTER TABLE cases RENAME COLUMN nane TO name")
    assert cases.run().accepted == 3


def test_a_future_row_is_told_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Cases(tmp_path)
    cases.fill(3)
    cases.change("UPDATE cases SET at = '2206-11-01 08:00:00' WHERE id = 2")
    outcome = cases.run()
    assert (outcome.accepted, outcome.quarantined, outcome.notes) == (2, 1, 1)
    cases.command(monkeypatch, "doctor")
    out = capsys.readouterr().out
    assert "! source cases  rows with a value of at beyond the database's clock: 1" in out


def test_summers_and_first_years_have_one_offset(tmp_path: Path) -> None:
    """China had summer time in 1940-49 and 1986-91: +08:00 holds in every year, as documented."""
    cases = Cases(tmp_path)
    texts = [
        "1900-01-01 00:00:00",
        "1941-03-15 00:30:00",
        "1986-05-04 02:30:00",
        "1986-09-14 01:30:00",
        "1988-07-01 08:00:00",
        "2026-07-01 08:00:00",
    ]
    for i, text in enumerate(texts):
        cases.change("INSERT INTO cases VALUES (?, 'n', ?)", (i, text))
    outcome = cases.run()
    assert outcome.quarantined == 0
    values = {row["id"]: row["at"] for row in cases.sealed()}
    for i, text in enumerate(texts):
        assert values[i] == datetime.fromisoformat(f"{text}+08:00").astimezone(UTC)


def test_a_source_is_rewound_by_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Cases(tmp_path)
    cases.fill(30)
    cases.run()
    rewind = ("source", "rewind", "cases", "--to", "2026-11-01 08:00:21")
    assert cases.command(monkeypatch, *rewind) == 0
    text = "".join(capsys.readouterr())
    assert '{"at": "2026-11-01 08:00:30", "id": 30} → {"at": "2026-11-01 08:00:21"}' in text
    assert "dry run" in text
    assert cases.run().pulled == 0, "nothing was changed"
    assert cases.command(monkeypatch, *rewind, "--apply", "--json") == 0
    assert json.loads(capsys.readouterr().out)["applied"] is True
    outcome = cases.run()
    assert (outcome.pulled, outcome.quarantined) == (10, 0), "from 21 on, inclusive"
    assert cases.run().pulled == 0
    with cases.place.node() as node:
        entry = node.store.audit.find(limit=1)[0]
    assert (entry.action, entry.subject) == ("source.rewind", "cases")
    assert "08:00:30" in entry.detail
    assert "08:00:21" in entry.detail


def test_a_source_that_never_ran_may_start_from_a_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = Cases(tmp_path)
    cases.fill(30)
    to = "2026-11-01 08:00:26"
    assert cases.command(monkeypatch, "source", "rewind", "cases", "--to", to, "--apply") == 0
    cases.run()
    assert sorted(cases.newest()) == [26, 27, 28, 29, 30]


@pytest.mark.parametrize("to", ["blah", "2026-13-45", "2999-01-01 00:00:00"])
def test_a_start_behind_every_row_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """SQLite keeps times as text: such a start was taken, and nothing was ever read again."""
    cases = Cases(tmp_path)
    cases.fill(30)
    cases.run()
    assert cases.command(monkeypatch, "source", "rewind", "cases", "--to", to, "--apply") == 3
    cases.change("INSERT INTO cases (id, name, at) VALUES (31, 'n', '2026-11-01 08:00:31')")
    assert cases.run().pulled == 1


def test_a_snapshot_has_nothing_to_rewind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Cases(tmp_path)
    settings = cases.place.folder / "exchange.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(", cursor_column: at", ""), encoding="utf-8")
    code = cases.command(monkeypatch, "source", "rewind", "cases", "--to", "2026-11-01")
    assert code == Misconfigured.exit_code
    assert "no start to set" in capsys.readouterr().err
