"""The supervised loop: schedules, a graceful stop, and the stages one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from exchange.errors import ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.log import Log, raw_topic
from exchange.node.node import Node
from exchange.pipeline.deliver import retry
from exchange.pipeline.messages import PullState
from exchange.pipeline.seal import release
from exchange.run.delivery_loop import DeliveryLoop
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import STAGES, Runner
from exchange.run.schedule import Schedule
from exchange.settings import SourceSettings
from exchange.settings.working_days import read_working_days
from exchange.text import BEIJING, Text
from tests.pipeline.place import (
    EAGER,
    Place,
    audit,
    catalog,
    finish,
    outcome,
    records,
    run_once,
    settle,
    source,
    start,
)
from tests.receiver.faults import Fault
from tests.support.nodes import add, command, faulty, make

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
"""Noon in Shanghai."""


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    options = 'url: "sqlite:///x.db", table: cases'
    sources = (
        source("sql", "often", options, when="every: 15m")
        + source("sql", "nightly", options, when='cron: "30 2 * * *"')
        + source("sql", "byhand", options)
    )
    place = Place.make(tmp_path / "node", catalog("often", "nightly", "byhand"), sources)
    planned = planner(place.node(), RunOutcome())
    planned.assign(["often", "nightly", "byhand"], NOON)
    return planned


def planner(node: Node, outcome: RunOutcome) -> Schedule:
    """Plan the sources of a node as its runner does."""
    return Schedule(node.settings.sources, node.context.pull_state, outcome.keep)


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def test_a_source_runs_by_its_span_or_its_local_time(schedule: Schedule) -> None:
    assert schedule.due(NOON) == ["often"]
    schedule.finish("often", NOON, failed=False)
    assert schedule.due(at(0.2)) == []
    assert schedule.due(at(0.25)) == ["often"]
    schedule.finish("often", at(0.25), failed=False)
    assert schedule.due(at(14.49)) == ["often"]
    assert schedule.due(at(14.5)) == ["often", "nightly"], "half past two in the morning, local"
    schedule.finish("nightly", at(14.5), failed=False)
    schedule.finish("often", at(14.5), failed=False)
    assert schedule.due(at(14.6)) == []
    assert schedule.due(at(38.5)) == ["often", "nightly"]


def test_a_failed_source_comes_again_soon(schedule: Schedule) -> None:
    schedule.finish("often", NOON, failed=True)
    assert schedule.due(NOON + timedelta(seconds=59)) == []
    assert schedule.due(NOON + timedelta(seconds=60)) == ["often"]


def test_a_schedule_goes_on_from_the_last_pull_whoever_made_it(tmp_path: Path) -> None:
    """A restart, or a take-over, fires nothing twice and forgets nothing."""
    options = 'url: "sqlite:///x.db", table: cases'
    sources = source("sql", "often", options, when="every: 15m")
    sources += source("sql", "nightly", options, when='cron: "30 2 * * *"')
    place = Place.make(tmp_path / "node", catalog("often", "nightly"), sources)

    def began(name: str, when: datetime, *, done: bool) -> None:
        with place.node() as node, node.log.transaction(f"pull/{name}") as tx:
            tx.append(PullState("p", when, done=done).to_message(name))

    def due(*names: str) -> list[str]:
        with place.node() as node:
            planned = planner(node, RunOutcome())
            planned.assign(names, NOON)
            planned.assign(["nightly"], NOON)
            planned.assign(names, NOON)
            return planned.due(NOON)

    began("often", at(-0.2), done=True)
    began("nightly", at(-9), done=True)  # three in the morning
    assert due("often", "nightly") == []
    began("often", at(-0.25), done=True)
    assert due("often", "nightly") == ["often"]
    assert due("nightly") == [], "the source is another worker's"
    began("nightly", at(-24), done=True)
    assert due("nightly") == ["nightly"], "the node was down at half past two"
    began("often", at(-0.1), done=False)
    assert due("often") == ["often"], "a pull that was killed goes on at once"


def permitted_schedule(tmp_path: Path, *whens: str) -> Schedule:
    """Plan sources with the holidays of a table: 23 to 25 November 2026 are off, the 28th not."""
    (tmp_path / "days.txt").write_text(
        "# 放假安排\n2026-11-23..2026-11-25 休 测试\n2026-11-28 班 # 周六\n", encoding="utf-8"
    )
    calendar = read_working_days(tmp_path / "days.txt")
    sources = {
        f"s{number}": SourceSettings.model_validate(
            {"resource": "cases", "connector": "sql"} | yaml.safe_load(when)
        )
        for number, when in enumerate(whens)
    }
    planned = Schedule(sources, lambda _name: None, RunOutcome().keep, lambda: calendar)
    planned.assign(list(sources), NOON)
    return planned


def test_a_source_waits_for_its_hours_and_its_days(tmp_path: Path) -> None:
    planned = permitted_schedule(
        tmp_path,
        '{every: 15m, hours: "22:00-06:00"}',
        "{every: 1h, days: working}",
        '{cron: "30 2 * * *", days: working}',
        '{cron: "0 * * * *", hours: "9:00-10:00", days: working}',
    )
    local = [planned.planned(f"s{number}") for number in range(4)]
    # It is noon of Monday the 23rd; the first worked day is Thursday the 26th.
    assert [f"{moment.astimezone(BEIJING):%d %H:%M}" for moment in local if moment] == [
        "23 22:00",
        "26 00:00",
        "26 02:30",
        "26 09:00",
    ]
    assert planned.due(NOON) == []
    night = at(10)
    assert planned.due(night) == ["s0"]
    planned.finish("s0", night, failed=False)
    assert planned.due(at(10.25)) == ["s0"]
    planned.finish("s0", at(17.9), failed=False)
    after = planned.planned("s0")
    assert after is not None
    assert f"{after.astimezone(BEIJING):%d %H:%M}" == "24 22:00", "not in the day"
    planned.finish("s2", at(24 * 4), failed=False)
    saturday = planned.planned("s2")
    assert saturday is not None
    assert f"{saturday.astimezone(BEIJING):%d %H:%M}" == "28 02:30", "a day that is made up for"
    planned.finish("s1", at(24 * 4), failed=True)
    retried = planned.planned("s1")
    assert retried == at(24 * 4) + timedelta(minutes=1)


def test_a_year_that_the_table_does_not_know_is_not_guessed(tmp_path: Path) -> None:
    planned = permitted_schedule(tmp_path, "{every: 1d, days: working}", "{every: 1d}")
    outcome = RunOutcome()
    planned._keep = outcome.keep
    late = datetime(2027, 1, 4, 4, tzinfo=UTC)
    assert planned.due(late) == ["s1"]
    assert set(outcome.errors) == {Where("schedule", "s0")}
    assert "2027" in outcome.errors[Where("schedule", "s0")].hint.zh


@pytest.mark.parametrize(
    "text",
    [
        "2026-13-01 休",
        "2026-01-01",
        "2026-01-03..2026-01-01 休",
        "2026-01-01..2027-01-01 休",
        "2026-01-01 休\n2026-01-01 班",
        "x" * 70_000,
    ],
)
def test_a_table_of_working_days_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "days.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Misconfigured):
        read_working_days(path)


def test_a_clock_set_back_lets_no_source_sleep(schedule: Schedule) -> None:
    schedule.finish("often", at(48), failed=False)
    schedule.finish("nightly", at(48), failed=False)
    assert schedule.due(NOON) == []
    assert schedule.due(at(0.25)) == ["often"]
    assert "nightly" in schedule.due(at(14.5))


def test_a_schedule_that_fails_stops_its_own_source_only(tmp_path: Path) -> None:
    """Settings refuse such an expression; a plan may fail all the same, for any reason."""
    options = 'url: "sqlite:///x.db", table: cases'
    sources = source("sql", "often", options, when="every: 15m")
    sources += source("sql", "nightly", options, when='cron: "30 2 * * *"')
    place = Place.make(tmp_path / "node", catalog("often", "nightly"), sources)
    outcome = RunOutcome()
    with place.node() as node:
        known = dict(node.settings.sources)
        known["nightly"] = known["nightly"].model_copy(update={"cron": "0 25 * * *"})
        planned = Schedule(known, lambda _name: None, outcome.keep)
        planned.assign(known, NOON)
        assert planned.due(NOON) == ["often"]
        planned.finish("often", NOON, failed=False)
        planned.finish("nightly", NOON, failed=False)
        assert planned.due(at(0.25)) == ["often"]
    assert set(outcome.errors) == {Where("schedule", "nightly")}
    assert isinstance(outcome.errors[Where("schedule", "nightly")], Misconfigured)
    assert "0 25 * * *" in outcome.errors[Where("schedule", "nightly")].what.en


def test_a_supervised_run_goes_on_beside_a_source_that_cannot_be_planned(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 100)
    items: list[tuple[Where, ExchangeError]] = []
    stop = threading.Event()

    def supervise() -> None:
        with place.node() as node:
            sources = dict(node.settings.sources)
            broken = {"every": None, "cron": "0 25 * * *"}
            sources["firms"] = sources["firms"].model_copy(update=broken)
            node.settings = node.settings.model_copy(update={"sources": sources})
            Runner(node, policy=EAGER).forever(stop, lambda *one: items.append(one))

    with place.receiver():
        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            wait_for(lambda: receipts(place) == {"cases": 1})
            add(place, "cases", records(50, first=101))
            wait_for(lambda: receipts(place) == {"cases": 2})
        finally:
            stop.set()
            thread.join(30)
    assert [(where, type(error)) for where, error in items] == [
        (Where("schedule", "firms"), Misconfigured)
    ]


def scheduled(folder: Path, rows: int) -> Place:
    """Make a node whose tables are looked at every second."""
    place = make(folder, {"cases": records(rows), "firms": records(rows // 2)})
    path = folder / "exchange.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("connector: sql", "connector: sql, every: 1s")
    )
    return place


def test_sigterm_stops_a_run_in_the_middle_of_its_work_and_nothing_is_lost(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 8_000)
    with place.receiver():
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange", "run", "--config", place.folder / "exchange.yaml"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EXCHANGE_LANG": "en"},
        )
        try:
            wait_for(lambda: raw_end(place) > 3)
            process.send_signal(signal.SIGTERM)
            _, result = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, result
        with place.node() as node:
            pulled = sum(row.pulled for row in node.store.pulls.find())
            assert pulled < 12_000, "it stopped before the end"
        settle(place)
    audit(place)


def raw_end(place: Place) -> int:
    if not (place.folder / "data" / "log.db").exists():
        return 0
    with place.node() as node:
        node.context.ensure("cases")
        return node.log.bounds(raw_topic("cases"), 0)[1]


def wait_for(happened: object, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_supervised_run_goes_on_with_what_a_person_mends(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 100)
    items: list[tuple[Where, ExchangeError]] = []
    stop = threading.Event()

    def supervise() -> None:
        with place.node() as node:
            Runner(node, policy=EAGER).forever(stop, lambda *one: items.append(one))

    with faulty(place, Fault.NONE, only="cases") as province:
        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            wait_for(lambda: receipts(place) == {"cases": 1, "firms": 1})
            # Rows that come later are found without a restart.
            add(place, "cases", records(50, first=101))
            wait_for(lambda: receipts(place)["cases"] == 2)
            # The province errs; the other resource goes on.
            province.fault = Fault.WRONG_ROOT
            add(place, "cases", records(50, first=151))
            add(place, "firms", records(50, first=51))
            wait_for(lambda: receipts(place)["firms"] == 2)
            wait_for(lambda: any(isinstance(error, Integrity) for _, error in items))
            assert {str(where) for where, _ in items} == {"cascade/cases"}
            assert thread.is_alive()
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        province.fault = Fault.NONE
        with place.node() as node:
            (row,) = node.store.deliveries.find(states=["halted"])
            retry(node.store, row, node.clock, "test")
        settle(place)
    audit(place, wrong=1)


def test_a_supervised_run_outlives_a_log_that_does_not_answer(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 100)
    items: list[tuple[Where, ExchangeError]] = []
    stop, away = threading.Event(), threading.Event()

    class Away:
        """The log of a cluster whose brokers come and go."""

        def __init__(self, log: Log) -> None:
            self._log = log

        def __getattr__(self, name: str) -> Any:
            if away.is_set():
                raise Transient(Text("", "no broker answers"), hint=Text("", ""))
            return getattr(self._log, name)

    def supervise() -> None:
        with place.node() as node:
            vars(node)["log"] = Away(node.log)
            Runner(node, policy=EAGER).forever(stop, lambda *one: items.append(one))

    with place.receiver():
        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            wait_for(lambda: receipts(place) == {"cases": 1, "firms": 1})
            away.set()
            wait_for(lambda: Where("log") in dict(items))
            away.clear()
            add(place, "cases", records(50, first=101))
            wait_for(lambda: receipts(place)["cases"] == 2)
            assert {type(error) for _, error in items} == {Transient}
        finally:
            away.clear()
            stop.set()
            thread.join(30)
        settle(place)
    audit(place)


def test_partitions_that_the_log_does_not_know_yet_are_asked_for_again(tmp_path: Path) -> None:
    place = scheduled(tmp_path / "node", 1)
    with place.node() as node, pytest.raises(Transient):
        node.context.partitions("cases")


def test_a_supervised_run_pulls_on_after_a_release(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    place = make(folder, {"cases": records(400)}, limits={"cases": "{max_count: 3}"})
    path = folder / "exchange.yaml"
    path.write_text(path.read_text("utf-8").replace("connector: sql", "connector: sql, every: 1s"))
    items: list[ExchangeError] = []
    stop = threading.Event()

    def supervise() -> None:
        with place.node() as node:
            Runner(node, policy=EAGER).forever(stop, lambda _, error: items.append(error))

    with place.receiver():
        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            wait_for(lambda: items)
            assert isinstance(items[0], Rejected)
            with place.node() as node:
                assert release(node.context, "cases")
            wait_for(lambda: raw_rows(place) == 400)
        finally:
            stop.set()
            thread.join(30)
        settle(place)
    audit(place)


def test_a_way_to_the_province_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(30)})
    secret = place.folder / "secrets" / "province.txt"
    with place.receiver(), place.node() as node:
        assert Runner(node, stages=("pull", "seal")).once().batches == 1
        hidden = secret.rename(secret.with_suffix(".away"))
        loop = DeliveryLoop(node, EAGER, attempts=None, idle=0.01, rest=timedelta(seconds=0.01))
        outcome = RunOutcome()

        def reported() -> RunOutcome:
            for report in loop.reports():
                outcome.add(report)
            return outcome

        loop.start()
        try:
            loop.offer("cases")
            wait_for(lambda: isinstance(reported().errors.get(Where("cascade")), Misconfigured))
            hidden.rename(secret)
            wait_for(lambda: reported().receipts == 1)
        finally:
            loop.stop()
        assert outcome.errors == {}


def raw_rows(place: Place) -> int:
    """Count what all pulls brought: one that was broken off goes on as another."""
    with place.node() as node:
        return sum(row.pulled for row in node.store.pulls.find())


def receipts(place: Place) -> dict[str, int]:
    with place.node() as node:
        return dict(node.store.receipts.counts())


def test_the_stages_one_after_the_other_give_what_one_run_gives(tmp_path: Path) -> None:
    counts = []
    for runs in (STAGES,), tuple((stage,) for stage in STAGES):
        place = make(tmp_path / f"{len(runs)}", {"cases": records(700), "firms": records(300)})
        with place.receiver():
            for stages in runs:
                assert finish(start(run_once, place.folder, "", 0, stages)) == 0
        assert outcome(place)["waiting"] == 0
        counts.append(audit(place))
    assert counts[0] == counts[1]


def test_the_command_runs_one_stage(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(100)})
    with place.receiver():
        items = [command(place, "run", "--once", "--only", stage) for stage in ("pull", "seal")]
        last = command(place, "run", "--once", "--only", "cascade")
        command(place, "run", "--once", "--only", "evidence")
    assert [item["pulled"] for item in items] == [100, 0]
    assert items[1]["batches"] == last["receipts"] == 1
    audit(place)
