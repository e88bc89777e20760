"""What happens to a node in the ordinary course of its life is no fault."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.devtools.servers.kafka import Cluster
from exchange.durable import write_file
from exchange.evidence.audit_report import ENVELOPE
from exchange.log import RECEIPTS, Message, raw_topic
from exchange.node.auditing import audit_node
from exchange.pipeline.deliver import retry as put_back
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.pipeline.replay import replay
from exchange.run.retention import plan_retention, remove
from exchange.run.runner import Runner
from exchange.seal.checks import Verification
from tests.pipeline.place import EAGER, Place, now, records
from tests.receiver.faults import Fault
from tests.support.nodes import add, faulty, make, run
from tests.support.soak import KILLED
from tests.test_former import FORMER, STOPPED

ROWS = 200


def audited(place: Place) -> Verification:
    with place.node() as node:
        return audit_node(node)


def told(verification: Verification) -> list[str]:
    return [f"{check.name}: {check.expected}: {check.found}" for check in verification.failed]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = make(tmp_path / "node", {"cases": records(ROWS)})
    with place.node() as node:
        node.take_up_catalog()
    return place


def test_a_node_that_was_never_run_passes(place: Place) -> None:
    assert told(audited(place)) == []
    assert not (place.folder / "data" / "log.db").exists(), "nothing is made"


def test_what_waits_is_no_fault(place: Place) -> None:
    """Pulled and not sealed, sealed and not delivered, nothing in the evidence log."""
    with place.node() as node:
        assert Runner(node, policy=EAGER, stages=("pull",)).once().errors == {}
    assert told(audited(place)) == []
    with place.node() as node:
        assert Runner(node, policy=EAGER, stages=("seal",)).once().errors == {}
    found = audited(place)
    assert told(found) == []
    assert (found.facts["receipts"], found.facts["entries"]) == (0, 0)


def test_replays_rewinds_strangers_and_more_partitions(place: Place) -> None:
    with place.receiver():
        assert run(place).errors == {}
        with place.node() as node:
            resource = node.context.resource("cases")
            assert replay(node.context, node.store, resource, by="wang").rows > 0
            with node.log.transaction("stranger") as tx:
                tx.append(Message(raw_topic("cases"), b"strange"))
        assert run(place).errors == {}
        path = place.folder / "exchange.yaml"
        path.write_text(path.read_text("utf-8") + "log: {partitions: {default: 3}}\n", "utf-8")
        add(place, "cases", records(ROWS, first=ROWS + 1))
        assert run(place).errors == {}
        config = f"--config={place.folder / 'exchange.yaml'}"
        assert main(["source", "rewind", "cases", "--to", "100", "--apply", config], {}) == 0
        assert run(place).errors == {}
    assert told(audited(place)) == []


def test_retention_with_its_line_in_the_trail_is_no_fault(place: Place) -> None:
    with place.receiver():
        assert run(place).errors == {}
        add(place, "cases", records(ROWS, first=ROWS + 1))
        assert run(place).errors == {}
        for kind in ({"raw"}, {"quarantine", "sealed"}):
            later = now() + timedelta(days=40)
            with place.node(clock=lambda later=later: later) as node:
                removals = plan_retention(node, "cases", timedelta(days=30), kind)  # type: ignore[arg-type]
                remove(node, "cases", removals, by="wang")
            assert told(audited(place)) == []
        add(place, "cases", records(ROWS, first=2 * ROWS + 1))
        assert run(place).errors == {}
    assert told(audited(place)) == []


def test_a_long_dismissal_a_refusal_and_a_retry_are_no_fault(place: Place) -> None:
    """And what is changed afterwards is one."""
    addresses = tuple(f"cases/0/{number}" for number in range(500))
    with faulty(place, Fault.REFUSES):
        assert run(place).refused > 0
    assert told(audited(place)) == []
    with place.node() as node:
        chosen = Selection(addresses=addresses)
        reason = '原因"引号"' + "长" * 900
        assert dismiss(node.context, node.store, "cases", chosen, by="wang", reason=reason) > 0
        detail = json.loads(node.store.audit.find()[-1].detail)
        assert detail["reason"] == reason
        assert detail["addresses"]["characters"] > 4_000, "kept by its digest"
    assert told(audited(place)) == []
    store = place.folder / "data" / "store.db"
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("UPDATE deliveries SET trouble_text = 'x' WHERE trouble_code = '422'")
    assert {check.name for check in audited(place).failed} == {"store.deliveries"}
    with place.node() as node:
        for row in node.store.deliveries.find(resource="cases"):
            put_back(node.store, row, node.clock, "wang")
    assert told(audited(place)) == [], "put back by a person"
    with place.receiver():
        outcome = run(place)
        assert (outcome.errors, outcome.waiting) == ({}, 0)
    assert told(audited(place)) == []


def test_what_was_pulled_with_the_clock_ahead_is_no_fault(place: Place) -> None:
    later = now() + timedelta(days=2)
    with place.node(clock=lambda: later) as node:
        assert Runner(node, policy=EAGER, stages=("pull",)).once().errors == {}
    with place.node() as node:
        assert Runner(node, policy=EAGER, stages=("seal",)).once().errors == {}
    assert told(audited(place)) == []


class Struck(BaseException):
    """The process ends here."""


def test_a_node_that_was_killed_is_audited_as_it_lies(place: Place, tmp_path: Path) -> None:
    """Wherever it was: what is under way is no fault, before it goes on and after."""
    names: list[str] = []
    trial = Place(tmp_path / "trial", dict(place.sources))
    shutil.copytree(place.folder, trial.folder)
    with trial.receiver(), trial.node(failpoint=names.append) as node:
        assert Runner(node, policy=EAGER).once().errors == {}
    points = list(dict.fromkeys(names))
    for number, name in enumerate(points[:: KILLED.now]):
        copy = Place(tmp_path / str(number), dict(place.sources))
        shutil.copytree(place.folder, copy.folder)

        def strike(passed: str, name: str = name) -> None:
            if passed == name:
                raise Struck(name)

        with copy.receiver(), copy.node(failpoint=strike) as node, pytest.raises(Struck):
            Runner(node, policy=EAGER).once()
        assert told(audited(copy)) == [], name


def test_a_node_that_runs_meanwhile_is_audited_as_it_was(place: Place) -> None:
    stop = threading.Event()
    rounds: list[list[str]] = []

    def work() -> None:
        number = ROWS
        while not stop.is_set():
            add(place, "cases", records(20, first=number + 1))
            number += 20
            run(place)

    with place.receiver():
        assert run(place).errors == {}
        worker = threading.Thread(target=work)
        worker.start()
        try:
            rounds += [told(audited(place)) for _ in range(5)]
        finally:
            stop.set()
            worker.join()
    assert rounds == [[]] * 5


# 20 s: a broker, and a node with several partitions on it.
def test_a_node_on_a_cluster_passes_until_somebody_writes_there(
    place: Place, empty_broker: Cluster
) -> None:
    path = place.folder / "exchange.yaml"
    bootstrap = ", ".join(empty_broker.bootstrap)
    path.write_text(
        path.read_text("utf-8") + "\nlog:\n  driver: kafka\n  partitions: {default: 2}\n"
        f"  kafka: {{bootstrap: [{bootstrap}], replication: 1, min_insync: 1}}\n",
        "utf-8",
    )
    with place.receiver():
        assert run(place).errors == {}
        add(place, "cases", records(ROWS, first=ROWS + 1))
        assert run(place).errors == {}
    found = audited(place)
    assert told(found) == []
    assert found.facts["rows"] == 2 * 2 * ROWS
    with place.node() as node:
        (entry,) = node.log.read(RECEIPTS, 0, node.log.bounds(RECEIPTS, 0)[0], max_entries=1)
        with node.log.transaction("cascade/forged") as tx:
            tx.append(Message(RECEIPTS, entry.value, entry.key, entry.headers))
    assert [check.name for check in audited(place).failed] == ["receipts.once"]


def test_a_node_of_the_former_version_passes(tmp_path: Path) -> None:
    with tarfile.open(FORMER / "node-with-test-keys.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "node"
    province = folder / "province" / "exchange.yaml"
    province.write_text(province.read_text(encoding="utf-8").replace("gateway:", "receiver:", 1))
    place = Place(folder)
    start = STOPPED + timedelta(days=1)
    opened = datetime.now(UTC)
    with place.node(clock=lambda: start + (datetime.now(UTC) - opened)) as node:
        assert node.store  # brought up to date, as a run does
        node.take_up_catalog()
        found = audit_node(node)
    assert told(found) == []


def test_the_command_and_its_report(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.receiver():
        assert run(place).errors == {}
    config, report = f"--config={place.folder / 'exchange.yaml'}", place.folder / "report.json"
    assert main(["audit", "--json", "--to", str(report), config], {}) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    assert answer["facts"]["batches"] > 0
    verify = ["verify", str(report), "--json", config]
    assert main(verify, {}) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert (facts["result"], facts["failed"]) == ("passed", "")
    content = json.loads(report.read_bytes())
    assert content["format"] == ENVELOPE
    content["report"]["node"] = "110000"
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    write_file(report, text.encode())
    assert main(verify, {}) == 6
    capsys.readouterr()
    for path in (place.folder / "data").glob("store.db*"):
        path.unlink()
    assert main(["audit", "--json", "--to", str(report), config], {}) == 6
    failed = [c for c in json.loads(capsys.readouterr().out)["checks"] if not c["ok"]]
    assert [check["name"] for check in failed] == ["store.deliveries"]
    assert failed[0]["number"] > 1
    assert main(verify, {}) == 0, "it is what the node says: that it failed"
    assert json.loads(capsys.readouterr().out)["facts"]["failed"] == "store.deliveries"
