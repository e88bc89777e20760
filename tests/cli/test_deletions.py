"""A source with `difference` that is halved or empty: it stands still until a person decides."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from pathlib import Path

import fastavro
import pytest

from exchange.log import sealed_topic
from tests.cli.conftest import Run
from tests.pipeline.place import Place, catalog, entries, records, source, write_csv

ROWS = 40


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    settings = source("files", "cases", "folder: drops, settle: 0")
    settings = settings.replace("with:", "difference: {most_deleted: 0.4}, with:")
    place = Place.make(tmp_path / "node", catalog("cases"), settings)
    write_csv(place.folder / "drops" / "a.csv", records(ROWS, dirty=False))
    monkeypatch.chdir(place.folder)
    return place


def leave(place: Place, rows: int) -> None:
    write_csv(place.folder / "drops" / "a.csv", records(ROWS, dirty=False)[:rows])


def sealed(place: Place) -> Counter[str]:
    with place.node() as node:
        return Counter(
            row["cd_operation"]  # type: ignore[index, call-overload]
            for entry in entries(node.log, sealed_topic("cases"))
            for row in fastavro.reader(io.BytesIO(entry.value))
        )


def test_deletions_wait_for_a_person_who_accepts_or_refuses(place: Place, run: Run) -> None:
    with place.receiver():
        assert run("run", "--once").code == 0
        assert run("source", "deletions", "cases", "--json").json["waiting"] is None
        leave(place, 10)
        for _ in range(2):
            halted = run("run", "--once")
            assert halted.code == 1
            assert "nothing is deleted" in halted.err
        (item,) = run("status", "--json").json["attention"]
        assert (item["subject"], item["do"]) == ("cases", "exchange source deletions cases")
        found = run("source", "deletions", "cases", "--json").json
        assert found["waiting"] == {"before": 40, "now": 10, "deleted": 30}
        assert run("run", "--once").code == 1, "looking decides nothing"

        assert run("source", "deletions", "cases", "--refuse").code == 0
        assert run("run", "--once").code == 0
        assert sealed(place) == {"I": 40}, "these records stay"
        assert run("run", "--once").code == 1, "they are gone still"
        assert run("source", "deletions", "cases", "--accept").code == 0
        assert run("run", "--once").code == 0
        assert sealed(place) == {"I": 40, "D": 30}
        assert run("status", "--json").json["attention"] == []

        (place.folder / "drops" / "a.csv").unlink()
        assert run("run", "--once").code == 1, "an empty one waits, however few rows it had"
    with place.node() as node:
        actions = [row.action for row in node.store.audit.find()]
    assert actions.count("source.deletions.accept") == 1
    assert actions.count("source.deletions.refuse") == 1


def test_a_lost_state_has_an_end(place: Place, run: Run) -> None:
    with place.receiver():
        assert run("run", "--once").code == 0
        assert run("source", "retry", "cases", "--json").json["changed"] is False
        assert run("run", "--once", "--json").json["pulled"] == 0, "its place is not lost"
        shutil.rmtree(place.folder / "data" / "difference")
        lost = run("run", "--once")
        assert lost.code == 6
        assert "--to-beginning" in lost.err
        again = ("source", "rewind", "cases", "--to-beginning", "--apply")
        assert run(*again).code == 0
        assert run("run", "--once").code == 0
        assert sealed(place) == {"I": 2 * ROWS}
