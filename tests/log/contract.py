"""What every driver of the log must do: subclass LogContract and give it an ``opener``.

``opener()`` returns a driver on the test's own medium; called twice it stands for two
processes (or a restart). Topics and groups are named freshly, so that a shared broker serves.
Nothing here assumes that offsets have no gaps, nor how partitions are spread over members.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.log import MAX_VALUE_BYTES, Consumer, Entry, Fenced, Log, Message, Topic

Opener = Callable[[], Log]
PATIENCE = 60.0
"""Seconds to wait for entries that are known to be there."""


class Opening(Protocol):
    """The fixture ``log``'s way to open one more driver, closed after the test."""

    def __call__(self) -> Log: ...


def fresh(kind: str) -> str:
    return f"exchange.{kind}.t{uuid.uuid4().hex[:12]}"


def take(consumer: Consumer, count: int) -> list[Entry]:
    """Poll until ``count`` entries arrived; fails when they do not."""
    entries: list[Entry] = []
    while len(entries) < count:
        more = consumer.poll(
            max_entries=count - len(entries), max_bytes=10_000_000, timeout=PATIENCE
        )
        assert more, f"{len(entries)} of {count} entries arrived"
        entries += more
    return entries


def values(entries: list[Entry]) -> list[bytes]:
    return [entry.value for entry in entries]


def put(log: Log, topic: str, *contents: bytes, owner: str = "writer", partition: int = 0) -> None:
    with log.transaction(owner) as transaction:
        for content in contents:
            transaction.append(Message(topic, content, partition=partition))


class LogContract:
    """The suite."""

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError

    def hand_over(self, consumer: Consumer) -> None:
        """Let other members of the group read what ``consumer`` reads, without its knowing.

        Nothing to do where every member reads all partitions.
        """

    @pytest.fixture
    def opening(self, opener: Opener) -> Iterator[Opening]:
        opened: list[Log] = []

        def open_one() -> Log:
            opened.append(opener())
            return opened[-1]

        yield open_one
        for log in opened:
            log.close()

    @pytest.fixture
    def log(self, opening: Opening) -> Log:
        return opening()

    @pytest.fixture
    def topic(self, log: Log) -> str:
        name = fresh("raw")
        log.ensure([Topic(name)])
        return name

    # topics

    def test_ensure_creates_once_and_lists(self, log: Log) -> None:
        plain, wide, compacted = (
            Topic(fresh("raw")),
            Topic(fresh("raw"), partitions=3),
            Topic(fresh("cursors"), compacted=True),
        )
        log.ensure([plain, wide])
        log.ensure([plain, wide, compacted])
        assert {plain, wide, compacted} <= set(log.topics())
        assert log.topics() == sorted(log.topics(), key=lambda topic: topic.name)
        named = [wide.name, "exchange.nothing", compacted.name, wide.name]
        assert log.topics(named) == sorted([wide, compacted], key=lambda topic: topic.name)
        assert log.topics([]) == []

    def test_ensure_adds_partitions_and_keeps_entries(self, log: Log, topic: str) -> None:
        put(log, topic, b"before")
        log.ensure([Topic(topic, partitions=2)])
        put(log, topic, b"after", partition=1)
        consumer = log.consumer("group", [topic])
        assert set(values(take(consumer, 2))) == {b"before", b"after"}

    def test_ensure_refuses_another_compaction(self, log: Log, topic: str) -> None:
        with pytest.raises(Misconfigured):
            log.ensure([Topic(topic, compacted=True)])

    def test_unknown_topics_are_refused(self, log: Log, topic: str) -> None:
        missing = fresh("raw")
        with pytest.raises(Misconfigured):
            put(log, missing, b"x")
        with pytest.raises(Misconfigured):
            put(log, topic, b"x", partition=1)
        with pytest.raises(Misconfigured):
            log.consumer("group", [missing])
        with pytest.raises(Misconfigured):
            log.bounds(missing, 0)

    def test_bad_topics_and_messages_are_refused(self, topic: str) -> None:
        for name in ("", "行政许可", "a b", "a" * 250):
            with pytest.raises(Misconfigured):
                Topic(name)
        with pytest.raises(Misconfigured):
            Topic("a", partitions=0)
        with pytest.raises(Misconfigured):
            Topic("a", partitions=2, compacted=True)
        with pytest.raises(Rejected):
            Message(topic, bytes(MAX_VALUE_BYTES + 1))

    # append, read

    def test_an_entry_comes_back_as_it_was(self, log: Log, topic: str) -> None:
        headers = {"source": "行政许可", "empty": "", "first_row": "1"}
        value = bytes(range(256)) * 1000
        with log.transaction("writer") as transaction:
            transaction.append(Message(topic, value, key="键", headers=headers))
        (entry,) = take(log.consumer("group", [topic]), 1)
        assert (entry.topic, entry.partition, entry.key) == (topic, 0, "键")
        assert (entry.value, dict(entry.headers)) == (value, headers)
        assert log.read(topic, 0, entry.offset, max_entries=1) == [entry]

    def test_the_largest_and_the_empty_value_pass(self, log: Log, topic: str) -> None:
        contents = (bytes(MAX_VALUE_BYTES), b"")
        put(log, topic, *contents)
        assert values(take(log.consumer("group", [topic]), 2)) == list(contents)

    def test_order_and_times_rise(self, log: Log, topic: str) -> None:
        for number in range(0, 30, 3):
            put(log, topic, *(str(n).encode() for n in range(number, number + 3)))
        entries = take(log.consumer("group", [topic]), 30)
        assert values(entries) == [str(n).encode() for n in range(30)]
        offsets = [entry.offset for entry in entries]
        times = [entry.time for entry in entries]
        assert offsets == sorted(set(offsets))
        assert times == sorted(times)

    def test_bounds_and_read_by_address(self, log: Log, topic: str) -> None:
        assert log.bounds(topic, 0) == (0, 0)
        put(log, topic, b"a", b"b", b"c")
        first, end = log.bounds(topic, 0)
        everything = log.read(topic, 0, first, max_entries=10)
        assert values(everything) == [b"a", b"b", b"c"]
        assert everything[0].offset == first
        assert everything[-1].offset < end
        assert log.read(topic, 0, everything[1].offset, max_entries=1) == everything[1:2]
        assert log.read(topic, 0, end, max_entries=10) == []

    def test_read_beyond_the_end_is_an_integrity_error(self, log: Log, topic: str) -> None:
        put(log, topic, b"a")
        with pytest.raises(Integrity):
            log.read(topic, 0, log.bounds(topic, 0)[1] + 1, max_entries=1)

    # transactions

    def test_nothing_is_visible_before_the_block_ends(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        other = opening()
        with log.transaction("writer") as transaction:
            transaction.append(Message(topic, b"a"))
            assert other.consumer("group", [topic]).poll(max_entries=1, max_bytes=10) == []
            assert other.read(topic, 0, 0, max_entries=1) == []
        assert values(take(other.consumer("group", [topic]), 1)) == [b"a"]

    def test_an_exception_leaves_nothing(self, log: Log, topic: str) -> None:
        second = fresh("sealed")
        log.ensure([Topic(second)])
        put(log, topic, b"in")
        consumer = log.consumer("group", [topic])
        (entry,) = take(consumer, 1)

        def work() -> None:
            with log.transaction("worker") as transaction:
                transaction.append(Message(second, b"out"))
                transaction.commit(consumer, topic, 0, entry.offset + 1)
                raise KeyError

        with pytest.raises(KeyError):
            work()
        assert log.read(second, 0, log.bounds(second, 0)[0], max_entries=1) == []
        assert log.position("group", topic, 0) == entry.offset
        consumer.rewind()
        assert take(consumer, 1) == [entry]

    def test_an_empty_transaction_is_nothing(self, log: Log, topic: str) -> None:
        with log.transaction("writer"):
            pass
        assert log.bounds(topic, 0) == (0, 0)

    def test_read_process_write_is_one_transaction(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        sealed = fresh("sealed")
        log.ensure([Topic(sealed)])
        put(log, topic, b"1", b"2", b"3")
        consumer = log.consumer("group", [topic])
        entries = take(consumer, 3)
        with log.transaction("worker") as transaction:
            for entry in entries:
                transaction.append(Message(sealed, entry.value * 2))
            transaction.commit(consumer, topic, 0, entries[-1].offset + 1)
        consumer.close()
        again = opening()
        assert values(take(again.consumer("other", [sealed]), 3)) == [b"11", b"22", b"33"]
        assert again.position("group", topic, 0) == entries[-1].offset + 1
        assert again.consumer("group", [topic]).poll(max_entries=1, max_bytes=1) == []

    def test_one_transaction_moves_each_group_by_its_own_partitions(
        self, log: Log, topic: str
    ) -> None:
        other = fresh("other")
        log.ensure([Topic(other)])
        put(log, topic, b"1", b"2", b"3")
        put(log, other, b"4")
        first_consumer, second_consumer = (
            log.consumer("one", [topic]),
            log.consumer("two", [topic, other]),
        )
        take(first_consumer, 3)
        take(second_consumer, 4)
        with log.transaction("worker") as transaction:
            transaction.append(Message(other, b"5"))
            transaction.commit(first_consumer, topic, 0, 3)
            transaction.commit(second_consumer, other, 0, 1)
        assert log.position("one", topic, 0) == 3
        assert log.position("two", topic, 0) == 0
        assert log.position("two", other, 0) == 1

    def test_a_second_worker_on_old_entries_is_fenced(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        """The position moved under a worker: nothing of its transaction may be seen."""
        sealed = fresh("sealed")
        log.ensure([Topic(sealed)])
        put(log, topic, b"1", b"2")
        slow = log.consumer("group", [topic])
        entries = take(slow, 2)
        slow_process = log.transaction("slow")
        waiting = slow_process.__enter__()
        waiting.append(Message(sealed, b"slow"))

        self.hand_over(slow)
        fast_log = opening()
        fast = fast_log.consumer("group", [topic])
        mine = take(fast, 2)
        with fast_log.transaction("fast") as transaction:
            transaction.append(Message(sealed, b"fast"))
            transaction.commit(fast, topic, 0, mine[-1].offset + 1)

        def late() -> None:
            waiting.commit(slow, topic, 0, entries[-1].offset + 1)
            slow_process.__exit__(None, None, None)

        with pytest.raises(Fenced):
            late()
        reader = fast_log.consumer("reader", [sealed])
        assert values(take(reader, 1)) == [b"fast"]
        assert reader.poll(max_entries=1, max_bytes=100, timeout=0.05) == []
        slow.rewind()
        assert slow.poll(max_entries=1, max_bytes=100, timeout=0.05) == []

    def test_a_newer_process_fences_an_older_owner(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        """A source without consumer position is guarded by its owner alone."""
        put(log, topic, b"old", owner="pull.a")
        newer = opening()
        put(newer, topic, b"new", owner="pull.a")
        with pytest.raises(Fenced):
            put(log, topic, b"zombie", owner="pull.a")
        put(log, topic, b"other", owner="pull.b")
        assert values(take(log.consumer("group", [topic]), 3)) == [b"old", b"new", b"other"]
        put(log, topic, b"again", owner="pull.a")
        with pytest.raises(Fenced):
            put(newer, topic, b"zombie", owner="pull.a")

    def test_a_claim_fences_and_tells_what_is_stale(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        assert log.claim("pull.a")
        assert not log.claim("pull.a")
        newer = opening()
        assert newer.claim("pull.a")
        with pytest.raises(Fenced):
            put(log, topic, b"zombie", owner="pull.a")
        put(newer, topic, b"new", owner="pull.a")
        assert log.claim("pull.a")
        put(log, topic, b"again", owner="pull.a")
        assert values(take(log.consumer("group", [topic]), 2)) == [b"new", b"again"]

    # consumers

    def test_a_partition_can_be_left_alone(self, log: Log) -> None:
        topic = fresh("raw")
        log.ensure([Topic(topic, partitions=2)])
        for partition in range(2):
            put(log, topic, str(partition).encode(), partition=partition)
        consumer = log.consumer("group", [topic])
        assert consumer.assigned() == {(topic, 0), (topic, 1)}
        entries = consumer.poll(max_entries=5, max_bytes=100, timeout=PATIENCE, skip={(topic, 0)})
        assert values(entries) == [b"1"]
        assert consumer.poll(max_entries=5, max_bytes=100, skip={(topic, 0)}) == []
        assert values(take(consumer, 1)) == [b"0"]

    def test_each_group_reads_everything(self, log: Log, topic: str) -> None:
        put(log, topic, b"a", b"b")
        first_consumer, second_consumer = log.consumer("one", [topic]), log.consumer("two", [topic])
        first = take(first_consumer, 2)
        with log.transaction("one") as transaction:
            transaction.commit(first_consumer, topic, 0, first[-1].offset + 1)
        assert values(take(second_consumer, 2)) == [b"a", b"b"]
        assert log.position("two", topic, 0) == 0

    def test_poll_respects_its_limits_but_returns_one(self, log: Log, topic: str) -> None:
        put(log, topic, *(bytes(100) for _ in range(5)))
        consumer = log.consumer("group", [topic])
        entries = consumer.poll(max_entries=2, max_bytes=10_000, timeout=PATIENCE)
        assert len(entries) == 2
        entries = consumer.poll(max_entries=5, max_bytes=250, timeout=PATIENCE)
        assert 1 <= len(entries) <= 2
        entries = consumer.poll(max_entries=5, max_bytes=10, timeout=PATIENCE)
        assert len(entries) == 1

    def test_poll_returns_one_partition_and_serves_all(self, log: Log) -> None:
        topic, other = fresh("raw"), fresh("raw")
        log.ensure([Topic(topic, partitions=3), Topic(other)])
        for partition in range(3):
            put(log, topic, *[str(partition).encode()] * 4, partition=partition)
        put(log, other, *[b"other"] * 4)
        consumer = log.consumer("group", [topic, other])
        counts: dict[tuple[str, int], int] = {}
        while sum(counts.values()) < 16:
            entries = consumer.poll(max_entries=2, max_bytes=1000, timeout=PATIENCE)
            assert entries
            (place,) = {(entry.topic, entry.partition) for entry in entries}
            counts[place] = counts.get(place, 0) + len(entries)
        assert counts == {(topic, 0): 4, (topic, 1): 4, (topic, 2): 4, (other, 0): 4}

    def test_poll_wakes_up_for_an_entry(self, log: Log, topic: str) -> None:
        consumer = log.consumer("group", [topic])
        assert consumer.poll(max_entries=1, max_bytes=1, timeout=0.02) == []
        late = threading.Timer(0.1, put, (log, topic, b"late"))
        late.start()
        assert values(take(consumer, 1)) == [b"late"]
        late.join()

    def test_an_uncommitted_entry_comes_again(self, log: Log, opening: Opening, topic: str) -> None:
        put(log, topic, b"a", b"b", b"c")
        consumer = log.consumer("group", [topic])
        entries = take(consumer, 3)
        with log.transaction("worker") as transaction:
            transaction.commit(consumer, topic, 0, entries[0].offset + 1)
        assert consumer.poll(max_entries=3, max_bytes=100, timeout=0.02) == []
        consumer.rewind()
        assert take(consumer, 2) == entries[1:]
        consumer.close()
        assert take(opening().consumer("group", [topic]), 2) == entries[1:]

    def test_commits_in_a_row_without_polling(self, log: Log, topic: str) -> None:
        put(log, topic, b"a", b"b")
        consumer = log.consumer("group", [topic])
        for entry in take(consumer, 2):
            with log.transaction("worker") as transaction:
                transaction.commit(consumer, topic, 0, entry.offset + 1)
            assert log.position("group", topic, 0) == entry.offset + 1

    def test_many_workers_of_one_group_process_each_entry_once(
        self, opening: Opening, log: Log, topic: str
    ) -> None:
        sealed, count, workers = fresh("sealed"), 40, 3
        log.ensure([Topic(sealed)])
        put(log, topic, *(str(n).encode() for n in range(count)))
        end = log.bounds(topic, 0)[1]
        failures: list[BaseException] = []

        def work(name: str) -> None:
            mine = opening()
            consumer = mine.consumer("group", [topic])
            while mine.position("group", topic, 0) < end:
                entries = consumer.poll(max_entries=3, max_bytes=1000, timeout=0.05)
                if not entries:
                    continue
                try:
                    with mine.transaction(name) as transaction:
                        for entry in entries:
                            transaction.append(Message(sealed, entry.value))
                        transaction.commit(consumer, topic, 0, entries[-1].offset + 1)
                except Fenced:
                    consumer.rewind()
            consumer.close()

        def guarded(name: str) -> None:
            try:
                work(name)
            except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(f"w{n}",)) for n in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        got = values(take(log.consumer("reader", [sealed]), count))
        assert got == [str(n).encode() for n in range(count)]
        assert log.consumer("reader", [sealed]).poll(max_entries=1, max_bytes=1) != []
        assert len(log.read(sealed, 0, 0, max_entries=1000)) == count

    def test_threads_share_one_driver(self, log: Log, topic: str) -> None:
        count = 20

        def write(name: str) -> None:
            for number in range(count):
                put(log, topic, f"{name} {number}".encode(), owner=name)

        names = ("a", "b", "c")
        threads = [threading.Thread(target=write, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        entries = take(log.consumer("group", [topic]), count * len(names))
        for thread in threads:
            thread.join()
        for name in names:
            items = [value for value in values(entries) if value.startswith(name.encode())]
            assert items == [f"{name} {number}".encode() for number in range(count)]

    # compacted topics

    def test_latest_by_key(self, log: Log, opening: Opening) -> None:
        cursors = fresh("cursors")
        log.ensure([Topic(cursors, compacted=True)])
        assert log.latest(cursors, "a") is None
        for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"")):
            with log.transaction("writer") as transaction:
                transaction.append(Message(cursors, value, key=key, headers={"k": key}))
        for item in (log, opening()):
            newest = {key: item.latest(cursors, key) for key in ("a", "b", "c")}
            assert {key: entry and entry.value for key, entry in newest.items()} == {
                "a": b"3",
                "b": b"2",
                "c": b"",
            }
            assert all(entry and entry.headers == {"k": key} for key, entry in newest.items())
            assert item.latest(cursors, "d") is None

    def test_latest_moves_only_with_its_transaction(self, log: Log, topic: str) -> None:
        cursors = fresh("cursors")
        log.ensure([Topic(cursors, compacted=True)])

        def pull(cursor: bytes, *, fail: bool) -> None:
            with log.transaction("pull") as transaction:
                transaction.append(Message(topic, b"rows up to " + cursor))
                transaction.append(Message(cursors, cursor, key="source"))
                if fail:
                    raise KeyError

        pull(b"1", fail=False)
        with pytest.raises(KeyError):
            pull(b"2", fail=True)
        newest = log.latest(cursors, "source")
        assert newest is not None
        assert newest.value == b"1"
        assert values(log.read(topic, 0, 0, max_entries=10)) == [b"rows up to 1"]

    def test_a_consumer_of_a_compacted_topic_ends_with_the_newest(self, log: Log) -> None:
        cursors = fresh("cursors")
        log.ensure([Topic(cursors, compacted=True)])
        for number in range(20):
            with log.transaction("writer") as transaction:
                transaction.append(Message(cursors, str(number).encode(), key=str(number % 3)))
        consumer = log.consumer("group", [cursors])
        newest: dict[str, bytes] = {}
        while newest != {"0": b"18", "1": b"19", "2": b"17"}:
            for entry in take(consumer, 1):
                newest[entry.key] = entry.value

    def test_compacted_topics_refuse_what_loses_their_newest(self, log: Log, topic: str) -> None:
        cursors = fresh("cursors")
        log.ensure([Topic(cursors, compacted=True)])
        with pytest.raises(Misconfigured):
            put(log, cursors, b"no key")
        with pytest.raises(Misconfigured):
            log.retain(cursors, 0, 0)
        with pytest.raises(Misconfigured):
            log.latest(topic, "a")

    # retention

    def test_retention_drops_what_everybody_has_read(
        self, log: Log, opening: Opening, topic: str
    ) -> None:
        put(log, topic, b"a", b"b", b"c")
        consumer = log.consumer("group", [topic])
        entries = take(consumer, 3)
        with log.transaction("worker") as transaction:
            transaction.commit(consumer, topic, 0, entries[1].offset + 1)
        log.retain(topic, 0, entries[1].offset + 1)
        for item in (log, opening()):
            assert item.bounds(topic, 0)[0] == entries[1].offset + 1
            with pytest.raises(Integrity):
                item.read(topic, 0, entries[0].offset, max_entries=1)
            assert item.read(topic, 0, entries[2].offset, max_entries=1) == entries[2:]
            assert item.position("newcomer", topic, 0) == entries[1].offset + 1
        assert take(opening().consumer("newcomer", [topic]), 1) == entries[2:]
        with pytest.raises(Integrity, match=f"{topic}/0|model"):
            take(opening().consumer("complete", [topic], complete=True), 1)
        log.retain(topic, 0, 0)
        assert log.bounds(topic, 0)[0] == entries[1].offset + 1

    def test_no_group_is_behind_what_all_have_read(self, log: Log, topic: str) -> None:
        put(log, topic, b"a")
        end = log.bounds(topic, 0)[1]
        assert log.slowest(topic, 0) == ("", end)
        consumer = log.consumer("group", [topic])
        (entry,) = take(consumer, 1)
        with log.transaction("worker") as transaction:
            transaction.commit(consumer, topic, 0, entry.offset + 1)
        assert log.slowest(topic, 0) == ("", end)

    def test_retention_waits_for_every_group(self, log: Log, topic: str) -> None:
        put(log, topic, b"a", b"b")
        log.consumer("never committed", [topic]).close()
        fast = log.consumer("fast", [topic])
        entries = take(fast, 2)
        with log.transaction("worker") as transaction:
            transaction.commit(fast, topic, 0, entries[-1].offset + 1)
        group, position = log.slowest(topic, 0)
        assert group.endswith("never committed")
        assert position == entries[0].offset
        with pytest.raises(Rejected):
            log.retain(topic, 0, entries[0].offset + 1)
        assert values(log.read(topic, 0, 0, max_entries=2)) == [b"a", b"b"]

    def test_retention_refuses_the_unwritten(self, log: Log, topic: str) -> None:
        put(log, topic, b"a")
        with pytest.raises(Rejected):
            log.retain(topic, 0, log.bounds(topic, 0)[1] + 1)

    # restart

    def test_everything_survives_a_restart(self, opener: Opener) -> None:
        topic, cursors = fresh("raw"), fresh("cursors")
        log = opener()
        log.ensure([Topic(topic, partitions=2), Topic(cursors, compacted=True)])
        put(log, topic, b"a", b"b", partition=1)
        with log.transaction("writer") as transaction:
            transaction.append(Message(cursors, b"7", key="k"))
        consumer = log.consumer("group", [topic])
        entries = take(consumer, 2)
        with log.transaction("worker") as transaction:
            transaction.commit(consumer, topic, 1, entries[0].offset + 1)
        consumer.close()
        log.close()

        log = opener()
        assert Topic(topic, partitions=2) in log.topics()
        newest = log.latest(cursors, "k")
        assert newest is not None
        assert newest.value == b"7"
        assert take(log.consumer("group", [topic]), 1) == entries[1:]
        put(log, topic, b"c", partition=1)
        assert values(log.read(topic, 1, entries[0].offset, max_entries=9)) == [b"a", b"b", b"c"]
        log.close()
