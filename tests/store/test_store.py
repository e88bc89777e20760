"""The store's subjects, one after the other, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from exchange.errors import Integrity, Rejected, Transient
from exchange.store.node.deliveries import DeliveryRow
from exchange.store.node.pulls import NoteRow, PullRow
from exchange.store.node.quarantine import QuarantineRow
from exchange.store.receiver.batches import ChainRow, ReceivedBatchRow
from exchange.store.sql import Stale
from tests.support.stored import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.store.database import Store
    from tests.store.conftest import Clock, Opener
from tests.support.stored import delivery, receipt, together

OPEN = ("pending", "sending", "waiting", "halted")


def quarantined(offset: int, rows: int = 3, **changes: object) -> QuarantineRow:
    row = QuarantineRow(
        topic="exchange.quarantine.a",
        partition=0,
        offset=offset,
        resource="a",
        source="许可库",
        pull="p1",
        locator="许可.xlsx/表1",
        rows=rows,
        reasons={"license_no.check": 2, "名称.required": 1},
        catalog_version="2026.11",
        created_at=START,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


# deliveries


def test_a_delivery_comes_back_as_it_was(store: Store) -> None:
    assert store.deliveries.get("credit_license", "2026112300001") is None
    assert store.deliveries.add([delivery(1)]) == 1
    answer = store.deliveries.get("credit_license", "2026112300001")
    assert answer is not None
    assert answer.created_at == answer.updated_at == START + timedelta(seconds=1)
    assert replace(answer, created_at=None, updated_at=None) == delivery(1)


def test_adding_again_changes_nothing(store: Store) -> None:
    store.deliveries.add([delivery(1)])
    row = store.deliveries.get("credit_license", "2026112300001")
    assert row is not None
    moved = store.deliveries.save(replace(row, state="waiting"))
    assert store.deliveries.add([delivery(1), delivery(2), delivery(2)]) == 1
    assert store.deliveries.get("credit_license", "2026112300001") == moved
    assert store.deliveries.add([]) == 0


def test_one_batch_number_for_two_batches_is_an_integrity_error(store: Store) -> None:
    store.deliveries.add([delivery(1)])
    for changes in ({"statement": "other"}, {"offset": 7}, {"rows": 1}):
        with pytest.raises(Integrity):
            store.deliveries.add([delivery(2), delivery(1, **changes)])
    assert store.deliveries.get("credit_license", "2026112300002") is None


def test_many_deliveries_at_once(store: Store) -> None:
    rows = [delivery(number, f"r{number % 7}") for number in range(1000)]
    assert store.deliveries.add(rows) == 1000
    assert store.deliveries.add(rows) == 0
    assert sum(store.deliveries.counts().values()) == 1000
    assert store.deliveries.counts()["r3", "pending"] == 143


def test_of_two_workers_one_takes_the_delivery(opener: Opener) -> None:
    stores = [opener() for _ in range(4)]
    stores[0].deliveries.add([delivery(1)])

    def take(number: int) -> Callable[[], object]:
        row = stores[number].deliveries.get("credit_license", "2026112300001")
        assert row is not None
        taken = replace(row, state="sending", owner=f"w{number}", due=START, attempts=1)
        return lambda: stores[number].deliveries.save(taken)

    results = together(*(take(number) for number in range(4)))
    winners = [row for row in results if isinstance(row, DeliveryRow)]
    assert len(winners) == 1
    assert sum(isinstance(row, Stale) for row in results) == 3
    assert stores[0].deliveries.get("credit_license", "2026112300001") == winners[0]
    assert issubclass(Stale, Transient)


def test_saving_moves_only_what_moves(store: Store) -> None:
    store.deliveries.add([delivery(1)])
    row = store.deliveries.get("credit_license", "2026112300001")
    assert row is not None
    store.deliveries.save(
        replace(row, state="refused", code="4001", reason="字段不符\0" + "长" * 5000, rows=1)
    )
    answer = store.deliveries.get("credit_license", "2026112300001")
    assert answer is not None
    assert (answer.state, answer.code, answer.rows) == ("refused", "4001", 8192)
    assert answer.reason.startswith("字段不符\ufffd长")
    assert answer.reason.endswith("长…")
    assert answer.created_at == row.created_at
    assert answer.updated_at is not None
    assert row.updated_at is not None
    assert answer.updated_at > row.updated_at


def test_a_delivery_and_its_receipt_are_settled_together(store: Store) -> None:
    store.deliveries.add([delivery(1), delivery(2)])
    first_row, second_row = (
        store.deliveries.first("credit_license", 0, OPEN),
        store.deliveries.get("credit_license", "2026112300002"),
    )
    assert first_row is not None
    assert second_row is not None
    answer = store.deliveries.save(replace(first_row, state="receipted"), receipt=receipt(1))
    assert store.receipts.get("credit_license", "2026112300001") == receipt(1)
    assert store.deliveries.get("credit_license", "2026112300001") == answer
    with pytest.raises(Integrity):  # the receipt's number is taken: the delivery stays
        store.deliveries.save(
            replace(second_row, state="receipted"),
            receipt=replace(receipt(2), receipt_no=receipt(1).receipt_no),
        )
    assert store.deliveries.get("credit_license", "2026112300002") == second_row


def test_the_first_open_delivery_keeps_the_order_of_a_resource(store: Store) -> None:
    store.deliveries.add(
        [
            *(delivery(3), delivery(1, state="receipted"), delivery(2, state="refused")),
            *(delivery(9, "c"), delivery(8, "c", state="waiting", due=START)),
            delivery(1, "d", state="receipted"),
        ]
    )
    first, waiting = (store.deliveries.first(name, 0, OPEN) for name in ("credit_license", "c"))
    assert first is not None
    assert first.batch_no.endswith("3")
    assert waiting is not None
    assert waiting.batch_no.endswith("8")
    assert waiting.due == START
    assert store.deliveries.first("c", 0, ()) is None
    assert store.deliveries.first("d", 0, OPEN) is None


def test_deliveries_are_found_by_resource_and_state(store: Store) -> None:
    store.deliveries.add([delivery(1), delivery(2, state="refused"), delivery(3, "b")])
    assert [row.batch_no[-1] for row in store.deliveries.find()] == ["3", "2", "1"]
    assert [row.batch_no[-1] for row in store.deliveries.find(limit=1)] == ["3"]
    assert [row.resource for row in store.deliveries.find(resource="b")] == ["b"]
    assert [row.state for row in store.deliveries.find(states=["refused"])] == ["refused"]
    assert store.deliveries.counts() == {
        ("b", "pending"): 1,
        ("credit_license", "pending"): 1,
        ("credit_license", "refused"): 1,
    }


# receipts


def test_a_receipt_is_written_once(store: Store) -> None:
    content = bytes(range(256))
    assert store.receipts.add(receipt(1, content=content)) is True
    assert store.receipts.add(receipt(1, content=content)) is False
    with pytest.raises(Integrity):
        store.receipts.add(receipt(1, content=b"other"))
    with pytest.raises(Integrity):
        store.receipts.add(replace(receipt(2), receipt_no=receipt(1).receipt_no))
    assert store.receipts.add(receipt(1, "b")) is True
    assert store.receipts.find(resource="credit_license") == [receipt(1, content=content)]
    assert store.receipts.counts() == {"b": 1, "credit_license": 1}
    assert store.receipts.get("b", "none") is None
    assert "content" not in repr(receipt(1))


# quarantine


def test_quarantine_is_indexed_once(store: Store) -> None:
    rows = [quarantined(1), quarantined(2, source="other", pull="p2"), quarantined(3, rows=1)]
    assert store.quarantine.add(rows) == 3
    assert store.quarantine.add([*rows, quarantined(4)]) == 1
    assert store.quarantine.get("exchange.quarantine.a", 0, 1) == quarantined(1)
    assert store.quarantine.get("exchange.quarantine.a", 0, 9) is None
    assert [row.offset for row in store.quarantine.find(resource="a")] == [1, 2, 3, 4]
    assert [row.offset for row in store.quarantine.find(source="other")] == [2]
    assert [row.offset for row in store.quarantine.find(pull="p2", limit=1)] == [2]
    assert store.quarantine.counts() == {"a": (10, 0, 0, 0)}


def test_a_record_is_touched_once(store: Store, clock: Clock) -> None:
    place = ("exchange.quarantine.a", 0, 1)
    store.quarantine.add([quarantined(1), quarantined(2)])
    assert store.quarantine.decide(*place, [2, 0, 0], state="replayed", by="王") == [0, 2]
    touched_at = clock.now
    assert store.quarantine.decide(*place, [0, 1], state="dismissed", by="李", note="重复") == [1]
    assert store.quarantine.decide(*place, [], state="dismissed", by="李") == []
    answer = store.quarantine.get(*place)
    assert answer is not None
    assert (answer.replayed, answer.dismissed, answer.waiting) == (2, 1, 0)
    touched = store.quarantine.decisions(*place)
    assert {row: (item.state, item.by, item.note) for row, item in touched.items()} == {
        0: ("replayed", "王", ""),
        1: ("dismissed", "李", "重复"),
        2: ("replayed", "王", ""),
    }
    assert touched[0].at == touched_at
    assert [row.offset for row in store.quarantine.find(waiting=True)] == [2]
    assert store.quarantine.add([quarantined(1)]) == 0
    assert store.quarantine.get(*place) == answer


def test_touching_what_is_not_there_is_refused(store: Store) -> None:
    store.quarantine.add([quarantined(1)])
    for offset, rows in ((1, [0, 3]), (1, [-1]), (2, [0])):
        with pytest.raises(Rejected):
            store.quarantine.decide(
                "exchange.quarantine.a", 0, offset, rows, state="replayed", by="w"
            )
    assert store.quarantine.decisions("exchange.quarantine.a", 0, 1) == {}


def test_two_people_replay_a_record_once(opener: Opener) -> None:
    stores = [opener() for _ in range(3)]
    stores[0].quarantine.add([quarantined(1, rows=50)])

    def replay(store: Store) -> Callable[[], object]:
        return lambda: store.quarantine.decide(
            "exchange.quarantine.a", 0, 1, range(50), state="replayed", by="w"
        )

    results = together(*(replay(store) for store in stores))
    assert sorted(len(rows) for rows in results if isinstance(rows, list)) == [0, 0, 50]
    assert stores[0].quarantine.counts() == {"a": (50, 50, 0, 0)}


# pulls


def test_a_pull_knows_what_became_of_its_records(store: Store) -> None:
    row = PullRow("p1", "许可库", "a", START, "running")
    store.pulls.save(row)
    assert store.pulls.get("p1") == row
    store.deliveries.add([delivery(1, rows=100), delivery(2, rows=50), delivery(3, pull="p2")])
    store.deliveries.add([delivery(1, rows=100)])
    store.quarantine.add([quarantined(1, rows=3), quarantined(2, rows=4, pull="p2")])
    result = replace(row, state="done", ended_at=START + timedelta(minutes=1), pulled=153)
    store.pulls.save(result)
    answer = store.pulls.get("p1")
    assert answer == replace(result, accepted=150, quarantined=3)
    assert answer.pulled == answer.accepted + answer.quarantined
    store.pulls.save(replace(row, pulled=100))  # by a worker that had read it before
    assert store.pulls.get("p1") == answer
    later = PullRow("p0", "other", "a", START + timedelta(1), "failed", code="X", error="断开")
    store.pulls.save(later)
    assert store.pulls.find() == [later, answer]
    assert store.pulls.find(source="许可库") == [answer]
    assert store.pulls.get("none") is None


def test_notes_say_what_is_no_record(store: Store) -> None:
    notes = [
        NoteRow("p1", "高校.xls/Sheet1", 4, "heading", "北京市(92所)"),
        NoteRow("p1", "高校.xls/Sheet1", 1, "title", "全国高等学校名单"),
    ]
    assert store.pulls.add_notes(notes) == 2
    assert store.pulls.add_notes(notes) == 0
    assert store.pulls.notes("p1") == notes[::-1]
    assert store.pulls.notes("p2") == []


def test_every_note_of_a_place_is_kept(store: Store) -> None:
    place = ("p1", "高校.xls/Sheet1", 0)
    notes = [NoteRow(*place, "sheet", name) for name in ("说明", "码表", "数据")]
    notes += [NoteRow("p1", "", 0, "passed over", "数据.zip"), NoteRow(*place, "outside", "数据")]
    assert store.pulls.add_notes(notes) == 5
    assert store.pulls.add_notes([*notes, notes[0]]) == 0
    assert set(store.pulls.notes("p1")) == set(notes)


# receiver


def arrival(number: int, **changes: object) -> ReceivedBatchRow:
    row = ReceivedBatchRow(
        department="d",
        resource="a",
        batch_no=f"20261123{number:05}",
        sender="node1",
        version=1,
        statement="sm3:00",
        rows=10,
        path="a/1.avro",
        receipt_no=f"R{number}",
        receipt=b"sealed",
        received_at=START,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def test_a_repeat_gets_what_was_kept(store: Store) -> None:
    batches = store.received_batches
    assert batches.numbered("d", "a", "2026112300001") == []
    assert batches.add(arrival(1)) == arrival(1)
    assert batches.add(arrival(1, receipt_no="R9", receipt=b"new")) == arrival(1)
    other = arrival(1, sender="node2", receipt_no="R2")
    assert batches.add(other) == other, "nobody else's number is in the way"
    again = arrival(1, version=2, receipt_no="R3")
    assert batches.add(again) == again
    assert batches.numbered("d", "a", "2026112300001") == [arrival(1), again, other]
    with pytest.raises(Integrity):
        batches.add(arrival(3, receipt_no="R2"))
    assert batches.find(sender="node2") == [other]
    assert batches.find(resource="none") == batches.find(department="e") == []
    assert batches.counts() == (3, 30)


def test_a_chain_moves_once_and_with_its_batch(store: Store) -> None:
    batches = store.received_batches
    first = ChainRow("d", "a", 0, "node1", "s1", "2026112300001", "t1", "s0")
    second = replace(first, statement="s2", batch_no="2026112300002", missing="")
    batches.add(arrival(1), None, first)
    assert batches.chain("d", "a", 0, "node1") == first
    with pytest.raises(Stale):
        batches.add(arrival(2), None, second)
    assert batches.numbered("d", "a", "2026112300002") == []
    batches.add(arrival(2), first, second)
    assert batches.chain("d", "a", 0, "node1") == second
    with pytest.raises(Stale):
        batches.add(arrival(3), first, replace(second, statement="s3"))
    batches.add(arrival(3), second, replace(second, statement="s3"))
    assert batches.add(arrival(3), first, second) == arrival(3), "a repeat moves nothing"
    assert batches.chain("d", "a", 0, "node2") is None


def test_what_a_person_admits_is_audited(store: Store) -> None:
    assert store.received_batches.admission("s") is None
    store.received_batches.admit("s", "双方核对", "李")
    found = store.received_batches.admission("s")
    assert found is not None
    assert (found.reason, found.actor) == ("双方核对", "李")
    (line,) = store.audit.find()
    assert (line.actor, line.action, line.subject) == ("李", "receiver.admit", "s")


def test_requests_at_once_get_one_receipt(opener: Opener) -> None:
    stores = [opener() for _ in range(4)]
    rows = [arrival(1, receipt_no=f"R{number}") for number in range(4)]
    results = together(
        *(partial(store.received_batches.add, row) for store, row in zip(stores, rows, strict=True))
    )
    assert len({row.receipt_no for row in results if isinstance(row, ReceivedBatchRow)}) == 1
    assert all(isinstance(row, ReceivedBatchRow) for row in results)


# audit


def test_the_audit_trail_is_a_chain(store: Store) -> None:
    assert store.audit.check() == store.audit.head() == (0, "")
    rows = [
        store.audit.append("王", "quarantine.replay", "exchange.quarantine.a/0/1", "2 条\0"),
        store.audit.append("system", "halt", "a"),
        store.audit.append("李", "halt.lift", "a", "长" * 5000),
    ]
    assert store.audit.find() == rows
    assert store.audit.find(after=1, limit=1) == rows[1:2]
    assert [row.number for row in rows] == [1, 2, 3]
    assert rows[0].previous == ""
    assert rows[1].previous == rows[0].digest
    assert rows[0].digest.startswith("sm3:")
    assert store.audit.check() == store.audit.head() == (3, rows[2].digest)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit_trail SET actor_name = 'x' WHERE entry_no = 2",
        "UPDATE audit_trail SET detail = 'x' WHERE entry_no = 2",
        "UPDATE audit_trail SET entry_at = '2026-11-23T01:02:03.999Z' WHERE entry_no = 2",
        "DELETE FROM audit_trail WHERE entry_no = 2",
        "UPDATE audit_trail SET previous_digest = NULL WHERE entry_no = 2",
    ],
)
def test_a_changed_entry_breaks_the_chain(store: Store, tampering: str) -> None:
    for number in range(3):
        store.audit.append("王", "login", str(number))
    with store._transactions.write() as connection:
        connection.exec_driver_sql(tampering)
    with pytest.raises(Integrity, match="entry 2"):
        store.audit.check()


def test_writers_at_once_make_one_chain(opener: Opener) -> None:
    stores = [opener() for _ in range(4)]

    def write(store: Store) -> Callable[[], object]:
        return lambda: [store.audit.append("w", "act", str(n)) for n in range(10)]

    results = together(*(write(store) for store in stores))
    assert all(isinstance(result, list) for result in results), results
    assert stores[0].audit.check()[0] == 40


# names


@pytest.mark.parametrize("name", ["x" * 65, "a\0b", "\ud800"])
def test_an_impossible_name_is_refused_alike(store: Store, name: str) -> None:
    with pytest.raises(Rejected):
        store.deliveries.add([delivery(1, name)])
    with pytest.raises(Rejected):
        store.deliveries.get(name, "2026112300001")
