"""The command status: a person's work first, then who is behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.log import raw_topic
from exchange.node.node import Node
from exchange.run.status import StatusReader
from exchange.store.node.pulls import PullRow
from tests.cli.conftest import Run, serving
from tests.pipeline.place import Place, records
from tests.support.nodes import make


def test_nothing_to_do_says_nothing(delivered: Path, run: Run) -> None:
    result = run("status", "--json")
    assert result.code == 0
    assert result.json["attention"] == []
    (row,) = result.json["resources"]
    assert row["resource"] == "companies"
    assert (row["quarantine"], row["receipts"], row["waiting"]) == (2, 1, 0)
    none = {"behind": 0, "seconds": 0, "partitions": 0}
    assert row["lag"] == {"seal": none, "cascade": none, "store": none, "evidence": none}
    assert row["partitions"] == 1
    assert row["last_pull"]
    human = run("status")
    assert "companies" in human.out
    assert "behind" not in human.out
    assert (delivered / "data" / "log.db").exists()


def test_it_says_who_is_behind_and_for_how_long(folder: Path, run: Run) -> None:
    run("run", "--once", "--only", "pull")
    (row,) = run("status", "--json").json["resources"]
    assert row["unchecked"] == row["lag"]["seal"]["behind"] > 0
    assert row["lag"]["seal"]["partitions"] == 1
    assert 0 <= row["lag"]["seal"]["seconds"] < 300
    run("run", "--once", "--only", "seal")
    (row,) = run("status", "--json").json["resources"]
    assert (row["lag"]["seal"]["behind"], row["lag"]["cascade"]["behind"]) == (0, 1)
    assert "entries behind" in run("status").out
    assert "积压" in run("status", lang="zh").out
    assert folder.exists()


def test_what_a_person_must_do_comes_first(folder: Path, run: Run) -> None:
    catalog = (folder / "catalog.yaml").read_text("utf-8")
    limited = catalog.replace("    key: [uscc]\n", "    key: [uscc]\n    limits: {max_count: 1}\n")
    (folder / "catalog.yaml").write_text(limited, "utf-8")
    with serving(folder):
        assert run("run", "--once").code == 1
    result = run("status")
    first = result.out.splitlines()[:2]
    assert first[0].startswith("! companies/0: ")
    assert first[1] == "  → exchange release companies"
    (item,) = run("status", "--json").json["attention"]
    assert item["subject"] == "companies/0"
    assert item["what"].keys() == {"zh", "en"}


def test_a_source_that_failed_in_its_last_pull_is_named(delivered: Path, run: Run) -> None:
    began = datetime.now(UTC)
    broken = PullRow(
        "p9", "companies", "companies", began, "open", pulled=5, code="Transient", error="it died"
    )
    with Place(delivered).node() as node:
        node.store.pulls.save(broken)
    (item,) = run("status", "--json").json["attention"]
    assert item == {
        "subject": "companies",
        "what": {"zh": "原文：it died", "en": "it died"},
        "do": "exchange run --once companies",
    }
    with Place(delivered).node() as node:
        node.store.pulls.save(replace(broken, state="done", code="", error=""))
    assert run("status", "--json").json["attention"] == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(30), "firms": records(10)})


def test_reading_the_status_changes_nothing_and_sees_what_moved(place: Place) -> None:
    with place.node() as node:
        read_status = StatusReader(node)
        before = [topic.name for topic in node.log.topics()]
        assert [(item.resource, item.partitions, item.lags) for item in read_status()] == [
            ("cases", 0, ()),
            ("firms", 0, ()),
        ]
        assert [topic.name for topic in node.log.topics()] == before
        _pull(node, "cases")
        cases, firms = read_status()
        assert cases.behind("seal") == 1
        written = cases.since("seal")
        assert written is not None
        assert abs((node.clock() - written).total_seconds()) < 300
        assert (firms.behind("seal"), firms.since("seal")) == (0, None)
        stage = node.seal_stage("cases")
        while stage.step():
            pass
        stage.close()
        cases, _ = read_status()
        assert (cases.behind("seal"), cases.since("seal")) == (0, None)
        assert cases.behind("cascade") == 1
        assert node.log.bounds(raw_topic("cases"), 0) == (0, 1)


def _pull(node: Node, name: str) -> None:
    assert sum(node.pull_stage(name).run())
