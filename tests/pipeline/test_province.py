"""A province that misbehaves, met by whole runs: what is told, what halts, what heals."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.cascade.delivery import State
from exchange.errors import Denied, ExchangeError, Integrity, Rejected, Transient
from exchange.log import RECEIPTS
from exchange.pipeline.deliver import retry
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import Runner
from tests.pipeline.place import EAGER, Place, audit, entries, records, settle, write_table
from tests.receiver.faults import Fault, answering_twice
from tests.support.nodes import faulty, make
from tests.support.sockets import listening


@pytest.fixture
def place(tmp_path: Path) -> Place:
    result = make(tmp_path / "node", {"cases": records(120), "firms": records(80)})
    path = result.folder / "exchange.yaml"
    impatient = "upstream:\n  connect_seconds: 0.5\n  read_seconds: 0.5\n  total_seconds: 1\n"
    path.write_text(path.read_text(encoding="utf-8").replace("upstream:", impatient, 1))
    return result


def run(place: Place) -> RunOutcome:
    with place.node() as node:
        return Runner(node, policy=EAGER).once()


TROUBLE: list[tuple[Fault, type[ExchangeError]]] = [
    (Fault.SLOW, Transient),
    (Fault.BUSY, Transient),
    (Fault.CRASH, Transient),
    (Fault.NO_CODE, Transient),
    (Fault.HTML, Transient),
    (Fault.NO_RECEIPT, Transient),
    (Fault.CLOSES_BEFORE, Transient),
    (Fault.CLOSES_IN_MID_BODY, Transient),
    (Fault.DRIPS, Transient),
    (Fault.DENIES, Denied),
]


@pytest.mark.parametrize(("fault", "kind"), TROUBLE)
def test_trouble_is_told_and_heals(fault: Fault, kind: type[ExchangeError], place: Place) -> None:
    with faulty(place, fault) as province:
        result = run(place)
        assert type(result.error()) is kind
        assert result.error().exit_code == {Transient: 4, Denied: 5}[kind]  # type: ignore[union-attr]
        assert set(result.errors) == {Where("cascade", "cases"), Where("cascade", "firms")}
        assert (result.receipts, result.waiting) == (0, result.batches)
        province.fault = Fault.NONE
        healed = run(place)
        assert (healed.errors, healed.waiting, healed.receipts) == ({}, 0, result.batches)
    audit(place)


def test_a_province_that_is_down_is_told_and_heals(place: Place) -> None:
    with place.receiver():
        pass
    result = run(place)
    assert result.error().exit_code == 4  # type: ignore[union-attr]
    assert result.waiting == result.batches > 0
    with place.receiver():
        settle(place)
    audit(place)


def test_a_short_trouble_is_sat_out_within_one_run(place: Place) -> None:
    with faulty(place, Fault.CRASH) as province:
        province.times = 2
        result = run(place)
    assert (result.errors, result.waiting) == ({}, 0)
    audit(place)


def test_a_refusal_is_told_and_the_next_batches_go_on(place: Place) -> None:
    with faulty(place, Fault.REFUSES) as province:
        province.times = 1
        result = run(place)
        assert type(result.error()) is Rejected
        assert result.refused == 1
        assert result.receipts == result.batches - 1
        with place.node() as node:
            (row,) = node.store.deliveries.find(states=[State.REFUSED])
            assert row.reason == "目录不存在"
            retry(node.store, row, node.clock, "test")
        assert run(place).errors == {}
    audit(place)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.WRONG_SEAL,
        Fault.WRONG_ROOT,
        Fault.WRONG_COUNT,
        Fault.BROKEN_RECEIPT,
        Fault.OTHER_BATCH,
    ],
)
def test_a_wrong_receipt_halts_its_resource_and_no_other(fault: Fault, place: Place) -> None:
    with faulty(place, fault, only="cases") as province:
        result = run(place)
        assert isinstance(result.error(), Integrity)
        assert result.error().exit_code == 6  # type: ignore[union-attr]
        assert set(result.errors) == {Where("cascade", "cases")}
        assert result.halted == {Where("cascade", "cases")}
        # Nothing heals by itself, and nothing is sent again.
        province.fault = Fault.NONE
        more = records(50, first=121)
        write_table(place.folder / "cases.db", more)
        place.sources["cases"] += more
        again = run(place)
        assert (set(again.errors), again.receipts) == ({Where("cascade", "cases")}, 0)
        with place.node() as node:
            assert {r.state for r in node.store.deliveries.find(resource="firms")} == {"receipted"}
            (row,) = node.store.deliveries.find(resource="cases", states=[State.HALTED])
            (kept,) = [e for e in entries(node.log, RECEIPTS) if e.headers["kind"] == "wrong"]
            assert kept.key == f"cases/{row.batch_no}", "the receipt is kept as evidence"
            retry(node.store, row, node.clock, "test")
        settle(place)
    audit(place, wrong=1)


def test_answers_that_come_twice_settle_each_batch_once(place: Place) -> None:
    with place.receiver() as endpoint, listening(answering_twice(endpoint)) as relay:
        place.call(relay)
        result = run(place)
        assert (result.errors, result.waiting) == ({}, 0)
    audit(place)


def test_settings_that_cannot_work_are_told_and_the_rest_goes_on(place: Place) -> None:
    (place.folder / "secrets" / "province.txt").unlink()
    with pytest.raises(AssertionError, match="not settled"):
        settle(place, runs=1)
    result = run(place)
    assert result.error().exit_code == 3  # type: ignore[union-attr]
    assert set(result.errors) == {Where("cascade")}
    assert result.waiting > 0
