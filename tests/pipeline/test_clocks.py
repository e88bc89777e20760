"""Clocks that disagree, chains with a gap, numbers in use: each ends as documented. 15 s."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cascade.delivery import State
from exchange.cli.main import main
from exchange.cli.receiver import receiver_options
from exchange.errors import Denied, Integrity, Transient
from exchange.log import sealed_topic
from exchange.node.auditing import audit_node
from exchange.pipeline.deliver import retry
from exchange.run.outcome import RunOutcome
from exchange.run.runner import Runner
from exchange.seal.batch.build import open_statement
from exchange.seal.batch.statement import moment
from exchange.store.database import open_store
from tests.pipeline.place import (
    EAGER,
    Place,
    audit,
    catalog,
    entries,
    records,
    settle,
    source,
    write_table,
)
from tests.receiver.faults import Fault
from tests.support.nodes import faulty


@pytest.fixture
def place(tmp_path: Path) -> Place:
    options = 'url: "sqlite:///cases.db", table: cases, cursor_column: seq'
    result = Place.make(tmp_path / "node", catalog("cases"), source("sql", "cases", options))
    feed(result)
    with result.node() as node:
        node.take_up_catalog()
    return result


def feed(place: Place, count: int = 20) -> None:
    rows = place.sources.setdefault("cases", [])
    more = records(count, first=len(rows) + 1, dirty=False)
    write_table(place.folder / "cases.db", more)
    rows.extend(more)


class Clock:
    """The real time, and how far from it."""

    def __init__(self, apart: timedelta = timedelta()) -> None:
        self.apart = apart

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.apart


def sealed_times(place: Place) -> list[datetime]:
    with place.node() as node:
        topic = sealed_topic("cases")
        statements = [open_statement(entry.value) for entry in entries(node.log, topic)]
    return [moment(statement.sealed_at) for statement in statements]


def run(place: Place, clock: Clock) -> RunOutcome:
    with place.node(clock=clock) as node:
        return Runner(node, policy=EAGER).once()


@pytest.mark.parametrize("apart", [timedelta(minutes=30), timedelta(days=2)])
def test_a_node_whose_clock_was_ahead(place: Place, apart: timedelta) -> None:
    province = Clock()
    with place.receiver(clock=province):
        denied = run(place, Clock(apart))
        assert isinstance(denied.error(), Denied), "401: the request is of another time"
        feed(place)
        early = run(place, Clock())
        assert isinstance(early.error(), Transient), "425: the batch is of the future"
        assert (early.waiting, early.receipts) == (2, 0)
        with place.node() as node:
            assert [row.code for row in node.store.deliveries.find()].count("425") == 1
        province.apart = apart + timedelta(minutes=1)  # that time has come
        for _ in range(5):
            outcome = run(place, province)
            if outcome.waiting == 0:
                break
        assert outcome.error() is None
    times = sealed_times(place)
    assert times == sorted(times), "time never runs backwards in a chain"
    audit(place)


@pytest.mark.parametrize("apart", [timedelta(minutes=30), timedelta(days=2)])
def test_a_node_whose_clock_was_set_back(place: Place, apart: timedelta) -> None:
    with place.receiver():
        assert run(place, Clock()).error() is None
        feed(place)
        denied = run(place, Clock(-apart))
        assert isinstance(denied.error(), Denied)
        times = sealed_times(place)
        assert len(times) == 2
        assert times == sorted(times)
        settle(place)
    audit(place)


@pytest.mark.parametrize("apart", [timedelta(minutes=30), timedelta(days=2)])
def test_what_was_sealed_with_a_clock_ahead_is_sealed_again(
    place: Place, apart: timedelta, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends it; nobody waits for that time, and every audit passes."""
    config = f"--config={place.folder / 'exchange.yaml'}"
    command = ["cascade", "reseal", "cases", "--reason", "时钟错", "--json", config]
    with place.receiver():
        assert run(place, Clock()).error() is None
        feed(place)
        assert isinstance(run(place, Clock(apart)).error(), Denied)
        feed(place)
        assert isinstance(run(place, Clock()).error(), Transient)
        capsys.readouterr()
        assert main(["status", "--json", config], {}) == 0
        (item,) = json.loads(capsys.readouterr().out)["attention"]
        assert item["do"].startswith("exchange cascade reseal cases")
        assert main(command, {}) == 0
        shown = json.loads(capsys.readouterr().out)
        assert main([*command, "--apply"], {}) == 0
        done = json.loads(capsys.readouterr().out)
        assert len(done["batches"]) == 2
        assert shown == done | {"applied": False}
        feed(place)
        outcome = run(place, Clock())
        assert (outcome.error(), outcome.waiting, outcome.receipts) == (None, 0, 3)
        assert main(command, {}) == 0
        assert json.loads(capsys.readouterr().out)["batches"] == []
    with place.node() as node:
        rows = node.store.deliveries.find(resource="cases")
        assert Counter(row.state for row in rows) == {State.RECEIPTED: 4, State.WITHDRAWN: 2}
        taken = [row for row in rows if row.state == State.RECEIPTED]
        assert sum(row.rows for row in taken) == len(place.sources["cases"])
        assert all(pull.accepted == pull.pulled for pull in node.store.pulls.find())
        assert [line.action for line in node.store.audit.find()].count("cascade.reseal") == 1
        assert [c.name for c in audit_node(node).failed] == []
        now = datetime.now(UTC)
        numbers = {row.batch_no for row in taken}
        for entry in entries(node.log, sealed_topic("cases")):
            sealed_at = moment(open_statement(entry.value).sealed_at)
            assert (sealed_at <= now) == (entry.key in numbers)
    (store,) = (place.folder / "data").glob("store.db")
    for path in store.parent.glob("store.db*"):
        path.unlink()
    with place.receiver():
        assert main(["recover", "--apply", config], {}) == 0
        assert run(place, Clock()).error() is None
    with place.node() as node:
        again = node.store.deliveries.find(resource="cases")
        assert {(r.batch_no, r.state) for r in again} == {(r.batch_no, r.state) for r in rows}


@pytest.mark.parametrize("minutes", [30, -30, 2 * 24 * 60, -2 * 24 * 60])
def test_a_province_whose_clock_is_wrong(place: Place, minutes: int) -> None:
    """It denies every request; when its clock is right the node goes on by itself."""
    province = Clock(timedelta(minutes=minutes))
    with place.receiver(clock=province):
        denied = run(place, Clock())
        assert isinstance(denied.error(), Denied)
        assert "exchange doctor" in denied.error().hint.en  # type: ignore[union-attr]
        province.apart = timedelta()
        assert run(place, Clock()).error() is None
    audit(place)
    with place.node() as node:
        assert [check.name for check in audit_node(node).failed] == []


def test_a_gap_is_told_and_the_missing_batch_goes_first(place: Place) -> None:
    with place.receiver():
        assert run(place, Clock()).error() is None
    feed(place)
    with faulty(place, Fault.REFUSES):
        assert run(place, Clock()).refused == 1
    feed(place)
    clock = Clock()
    with place.receiver(), place.node(clock=clock) as node:
        gap = Runner(node, policy=EAGER).once()
        assert isinstance(gap.error(), Integrity)
        assert "exchange cascade retry" in gap.error().hint.en  # type: ignore[union-attr]
        stage = node.deliver_stage("cases", node.upstream.sender(), EAGER)
        waiting = stage.step()
        assert waiting is not None
        assert (waiting.state, waiting.code) == (State.WAITING, "424")
        (row,) = node.store.deliveries.find(states=[State.REFUSED])
        retry(node.store, row, node.clock, "test")
        order = []
        for _ in range(10):
            clock.apart += timedelta(seconds=10)  # the stage looks again, and waits are over
            if (delivery := stage.step()) is None:
                break
            if delivery.state is State.RECEIPTED:
                order.append(delivery.batch_no)
        stage.close()
    assert order == [row.batch_no, waiting.batch_no]
    with place.receiver():
        settle(place)
    audit(place)


def test_a_number_in_use_is_let_in_by_a_person(place: Place, tmp_path: Path) -> None:
    """A node from an old backup seals other records under a number that is taken.

    Its evidence log has another name: under the old one, the witness would tell.
    """
    shutil.copytree(place.folder, tmp_path / "old")
    old = Place(tmp_path / "old", {"cases": list(place.sources["cases"])})
    path = old.folder / "exchange.yaml"
    text = path.read_text("utf-8")
    path.write_text(f"{text}\nevidence: {{origin: exchange/232700-2}}\n", "utf-8")
    feed(old)
    store = receiver_options(place.province, os.environ, port=0).store
    with place.receiver() as endpoint:
        assert run(place, Clock()).error() is None
        old.call(endpoint)
        assert run(old, Clock()).refused == 1
        with old.node() as node:
            (row,) = node.store.deliveries.find()
            assert (row.state, row.code) == (State.REFUSED, "409")
            with contextlib.closing(open_store(store, clock=Clock())) as province:
                province.received_batches.admit(row.statement, "旧备份，双方核对", "王")
            retry(node.store, row, node.clock, "test")
        assert run(old, Clock()).receipts == 1
        feed(old)
        assert run(old, Clock()).receipts == 1, "the chain goes on from it"
    with contextlib.closing(open_store(store, clock=Clock())) as province:
        versions = sorted(each.version for each in province.received_batches.find())
    assert versions == [1, 1, 2]
