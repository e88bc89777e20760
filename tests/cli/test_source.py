"""``source list|history|pause|resume``, the log of a run, and a catalog that cannot be read."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cli.output import Output
from exchange.cli.run_log import RunLog, pull_text
from exchange.errors import Transient
from exchange.run.outcome import Where
from exchange.run.runner import Runner
from exchange.run.source_pulls import PullReport
from exchange.text import Text
from tests.cli.conftest import Run, open_node
from tests.pipeline.place import EAGER
from tests.pipeline.test_runner import wait_for

PULL = ("run", "--once", "--only", "pull", "--only", "seal")


def schedule(folder: Path, text: str) -> None:
    path = folder / "exchange.yaml"
    changed = path.read_text("utf-8").replace("connector: sql", f"connector: sql\n    {text}")
    path.write_text(changed, "utf-8")


def test_a_source_is_listed_with_its_last_check_beside_its_last_rows(
    folder: Path, run: Run
) -> None:
    (new,) = run("source", "list", "--json").json["sources"]
    assert (new["state"], new["last_check"], new["next"]) == ("new", None, None)
    assert run("source", "history", "companies").out == "no pull has brought rows yet\n"
    assert run(*PULL, "--json").json["pulled"] == 7
    schedule(folder, "every: 2h")
    (source,) = run("source", "list", "--json").json["sources"]
    assert (source["state"], source["rows"]) == ("ok", 7)
    checked = datetime.fromisoformat(source["last_check"])
    assert datetime.fromisoformat(source["next"]) - checked == timedelta(hours=2)
    (pull,) = run("source", "history", "companies", "--json").json["pulls"]
    assert (pull["rows"], pull["accepted"], pull["quarantined"]) == (7, 5, 2)
    assert pull["state"] == "done"
    (row,) = run("status", "--json").json["resources"]
    assert row["last_check"] == source["last_check"]
    assert "下次" in run("source", "list", lang="zh").out


def test_a_paused_source_is_not_pulled_by_anybody_until_it_is_resumed(
    folder: Path, run: Run
) -> None:
    schedule(folder, "every: 1d")
    paused = run("source", "pause", "companies", "--reason", "对方系统维护")
    assert paused.out == "companies: paused\n"
    assert run("source", "pause", "companies").out == "companies: it was so already\n"
    assert run("source", "pause", "nobody").code == 3
    skipped = run(*PULL, "--json")
    assert (skipped.code, skipped.json["pulled"]) == (0, 0)
    assert "对方系统维护" in skipped.json["resting"]["companies"]["en"]
    named = run("run", "companies", "--once", "--only", "pull")
    assert named.code == 1
    assert "exchange source resume companies" in named.err
    (item,) = run("status", "--json").json["attention"]
    assert item["do"] == "exchange source resume companies"
    assert "对方系统维护" in item["what"]["zh"]
    (source,) = run("source", "list", "--json").json["sources"]
    assert (source["state"], source["next"]) == ("paused", None)

    pulled, stop = threading.Event(), threading.Event()
    rounds: list[object] = []

    def supervise() -> None:
        with open_node() as node:
            runner = Runner(node, policy=EAGER, stages=("pull",), heartbeat=rounds.append)
            runner.report_pull = lambda _report: pulled.set()
            runner.forever(stop, lambda *_: None)

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        wait_for(lambda: len(rounds) > 2)
        assert not pulled.is_set()
        assert run("source", "resume", "companies").code == 0
        assert pulled.wait(60), "a running node goes on without a restart"
    finally:
        stop.set()
        thread.join(60)
    assert run("status", "--json").json["attention"] == []
    with open_node() as node:
        trail = [(row.action, row.subject, row.detail) for row in node.store.audit.find()]
    assert trail[-2:] == [
        ("source.pause", "companies", "对方系统维护"),
        ("source.resume", "companies", ""),
    ]


def test_times_that_are_not_permitted_are_left_alone_unless_a_person_names_the_source(
    folder: Path, run: Run
) -> None:
    schedule(folder, "days: working")
    assert "days: working needs working_days" in run("run", "--once").err
    path = folder / "exchange.yaml"
    path.write_text("working_days: days.txt\n" + path.read_text("utf-8"), "utf-8")
    assert "days.txt" in run(*PULL).err
    (folder / "days.txt").write_text("2000-01-01 休\n", "utf-8")
    unknown = run(*PULL, "--json")
    assert unknown.code == 3, "a year that nobody knows is not guessed"
    assert "working days of" in unknown.json["errors"]["schedule/companies"]["what"]["en"]
    checks = {check["name"]: check for check in run("doctor", "--json").json["checks"]}
    assert checks["working days"]["grade"] == "fail"
    today = datetime.now(UTC).date()
    (folder / "days.txt").write_text(
        f"{today - timedelta(days=2)}..{today + timedelta(days=2)} 休\n", "utf-8"
    )
    rests = run(*PULL, "--json")
    assert (rests.code, rests.json["pulled"]) == (0, 0)
    assert rests.json["resting"]["companies"]["zh"] == "现在不是允许拉取的时间"
    assert run("run", "companies", *PULL[1:], "--json").json["pulled"] == 7


def test_a_run_writes_a_line_for_each_pull(
    folder: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*PULL, "--log", "run.jsonl").code == 0
    assert run(*PULL, "--log", "run.jsonl").code == 0
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text("utf-8").splitlines()]
    assert [(line["source"], line["rows"], line["sealed"]) for line in lines] == [
        ("companies", 7, 5)
    ] * 2
    assert run(*PULL, "--log", "no/such/folder").code == 3

    with (folder / "other.jsonl").open("a", encoding="utf-8") as file:
        log = RunLog(Output("en"), "w-0", file, lambda: datetime(2026, 12, 1, tzinfo=UTC))
        quiet = PullReport("a", "cases", 0, 0, 0, 0.1)
        for report in (quiet, quiet, PullReport("a", "cases", 9, 8, 1, 3.0, 2), quiet):
            log.pull(report)
        log.error(Where("pull", "a"), Transient(Text("坏", "bad"), hint=Text("", "again")))
    first, second, third, error = capfd.readouterr().err.splitlines()
    assert first == third == "12-01 08:00:00 w-0 a: nothing new"
    assert second == (
        "12-01 08:00:00 w-0 a: 9 records pulled, 8 sealed, 1 in quarantine, "
        "2 batches wait for a receipt, 3.0 s (3 records/s)"
    )
    assert json.loads(error)["error"] == "Transient"
    kept = (folder / "other.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line).get("waiting") for line in kept] == [None, 2, None, None]
    assert pull_text(quiet).zh == "a：没有新数据"


def test_a_broken_catalog_is_told_by_status_and_once_by_doctor(folder: Path, run: Run) -> None:
    schedule(folder, "every: 2h")
    assert run(*PULL).code == 0
    path = folder / "catalog.yaml"
    path.write_text(path.read_text("utf-8").replace("uscc!", "no_such_type!"), "utf-8")
    shown = run("status")
    assert shown.code == 3
    assert shown.out.startswith("! catalog: ")
    assert run("status", "--json").json["attention"][0]["do"] == "exchange catalog check"
    checks = run("doctor", "--json").json["checks"]
    failed = [check["name"] for check in checks if "no_such_type" in str(check)]
    assert failed == ["catalog"]
