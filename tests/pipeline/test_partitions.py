"""Partitions: how rows are shared out, how numbers are, and what several workers make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog.model import Limits
from exchange.errors import Misconfigured, Transient
from exchange.log import RECEIPTS, Message, quarantine_topic, raw_topic, sealed_topic
from exchange.pipeline.partition import BLOCK, Numbers, PartitionState, continuation
from exchange.pipeline.pull import spread
from exchange.pipeline.refused import waiting
from exchange.pipeline.replay import replay
from exchange.run.outcome import Where
from exchange.run.runner import Runner
from exchange.store.node.deliveries import DeliveryRow
from exchange.validate.refused_records import UNREADABLE, show
from tests.pipeline.place import (
    EAGER,
    Place,
    audit,
    entries,
    finish,
    partitions,
    records,
    run_once,
    settle,
    start,
    write_table,
)
from tests.support.nodes import make, run

# --- rows -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make(tmp_path_factory.mktemp("partitions") / "node", {"cases": records(10)})


WHITE_SPACE = "".join(chr(n) for n in range(0x3001) if chr(n).isspace() and not 0x1C <= n <= 0x1F)
"""What Unicode calls White_Space; Python counts the four separators of ASCII, too."""


@given(keys=st.lists(st.text(max_size=4) | st.none(), max_size=40), count=st.integers(1, 9))
def test_the_same_key_comes_to_the_same_partition_in_order(
    place: Place, keys: list[str | None], count: int
) -> None:
    with place.node() as node:
        resource = node.context.resource("cases")
    frame = pl.DataFrame({"no": pl.Series(keys, dtype=pl.String), "row": range(len(keys))})
    parts = dict(spread(frame, resource, count))
    assert set(parts) <= set(range(count))
    items = [row for part in parts.values() for row in part["row"].to_list()]
    assert sorted(items) == list(range(len(keys)))
    homes: dict[str, set[int]] = {}
    for partition, part in parts.items():
        assert part["row"].to_list() == sorted(part["row"].to_list())
        for key in part["no"].to_list():
            homes.setdefault((key or "").strip(WHITE_SPACE), set()).add(partition)
    assert all(len(home) == 1 for home in homes.values())


def test_the_share_of_a_key_never_changes(place: Place) -> None:
    """A key that moved to another partition could overtake itself: these values are for ever."""
    with place.node() as node:
        resource = node.context.resource("cases")
    frame = pl.DataFrame({"no": ["1", "n1", "名称", "232700"]})
    assert {partition: part["no"].to_list() for partition, part in spread(frame, resource, 8)} == {
        3: ["名称", "232700"],
        4: ["n1"],
        7: ["1"],
    }


# --- numbers --------------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 150), st.integers(-1, 1), st.booleans()),
        max_size=40,
    )
)
def test_numbers_are_unique_and_rise_whatever_happens(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """Partitions take numbers in turn; some die before they commit; the clock jumps by days."""
    numbers, states = Numbers(), {partition: PartitionState() for partition in range(4)}
    day, given_out = 20261123, Counter[str]()
    for partition, count, jump, killed in steps:
        day += jump
        state = states[partition]
        items = []
        for _ in range(count):
            if not state.has_number(str(day)):
                numbers, state = numbers.block(partition, state, str(day))
            state = state.next_number()
            items.append(state.batch_no)
        assert items == sorted(items)
        assert items[0] > states[partition].batch_no or not states[partition].day
        if not killed:
            states[partition] = state
            given_out.update(items)
    assert all(count == 1 for count in given_out.values())


def test_a_partition_that_was_killed_gets_its_block_again() -> None:
    numbers, _ = Numbers().block(2, PartitionState(), "20261123")
    numbers, state = numbers.block(2, PartitionState(), "20261123")
    assert (state.next_number().batch_no, numbers.last) == ("2026112300001", BLOCK)


def test_a_day_has_99999_numbers() -> None:
    numbers, state = Numbers("20261123", 99_990).block(0, PartitionState(), "20261123")
    for _ in range(9):
        assert state.has_number("20261123")
        state = state.next_number()
    assert state.batch_no == "2026112399999"
    assert not state.has_number("20261123")
    with pytest.raises(Transient):
        numbers.block(0, state, "20261123")
    _, state = numbers.block(0, state, "20261124")
    assert state.next_number().batch_no == "2026112400001"


# --- the node -------------------------------------------------------------------------------------


def widen(place: Place, count: int) -> None:
    path = place.folder / "exchange.yaml"
    text = path.read_text(encoding="utf-8").partition("\nlog:")[0]
    path.write_text(f"{text}\nlog: {{partitions: {{default: {count}}}}}\n", encoding="utf-8")


def test_partitions_can_be_added_between_two_runs_of_a_day(tmp_path: Path) -> None:
    rows = records(900)
    place = make(tmp_path / "node", {"cases": rows[:300]})
    with place.receiver():
        run(place)
        for count, more in ((3, rows[300:600]), (5, rows[600:])):
            widen(place, count)
            write_table(place.folder / "cases.db", more)
            assert run(place).errors == {}
        widen(place, 2)
        assert run(place).errors == {}, "fewer than there are changes nothing"
    place.sources = {"cases": rows}
    audit(place)
    with place.node() as node:
        assert partitions(node.log, sealed_topic("cases")) == range(5)
        assert {entry.partition for entry in entries(node.log, raw_topic("cases"))} == {*range(5)}


def test_several_processes_share_the_work_and_seal_nothing_twice(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(1500), "firms": records(700)})
    widen(place, 3)
    with place.receiver(), place.node() as node:
        assert node.store
        node.context.ensure("cases")
        codes = {finish(item) for item in [start(run_once, place.folder) for _ in range(3)]}
        assert codes <= {0, 4}
        settle(place)
    audit(place)


def test_uniqueness_beside_the_key_needs_one_partition(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(10)})
    path = place.folder / "catalog.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("key: [no]", "key: [no]\n    unique: [[id]]")
    )
    widen(place, 2)
    with place.receiver():
        assert isinstance(run(place).error(), Misconfigured)
        widen(place, 1)
        assert run(place).errors == {}


def test_no_more_is_pulled_while_the_province_is_far_behind(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(900)})
    path = place.folder / "exchange.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("upstream:", "upstream:\n  backlog: 3")
    )
    place.call("http://127.0.0.1:9")
    with place.node() as node:
        outcome = Runner(node, policy=EAGER, stages=("pull", "seal")).once()
    assert isinstance(outcome.errors[Where("pull", "cases")], Transient)
    assert 3 < outcome.batches < 18
    assert outcome.pulled < 1800
    with place.receiver():
        for _ in range(9):
            if run(place).errors == {}:
                break
    audit(place)


# --- messages of others ---------------------------------------------------------------------------


def test_a_foreign_message_is_kept_and_stops_nobody(tmp_path: Path) -> None:
    """Somebody writes into our topics: it is kept with its bytes, and the rest goes on."""
    place = make(tmp_path / "node", {"cases": records(300), "firms": records(100)})
    topics = [name("cases") for name in (raw_topic, sealed_topic, quarantine_topic)]
    with place.node() as node:
        node.context.ensure("cases")
        with node.log.transaction("intruder") as tx:
            for topic in topics:
                tx.append(Message(topic, f"我不是你们的 {topic}".encode()))
                tx.append(Message(topic, b"", key="x", headers={"kind": "records"}))
    with place.receiver():
        assert run(place).errors == {}
    with place.node() as node:
        index = node.store.quarantine.find(resource="cases")
        foreign = [row for row in index if row.reasons == {UNREADABLE: 1}]
        assert len(foreign) == 6
        assert {row.locator for row in foreign} == {
            f"{topic}/0/{offset}" for topic in topics for offset in (0, 1)
        }
        kept = waiting(node.context, node.store, foreign)
        resource = node.context.resource("cases")
        items = [record for refused in kept for record in show(refused, resource)]
        assert {reason["rule"] for record in items for reason in record.reasons} == {UNREADABLE}
        assert (
            sum(
                "我不是你们的" in reason["zh"] + reason["value"]
                for record in items
                for reason in record.reasons
            )
            == 3
        )
        result = replay(node.context, node.store, resource, by="test")
        assert result.held >= 6, "it cannot be replayed, only dismissed"
    with place.receiver():
        assert run(place).errors == {}
    with place.node() as node:
        states = {row.state for row in node.store.deliveries.find(resource="cases")}
        assert states == {"receipted"}


def test_a_batch_that_another_worker_settles_meanwhile_was_not_put_back(tmp_path: Path) -> None:
    """A worker with a partition just moved looks for batches put back; the other delivers."""
    place = make(tmp_path / "node", {"cases": records(50)})
    with place.node() as node:
        Runner(node, policy=EAGER, stages=("pull", "seal")).once()
    with place.receiver(), place.node() as node, place.node() as other:
        faster = other.deliver_stage("cases", other.upstream.sender(), EAGER)
        first = node.store.deliveries.first

        def slow(resource: str, partition: int, states: Collection[str]) -> DeliveryRow | None:
            row = first(resource, partition, states)
            faster.step()
            return row

        vars(node.store.deliveries)["first"] = slow
        stage = node.deliver_stage("cases", node.upstream.sender(), EAGER)
        assert stage.step() is None
        assert stage.step() is None
        faster.close()
        stage.close()
        receipts = list(entries(node.log, RECEIPTS))
        assert [entry.headers["kind"] for entry in receipts] == ["receipt"]
    settle_all(place)


def settle_all(place: Place) -> None:
    with place.receiver():
        settle(place)
    audit(place)


def test_the_waits_of_one_partition_delay_no_other(tmp_path: Path) -> None:
    place = make(tmp_path / "node", {"cases": records(600)})
    widen(place, 4)
    with place.node() as node:
        Runner(node, policy=EAGER, stages=("pull", "seal")).once()
        slow = node.store.deliveries.find(resource="cases")[-1]
        later = node.clock() + timedelta(minutes=5)
        node.store.deliveries.save(replace(slow, state="waiting", due=later))
    with place.receiver(), place.node() as node:
        stage = node.deliver_stage("cases", node.upstream.sender(), EAGER)
        for _ in range(200):
            delivery = stage.step()
            if delivery is not None and delivery.state == "waiting":
                break
        states = Counter(
            (row.partition, str(row.state)) for row in node.store.deliveries.find(resource="cases")
        )
        stage.close()
    assert all(
        state == "receipted" for partition, state in states if partition != slow.partition
    ), states
    assert (slow.partition, "receipted") not in states
    with place.node() as node:
        (row,) = [r for r in node.store.deliveries.find(resource="cases") if r.due is not None]
        node.store.deliveries.save(replace(row, state="pending", due=None))
    with place.receiver():
        settle(place)
    audit(place)


def test_what_a_person_let_go_on_holds_for_the_pulls_that_go_on_with_it() -> None:
    def judged(state: PartitionState) -> PartitionState:
        return replace(state, rejected=4).judge(Limits(max_count=3), 0, 4)

    halted = judged(PartitionState().begin("p"))
    assert halted.halted is not None
    second = judged(halted.release().begin(continuation("p")))
    assert second.halted is None, "the pull goes on where it was broken off"
    third = judged(second.begin(continuation(second.pull)))
    assert (third.pull, third.halted) == ("p.3", None)
    assert judged(third.begin("q")).halted is not None, "a pull of its own"
