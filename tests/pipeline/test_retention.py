"""What `exchange log retain` removes, what holds it back, and how a node goes on afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange.cascade.delivery import State
from exchange.devtools.servers.kafka import Cluster
from exchange.errors import Rejected
from exchange.evidence.audit import audit as audit_evidence
from exchange.log import sealed_topic
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.run.outcome import RunOutcome
from exchange.run.retention import KINDS, Removal, TopicKind, kinds_of, plan_retention, remove
from exchange.run.runner import STAGES, Runner
from tests.pipeline.place import EAGER, Place, now, records
from tests.receiver.faults import Fault
from tests.support.nodes import add, command, faulty, make, rebuild

AGE = timedelta(days=30)
ROWS = 250


def later() -> datetime:
    return now() + timedelta(days=40)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(ROWS)})


def run(place: Place, *stages: str) -> RunOutcome:
    with place.node() as node:
        return Runner(node, policy=EAGER, stages=stages or STAGES).once()


def plan(place: Place, age: timedelta = AGE) -> dict[str, Removal]:
    """Plan for the only partition, as it looks 40 days later."""
    with place.node(clock=later) as node:
        removals = plan_retention(node, "cases", age)
    return dict(zip(KINDS, removals, strict=True))


def obstacles(place: Place) -> dict[str, str]:
    """Return what holds each topic back; every message of it."""
    removals = plan(place)
    assert {removal.count for removal in removals.values()} == {0}
    return {kind: r.obstacle.en if r.obstacle else "" for kind, r in removals.items()}


def clean(place: Place) -> dict[str, int]:
    """Remove all that can be; return how many messages of each kind went."""
    with place.node(clock=later) as node:
        removals = plan_retention(node, "cases", AGE)
        remove(node, "cases", removals, by="test")
        for removal in removals:
            assert node.log.bounds(removal.topic, 0)[0] == removal.before
        again = plan_retention(node, "cases", AGE)
        assert [removal.count for removal in again] == [0, 0, 0]
        line = node.store.audit.find()[-1]
        assert (line.actor, line.action, line.subject) == ("test", "log.retain", "cases")
        assert "exchange.raw.cases/0" in line.detail
        node.store.audit.check()
    return {kind: removal.count for kind, removal in zip(KINDS, removals, strict=True)}


def give_up(place: Place) -> None:
    with place.node() as node:
        every = Selection(addresses=tuple(f"cases/0/{n}" for n in range(ROWS)))
        count = dismiss(node.context, node.store, "cases", every, by="test", reason="a test")
        assert count > 0


def goes_on(place: Place) -> None:
    """Take more rows to their receipts; nothing is taken for a loss."""
    with place.node() as node:
        before = node.store.deliveries.counts()["cases", State.RECEIPTED]
        quarantine = node.store.quarantine.counts()["cases"][0]
    add(place, "cases", records(ROWS, first=ROWS + 1))
    outcome = run(place)
    assert (outcome.errors, outcome.waiting) == ({}, 0)
    assert outcome.accepted + outcome.quarantined == ROWS
    with place.node() as node:
        counts = node.store.deliveries.counts()
        assert counts == {("cases", State.RECEIPTED): before + outcome.batches}
        assert node.store.quarantine.counts()["cases"][0] == quarantine + outcome.quarantined
        trust, upstream = place.settings.trust, place.settings.upstream
        assert upstream is not None
        verification = audit_evidence(
            place.folder / "data" / "evidence",
            trust=node.trust(trust),
            witnesses=node.trust(upstream.trust),
        )
        assert verification.ok, verification.failed


def retained(place: Place) -> None:
    """Go through it all: held back, removed, and on."""
    with place.receiver():
        assert run(place).errors == {}
        waits = "a record that came then waits in quarantine"
        held = obstacles(place)
        assert (held["raw"], held["sealed"]) == (waits, waits)
        assert held["quarantine"].startswith("records of cases/0/")
        give_up(place)
        assert {removal.count for removal in plan(place, timedelta(days=50)).values()} == {0}
        counts = clean(place)
        assert min(counts.values()) > 0, counts
        goes_on(place)


# 4 s: two runs of a node.
def test_what_nobody_needs_goes_and_the_node_goes_on(place: Place) -> None:
    retained(place)


# 15 s: the same on a broker, which removes by DeleteRecords.
def test_a_cluster_removes_it_too(place: Place, empty_broker: Cluster) -> None:
    path = place.folder / "exchange.yaml"
    bootstrap = ", ".join(empty_broker.bootstrap)
    path.write_text(
        path.read_text("utf-8") + f"\nlog:\n  driver: kafka\n"
        f"  kafka: {{bootstrap: [{bootstrap}], replication: 1, min_insync: 1}}\n",
        "utf-8",
    )
    retained(place)


def test_a_store_made_again_has_what_the_log_keeps(place: Place) -> None:
    with place.receiver():
        run(place)
        give_up(place)
        clean(place)
        add(place, "cases", records(ROWS, first=ROWS + 1))
        outcome = run(place)
        for path in (place.folder / "data").glob("store.db*"):
            path.unlink()
        rebuild(place, "store")
        assert run(place).errors == {}
    with place.node() as node:
        assert node.store.deliveries.counts() == {("cases", State.RECEIPTED): outcome.batches}
        assert node.store.quarantine.counts()["cases"][0] == outcome.quarantined


def test_a_batch_without_a_receipt_stays(place: Place) -> None:
    with faulty(place, Fault.REFUSES):
        run(place, "pull", "seal")
        assert obstacle(place, "sealed").startswith("group cascade")
        assert run(place).refused > 0
        give_up(place)
    with place.node() as node:
        (entry,) = node.log.read(sealed_topic("cases"), 0, 0, max_entries=1)
    assert plan(place)["sealed"].count == 0
    assert obstacle(place, "sealed") == f"batch {entry.key} has no receipt"
    assert plan(place)["raw"].count > 0


def obstacle(place: Place, kind: TopicKind) -> str:
    text = plan(place)[kind].obstacle
    return "" if text is None else text.en


def test_an_open_pull_keeps_its_raw_messages(place: Place) -> None:
    with place.node() as node:
        stream = node.pull_stage("cases").run()
        assert next(stream) > 0
        stream.close()
    run(place, "seal")
    with place.node() as node:
        state = node.context.pull_state("cases")
        assert state is not None
        assert not state.done
    give_up(place)
    removal = plan(place)["raw"]
    assert removal.count == 0
    assert removal.obstacle is not None
    assert removal.obstacle.en == "the pull of source cases is not done"


def test_a_group_that_is_behind_holds_its_topic(place: Place) -> None:
    with place.receiver():
        run(place)
        give_up(place)
        with place.node() as node:
            node.log.consumer("reader of another program", [sealed_topic("cases")]).close()
        removals = plan(place)
    assert removals["sealed"].count == 0
    assert removals["sealed"].obstacle is not None
    assert "reader of another program" in removals["sealed"].obstacle.en
    assert removals["raw"].count > 0


def test_what_is_sealed_first_is_removed_first(place: Place) -> None:
    """What waits for the stage that seals holds raw and sealed."""
    with place.receiver():
        run(place)
        give_up(place)
        add(place, "cases", records(10, first=ROWS + 1, dirty=False))
        run(place, "pull")
        removals = plan(place)
    assert (removals["raw"].count, removals["sealed"].count) == (0, 0)
    assert removals["raw"].obstacle is not None
    assert removals["raw"].obstacle.en.startswith("group seal")


def test_the_command_shows_before_it_removes(place: Place) -> None:
    with place.receiver():
        run(place)
    result: Any = command(place, "log", "retain", "--days", "30", "--topic", "raw")
    assert result["messages"] == 0
    (topic,) = result["topics"]
    assert topic["topic"] == "exchange.raw.cases"
    assert topic["held_by"]["en"] == "the rest is younger"


def test_a_foreign_kind_is_refused() -> None:
    assert kinds_of(["sealed", "raw"]) == ("raw", "sealed")
    assert kinds_of([]) == tuple(KINDS)
    with pytest.raises(Rejected, match="receipts"):
        kinds_of(["receipts"])
