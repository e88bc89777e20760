"""Partitions move between processes: at once when one leaves, in time when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import kafka
import pytest
from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from exchange.errors import Integrity, Misconfigured, Rejected, Transient
from exchange.log import Fenced, Message, Partition, Topic
from exchange.log.kafka import KafkaLog
from exchange.log.kafka.group import _Membership, kinds
from exchange.log.kafka.reader import KafkaConsumer
from exchange.settings import KafkaSettings
from tests.log.contract import PATIENCE, fresh, put, take, values

Opening = Callable[..., KafkaLog]
PARTITIONS = 8
PATIENT = 30.0
"""Seconds after which something does not happen any more; none of it is measured here."""


@pytest.fixture
def opening(settings: KafkaSettings) -> Iterator[Opening]:
    opened: list[KafkaLog] = []

    def open_one(worker: str = "", **changes: object) -> KafkaLog:
        changed = settings.model_copy(update=changes)
        opened.append(KafkaLog(changed, secret=str, base=Path(), worker=worker))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def topic(opening: Opening) -> str:
    name = fresh(f"kind{os.urandom(4).hex()}")  # a group subscribes to all topics of a kind
    opening().ensure([Topic(name, partitions=PARTITIONS)])
    return name


@contextmanager
def closing(consumer: _Membership, **limit: float) -> Iterator[None]:
    """Close it, which takes a member with a name not out of its group."""
    try:
        yield
    finally:
        consumer.close(**limit)


def all_partitions(topic: str) -> set[Partition]:
    return {(topic, number) for number in range(PARTITIONS)}


def until(holds: Callable[[], bool], seconds: float = PATIENT) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def shared(topic: str, *consumers: KafkaConsumer) -> bool:
    """Tell whether the partitions are spread evenly, each held once."""
    items = [partition for consumer in consumers for partition in consumer.assigned()]
    even = {len(consumer.assigned()) for consumer in consumers} == {PARTITIONS // len(consumers)}
    return even and sorted(items) == sorted(all_partitions(topic))


def test_partitions_are_shared_and_go_back_at_once_when_a_member_leaves(
    opening: Opening, topic: str
) -> None:
    first_consumer = opening().consumer("group", [topic])
    assert first_consumer.assigned() == all_partitions(topic)
    second_consumer = opening(session_seconds=60).consumer("group", [topic])
    until(lambda: shared(topic, first_consumer, second_consumer))
    second_consumer.close()
    until(lambda: shared(topic, first_consumer))


def test_a_named_worker_leaves_at_once_too(opening: Opening, topic: str) -> None:
    first_consumer = opening("one").consumer("group", [topic])
    leaving = opening("two", session_seconds=60)
    second_consumer = leaving.consumer("group", [topic])
    until(lambda: shared(topic, first_consumer, second_consumer))
    leaving.close()
    until(lambda: shared(topic, first_consumer))


WORKER = """
import sys, time
from pathlib import Path
from exchange.log.kafka import KafkaLog
from exchange.settings import KafkaSettings

settings = KafkaSettings.model_validate_json(sys.argv[1])
log = KafkaLog(settings, secret=str, base=Path(), worker=sys.argv[3])
consumer = log.consumer("group", [sys.argv[2]])
while True:
    print(len(consumer.assigned()), flush=True)
    time.sleep(0.1)
"""


@pytest.mark.parametrize("worker", ["", "two"])
def test_the_partitions_of_a_killed_member_move_in_time(
    opening: Opening, settings: KafkaSettings, topic: str, worker: str
) -> None:
    log = opening("one")
    consumer = log.consumer("group", [topic])
    command = [sys.executable, "-c", WORKER, settings.model_dump_json(), topic, worker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != str(PARTITIONS // 2):
            assert process.poll() is None
        until(lambda: len(consumer.assigned()) == PARTITIONS // 2)
        process.send_signal(signal.SIGKILL)
    until(lambda: consumer.assigned() == all_partitions(topic))


def test_a_sleeping_zombie_is_fenced_and_comes_back(
    opening: Opening, settings: KafkaSettings, topic: str
) -> None:
    """Stopped beyond its session, and woken: its partitions are gone, its work is void."""
    sealed = fresh("sealed")
    log = opening()
    log.ensure([Topic(sealed)])
    put(log, topic, b"1")
    code = WORKER.replace("while True:", "").split("    print")[0]
    code += f"""
entries = consumer.poll(max_entries=9, max_bytes=999, timeout=10)
print(len(entries), flush=True)
sys.stdin.readline()
from exchange.log import Fenced, Message
try:
    with log.transaction("zombie") as transaction:
        transaction.append(Message({sealed!r}, b"zombie"))
        transaction.commit(consumer, sys.argv[2], 0, 1)
except Fenced:
    print("fenced", flush=True)
consumer.rewind()
print(consumer.poll(max_entries=9, max_bytes=999, timeout=1), flush=True)
"""
    command = [sys.executable, "-c", code, settings.model_dump_json(), topic, ""]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        process.send_signal(signal.SIGSTOP)
        consumer = opening().consumer("group", [topic])
        until(lambda: consumer.assigned() == all_partitions(topic))
        (entry,) = take(consumer, 1)
        with log.transaction("mine") as transaction:
            transaction.append(Message(sealed, b"mine"))
            transaction.commit(consumer, topic, 0, entry.offset + 1)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "fenced"
        assert process.stdout.readline().strip() == "[]"
    assert values(log.read(sealed, 0, 0, max_entries=9)) == [b"mine"]


def test_work_under_an_older_generation_is_fenced(opening: Opening, topic: str) -> None:
    log = opening()
    put(log, topic, b"1")
    first_consumer = log.consumer("group", [topic])
    (entry,) = take(first_consumer, 1)
    second_consumer = opening().consumer("group", [topic])
    until(lambda: shared(topic, first_consumer, second_consumer))

    def commit() -> None:
        with log.transaction("one") as transaction:
            transaction.commit(first_consumer, topic, 0, entry.offset + 1)

    with pytest.raises(Fenced):
        commit()
    first_consumer.rewind()
    for consumer, name in ((first_consumer, "one"), (second_consumer, "two")):
        for again in consumer.poll(max_entries=1, max_bytes=1):
            with log.transaction(name) as transaction:
                transaction.commit(consumer, topic, 0, again.offset + 1)
    assert log.position("group", topic, 0) == entry.offset + 1


def test_a_position_does_not_go_back_when_a_partition_does(opening: Opening, topic: str) -> None:
    log, other = opening(), opening()
    for number in range(PARTITIONS):  # which of the partitions moves is the group's affair
        put(log, topic, b"1", b"2", b"3", partition=number)
    first_consumer = log.consumer("group", [topic])
    late = [take(first_consumer, 1)[0] for _ in range(PARTITIONS)]
    assert {entry.partition for entry in late} == set(range(PARTITIONS))
    second_consumer = other.consumer("group", [topic])
    until(lambda: shared(topic, first_consumer, second_consumer))
    moved = set()
    for _ in second_consumer.assigned():
        entries = take(second_consumer, 3)
        moved.add(entries[0].partition)
        with other.transaction("two") as transaction:
            transaction.commit(second_consumer, topic, entries[0].partition, entries[-1].offset + 1)
    assert len(moved) == PARTITIONS // 2
    second_consumer.close()
    until(lambda: shared(topic, first_consumer))
    first_consumer.poll(max_entries=1, max_bytes=1)  # takes up the partitions as they are now
    for entry in late:
        if entry.partition in moved:
            with pytest.raises(Fenced), log.transaction("one") as transaction:
                transaction.commit(first_consumer, topic, entry.partition, entry.offset + 1)
            assert log.position("group", topic, entry.partition) > entry.offset + 1


def test_two_consumers_in_one_process_do_not_overtake_each_other(
    opening: Opening, topic: str
) -> None:
    log = opening()
    put(log, topic, b"1", b"2")
    first_consumer, second_consumer = (log.consumer("group", [topic]) for _ in range(2))
    first, second = take(first_consumer, 2), take(second_consumer, 2)
    with log.transaction("one") as transaction:
        transaction.commit(first_consumer, topic, 0, first[-1].offset + 1)

    def late() -> None:
        with log.transaction("two") as transaction:
            transaction.commit(second_consumer, topic, 0, second[0].offset + 1)

    with pytest.raises(Fenced):
        late()
    second_consumer.rewind()
    assert second_consumer.poll(max_entries=1, max_bytes=1) == []
    second_consumer.close()
    assert first_consumer.assigned() == all_partitions(topic)


def test_a_member_that_lost_its_partitions_claims_none(opening: Opening, topic: str) -> None:
    """Else the leader waits for it to give them back, and they are nobody's."""
    consumer = _Membership(**opening("one")._member("group")._config)
    try:
        consumer.subscribe(pattern=kinds({topic}))

        def joined() -> bool:
            consumer.keep(100)
            return len(consumer.assignment()) == PARTITIONS

        until(joined)

        def claimed() -> int:
            ((_, metadata),) = consumer._coordinator.group_protocols()
            return sum(len(partition.partitions) for partition in metadata.owned_partitions)

        assert claimed() == PARTITIONS
        consumer._coordinator.reset_generation()  # as a heartbeat does that comes too late
        consumer._net.run(consumer._coordinator._on_join_prepare_async, -1, "", 1000)
        assert claimed() == 0
    finally:
        consumer.close(timeout_ms=1000)


class MemberDeath(Exception):
    """What ends a member in the middle."""


def test_a_leader_killed_between_two_generations_leaves_no_partition_to_nobody(
    opening: Opening, topic: str
) -> None:
    """It has given partitions back, which go to others with the next generation only.

    It comes back under its name before its session ends, so the group does not move by itself.
    """
    leader = _Membership(**opening("one")._member("group")._config)
    with closing(leader, timeout_ms=1000):
        leader.subscribe(pattern=kinds({topic}))

        def joined() -> bool:
            leader.keep(100)
            return leader.settled() and len(leader.assignment()) == PARTITIONS

        until(joined)
        (assignor,) = leader._coordinator._assignors.values()

        def on() -> bool:
            leader.keep(100)
            return False

        def die(*_: object) -> None:
            raise MemberDeath

        assignor.on_assignment = die
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(opening("two").consumer, "group", [topic])
            with pytest.raises(MemberDeath):
                until(on)
            assert len(leader.assignment()) == PARTITIONS // 2
            again = opening("one").consumer("group", [topic])
            until(lambda: again.assigned() | other.result().assigned() == all_partitions(topic))


def test_a_member_outlives_its_own_shadow(opening: Opening, topic: str) -> None:
    """Another joined under its name and is gone: nobody has to start anything anew."""
    consumer = opening("one").consumer("group", [topic])
    shadow = _Membership(**opening("one")._member("group")._config)
    with closing(shadow, timeout_ms=1000):
        shadow.subscribe(pattern=kinds({topic}))

        def joined() -> bool:
            shadow.keep(100)
            return shadow.settled()

        until(joined)
    with pytest.raises(Fenced):
        until(lambda: bool(consumer.poll(max_entries=1, max_bytes=1)))

    def back() -> bool:
        try:
            return consumer.assigned() == all_partitions(topic)
        except Transient:
            return False

    until(back)


def test_two_processes_with_one_name_are_told(opening: Opening, topic: str) -> None:
    older = opening("same").consumer("group", [topic])
    newer = opening("same").consumer("group", [topic])
    assert newer.assigned() == all_partitions(topic)

    def told() -> bool:
        try:
            older.poll(max_entries=1, max_bytes=1)
        except Misconfigured as error:
            assert "same" in error.what.en  # noqa: PT017 - it comes some time
            return True
        except Transient:  # it might have been a shadow
            pass
        return False

    until(told)


def test_a_new_topic_of_the_kind_is_found(opening: Opening, topic: str) -> None:
    log = opening()
    consumer = log.consumer("group", [topic])
    other = topic + "x"
    opening().ensure([Topic(other)])  # somebody else makes it
    both = log.consumer("group", [topic, other])
    until(lambda: both.assigned() == all_partitions(topic) | {(other, 0)})
    assert consumer.assigned() == all_partitions(topic)


def test_a_new_topic_is_found_while_a_rebalance_takes_its_time(
    opening: Opening, topic: str
) -> None:
    """The group waits for its leader, longer than the member waits in one step."""
    leader = _Membership(**opening("one")._member("group")._config)
    with closing(leader, timeout_ms=1000), ThreadPoolExecutor(1) as pool:
        leader.subscribe(pattern=kinds({topic}))

        def settled() -> bool:
            leader.keep(100)
            return leader.settled()

        until(settled)
        log = opening("two")
        joining = pool.submit(log.consumer, "group", [topic])
        until(lambda: settled() and joining.done() and len(leader.assignment()) == PARTITIONS // 2)
        other = topic + "x"
        opening().ensure([Topic(other, partitions=2)])
        both = pool.submit(log.consumer, "group", [topic, other])
        time.sleep(2.5)  # more than two steps
        until(lambda: settled() and both.done())
        assert any(name == other for name, _ in both.result().assigned())


def test_partitions_added_by_another_process_are_found(opening: Opening, topic: str) -> None:
    consumer = opening().consumer("group", [topic])
    opening().ensure([Topic(topic, partitions=PARTITIONS + 1)])
    until(lambda: (topic, PARTITIONS) in consumer.assigned())


def test_a_position_above_the_end_is_a_topic_made_anew(
    opening: Opening, settings: KafkaSettings, topic: str
) -> None:
    group = fresh("group")
    former = kafka.KafkaConsumer(
        bootstrap_servers=list(settings.bootstrap),
        group_id=f"exchange.{group}",
        enable_auto_commit=False,
    )
    part = TopicPartition(topic, 3)
    former.assign([part])
    former.commit({part: OffsetAndMetadata(87, "", -1)})
    former.close()
    with pytest.raises(Integrity, match=r"3 ends at 0, the position of .* is 87"):
        take(opening().consumer(group, [topic]), 1)


def test_a_member_subscribes_to_kinds() -> None:
    assert kinds(["exchange.raw.a", "exchange.raw.b"]) == r"(exchange\.raw\.[^.]+)$"
    assert kinds(["exchange.sources", "exchange.raw.a"]) == (
        r"(exchange\.raw\.[^.]+|exchange\.sources)$"
    )


def test_closing_ends_every_thread(opening: Opening, topic: str) -> None:
    before = set(threading.enumerate())
    log = opening("worker")
    put(log, topic, b"1")
    consumer = log.consumer("group", [topic])
    take(consumer, 1)
    assert set(threading.enumerate()) > before
    log.close()
    assert set(threading.enumerate()) == before
    log.close()


# positions


def test_a_position_below_what_is_kept_is_an_integrity_error(opening: Opening, topic: str) -> None:
    """Retention by the brokers asks nobody: it is told, never skipped."""
    log = opening()
    put(log, topic, b"1", b"2", b"3")
    running = log.consumer("group", [topic])
    assert len(running.poll(max_entries=1, max_bytes=1, timeout=PATIENCE)) == 1
    running.rewind()
    running.follow()
    log._cluster().drop((topic, 0), 2)
    for reader in (running, opening().consumer("other", [topic])):
        if reader is running:
            with pytest.raises(Integrity, match=r"entries 0 to 1 of .* were dropped"):
                reader.poll(max_entries=1, max_bytes=1)
            reader.rewind()
            with pytest.raises(Integrity, match=r"entries 0 to 1"):
                reader.poll(max_entries=1, max_bytes=1)
        else:  # new to the topic: it never missed anything
            assert values(take(reader, 1)) == [b"3"]


def test_a_position_that_was_not_read_is_refused(opening: Opening, topic: str) -> None:
    log = opening()
    put(log, topic, b"1")
    consumer = log.consumer("group", [topic])
    (entry,) = take(consumer, 1)

    def commit(offset: int) -> None:
        with log.transaction("worker") as transaction:
            transaction.commit(consumer, topic, 0, offset)

    with pytest.raises(Rejected):
        commit(-1)
    with pytest.raises(Fenced):  # as if read before the partition moved away and came back
        commit(entry.offset + 2)


def test_an_open_transaction_of_another_process_holds_nobody_up(
    opening: Opening, settings: KafkaSettings
) -> None:
    """A worker died between its messages and its commit: others are told what is the matter."""
    raw, cursors = fresh("raw"), fresh("cursors")
    log = opening(request_seconds=1)
    log.ensure([Topic(raw), Topic(cursors, compacted=True)])
    dead = KafkaProducer(bootstrap_servers=list(settings.bootstrap), transactional_id=f"dead {raw}")
    dead.init_transactions()
    dead.begin_transaction()
    for topic in (raw, cursors):
        dead.send(topic, b"never", b"key").get(10)
    consumer = log.consumer("group", [raw])
    put(log, raw, b"mine")
    assert consumer.poll(max_entries=9, max_bytes=999) == []
    with pytest.raises(Transient, match="still open"):
        log.latest(cursors, "key")
    dead.abort_transaction()
    dead.close()
    assert values(take(consumer, 1)) == [b"mine"]
    assert log.latest(cursors, "key") is None
