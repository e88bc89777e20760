"""The log on Apache Kafka: the same promises on a cluster, grown by adding workers (D4).

In: messages in transactions, each sent as a whole when its block ends. Out: committed entries.
Order and exactly-once hold per partition: the group gives a partition to one member
at a time, and the broker refuses what a member of an older generation still writes.

Four connections of a kind: :mod:`cluster` asks, :mod:`group` keeps the place in a group,
:mod:`reader` reads what that place gives, :mod:`producers` write. Names on the cluster begin
with ``exchange.``. This package is the only one that imports kafka-python, and every error of
it passes :func:`kafka_errors.map_errors`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from kafka.errors import KafkaTimeoutError, NotEnoughReplicasError

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.kafka_client import opened, probe
from exchange.log import Consumer, Entry, Message, Topic
from exchange.log.kafka.client import PREFIX, connection
from exchange.log.kafka.cluster import FIRST, NEWS_SECONDS, ClusterAdmin
from exchange.log.kafka.ends import Ends
from exchange.log.kafka.group import Member
from exchange.log.kafka.health import Health, health
from exchange.log.kafka.kafka_errors import map_errors
from exchange.log.kafka.producers import Positions, Producers, Record
from exchange.log.kafka.reader import LOOK_SECONDS, SMALL_FETCH, KafkaConsumer
from exchange.log.kafka.table import Table
from exchange.log.kafka.topics import Drift, TopicAdmin
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from exchange.log import Partition
    from exchange.settings import KafkaSettings

__all__ = ["Drift", "Health", "KafkaLog", "KafkaTransaction"]

_NEWS_SECONDS, _LOOK_SECONDS = 2.0, 0.1
"""How long a topic may be unknown to a broker after another has made it, and how often to look."""


class KafkaLog:
    """A :class:`exchange.log.Log` on a cluster; nothing is connected before it is needed."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        secret: Callable[[str], str],
        base: Path,
        worker: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Check the settings.

        ``secret`` reads a reference, ``base`` is the folder of relative certificate paths.
        ``worker`` names this process among all workers and is the same after a restart: its
        partitions wait for it as long as a session. Without it every process is new to its groups.
        """
        logging.getLogger("kafka").addHandler(logging.NullHandler())  # our errors tell it all
        self._settings = settings
        self._worker = "".join(c if c.isascii() and c.isalnum() else "-" for c in worker)
        self._config = connection(settings, secret=secret, base=base, worker=self._worker)
        self._monotonic = monotonic
        self._sleep = sleep
        self._topics = TopicAdmin(settings)
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._connected: ClusterAdmin | None = None
        self._known: dict[str, Topic] = {}
        self._tables: dict[str, Table] = {}
        self._members: dict[str, tuple[Member, list[KafkaConsumer]]] = {}
        self._ends = Ends(self._cluster, monotonic=monotonic, sleep=sleep)
        self._producers = Producers(
            self._config,
            transaction_seconds=settings.transaction_seconds,
            request_seconds=settings.request_seconds,
            monotonic=monotonic,
        )

    # --- topics ---------------------------------------------------------------------------

    def ensure(self, topics: Sequence[Topic]) -> None:
        """Create the topics and partitions that are missing; refuses to change compaction."""
        with map_errors(Text("建立主题", "creating topics")):
            if not self._topics.ensure(self._cluster(), topics):
                return
        with self._lock:
            for topic in topics:
                self._known.pop(topic.name, None)
            for member, _ in self._members.values():
                member.look()

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        """List the topics that there are, all or those of ``names``, by name."""
        with map_errors(Text("列出主题", "listing topics")):
            return self._topics.known(self._cluster(), names)

    def drift(self, topics: Sequence[Topic]) -> list[Drift]:
        """Tell where the cluster's topics are not as they should be."""
        with map_errors(Text("比较主题", "comparing topics")):
            return self._topics.drift(self._cluster(), topics)

    def repair(self, topics: Sequence[Topic]) -> list[Drift]:
        """Put right what can be; returns what is left."""
        deadline = self._monotonic() + NEWS_SECONDS
        with map_errors(Text("修正主题", "altering topics")):
            wrong = self._topics.repair(self._cluster(), topics)
            while True:  # until every broker knows
                left = self._topics.drift(self._cluster(), topics)
                if not {(one.topic, one.setting) for one in left} & wrong:
                    return left
                if self._monotonic() >= deadline:
                    return left
                self._sleep(LOOK_SECONDS)

    def health(self, topics: Sequence[Topic]) -> Health:
        """Tell how the cluster and these topics stand, and what we may do with them."""
        with map_errors(Text("查询集群", "asking the cluster")):
            return health(self._cluster(), self._settings, topics)

    # --- writing --------------------------------------------------------------------------

    @contextmanager
    def transaction(self, owner: str) -> Iterator[KafkaTransaction]:
        """Open a transaction of ``owner``; it is sent and committed when the block ends."""
        self.claim(owner)
        with self._producers.using(owner):
            transaction = KafkaTransaction(self._topic)
            yield transaction
            positions = [
                (consumer.moving(offsets).member, offsets)
                for consumer, offsets in transaction.positions.items()
            ]
            with map_errors(Text("提交事务", "committing a transaction")):
                if transaction.records:
                    self._send(owner, transaction.records, positions)
                else:
                    for member, offsets in positions:
                        self._cluster().commit(member, offsets)
        for consumer, offsets in transaction.positions.items():
            consumer.moved(offsets)
        self._notify()

    def claim(self, owner: str) -> bool:
        """Make ``owner`` ours; True when it was not."""
        name = PREFIX + owner
        with map_errors(Text(f"登记事务所有者 {name}", f"registering transactional id {name}")):
            self._cluster()  # its failure names the addresses
            return self._producers.claim(owner)

    # --- reading --------------------------------------------------------------------------

    def consumer(
        self, group: str, topics: Sequence[str], *, complete: bool = False
    ) -> KafkaConsumer:
        """Join a consumer group; retention waits for the group from now on."""
        for topic in topics:
            self._topic(topic)
        cluster = self._cluster()
        with self._lock:
            if group not in self._members:
                self._members[group] = (self._member(group), [])
            member, consumers = self._members[group]
            consumer = KafkaConsumer(
                member,
                cluster,
                self._ends,
                topics,
                complete=complete,
                monotonic=self._monotonic,
                wait=self._wait,
                closed=partial(self._closed, group),
            )
            consumers.append(consumer)
        try:
            with map_errors(Text(f"加入消费组 {group}", f"joining group {group}")):
                member.join(topics)
                consumer.follow()
        except BaseException:
            consumer.close()
            raise
        return consumer

    def read(self, topic: str, partition: int, offset: int, *, max_entries: int) -> list[Entry]:
        """Read committed entries from an address on; ``[]`` at the end."""
        address = self._address(topic, partition)
        with map_errors(Text(f"读取 {topic}/{partition}", f"reading {topic}/{partition}")):
            cluster = self._cluster()
            first = cluster.offsets([address], FIRST)[address]
            end = self._ends.of([address], fresh=True)[address]
            entries: list[Entry] = []
            at = offset
            while first <= at < end and len(entries) < max_entries:
                found = cluster.fetch(address, at, SMALL_FETCH)
                if found.next == at:
                    break
                entries += found.entries[: max_entries - len(entries)]
                at = found.next
            if entries:
                return entries
            first, end = self._ends.after_last(address)
        if not first <= offset <= end:
            raise Integrity(
                Text(
                    f"{topic}/{partition} 没有偏移量 {offset}(现存 {first} 至 {end})",
                    f"{topic}/{partition} has no offset {offset}: it keeps {first} to {end}",
                ),
                hint=Text(
                    "核对日志是否被替换、清理或恢复过旧备份",
                    "check whether the log was replaced, retained or restored from a backup",
                ),
            )
        return []

    def latest(self, topic: str, key: str) -> Entry | None:
        """Return the newest committed entry with this key of a compacted topic, if any."""
        if not self._topic(topic).compacted:
            raise Misconfigured(
                Text(f"主题「{topic}」不是压缩主题", f"topic {topic} is not compacted"),
                hint=Text("只有压缩主题能按键取最新", "only compacted topics have a newest"),
            )
        with self._lock:
            if topic not in self._tables:
                self._tables[topic] = Table(
                    topic,
                    self._cluster,
                    monotonic=self._monotonic,
                    sleep=self._sleep,
                    patience=self._settings.request_seconds,
                )
            table = self._tables[topic]
        with map_errors(Text(f"读取 {topic}", f"reading {topic}")):
            return table.latest(key)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first kept offset, and the one after the last committed entry."""
        address = self._address(topic, partition)
        with map_errors(Text(f"读取 {topic}/{partition}", f"reading {topic}/{partition}")):
            return self._ends.after_last(address)

    def position(self, group: str, topic: str, partition: int) -> int:
        """Return the committed next offset of a group (the first kept one when none)."""
        address = self._address(topic, partition)
        with map_errors(Text(f"读取 {group} 的位置", f"reading the position of {group}")):
            cluster = self._cluster()
            found = cluster.committed(PREFIX + group, [address])
            return (
                found[address] if address in found else cluster.offsets([address], FIRST)[address]
            )

    def slowest(self, topic: str, partition: int) -> tuple[str, int]:
        """Return the group that is furthest behind, and its position; "" and the end for none."""
        address = self._address(topic, partition)
        with map_errors(Text(f"读取 {topic}/{partition}", f"reading {topic}/{partition}")):
            return self._slowest(self._cluster(), address)

    def retain(self, topic: str, partition: int, before: int) -> None:
        """Drop entries below offset ``before``; refused past any group's position."""
        address = self._address(topic, partition)
        if self._topic(topic).compacted:
            raise Misconfigured(
                Text(f"压缩主题「{topic}」不按偏移量清理", f"topic {topic} is compacted by key"),
                hint=Text("不要对它设置保留期", "do not set a retention for it"),
            )
        with map_errors(Text(f"清理 {topic}/{partition}", f"dropping from {topic}/{partition}")):
            cluster = self._cluster()
            first, _ = self._ends.after_last(address)
            who, limit = self._slowest(cluster, address)
            if before > limit:
                raise Rejected(
                    Text(
                        f"{topic}/{partition} 不能清理到 {before}:「{who or '末尾'}」在 {limit}",
                        f"{topic}/{partition} cannot drop up to {before}:"
                        f" {who or 'the end'} is at {limit}",
                    ),
                    hint=Text("等该消费组处理完再清理", "let that group catch up first"),
                )
            if before > first:
                cluster.drop(address, before)

    def close(self) -> None:
        """Leave all groups and close all connections."""
        with self._lock:
            members = [member for member, _ in self._members.values()]
            self._members.clear()
        for member in members:
            member.close()
        self._producers.close()
        with self._lock:
            if self._connected is not None:
                self._connected.close()
                self._connected = None

    # --- inside ---------------------------------------------------------------------------

    def _slowest(self, cluster: ClusterAdmin, address: Partition) -> tuple[str, int]:
        first, limit = self._ends.after_last(address)
        name = ""
        for group in cluster.groups():
            if not group.startswith(PREFIX):
                continue
            positions = cluster.committed(group)
            if any(topic == address[0] for topic, _ in positions):
                position = positions.get(address, first)
                if position < limit:
                    name, limit = group, position
        return name, limit

    def _cluster(self) -> ClusterAdmin:
        """Connect on first use; raises Transient naming the addresses when nobody answers."""
        with self._lock:
            if self._connected is None:
                addresses = ", ".join(self._settings.bootstrap)
                with map_errors(Text(f"连接 {addresses}", f"connecting to {addresses}")):
                    probe.check(
                        self._settings.bootstrap,
                        self._config,
                        self._settings.request_seconds,
                        section="log.kafka",
                    )
                    self._connected = opened(
                        ClusterAdmin, monotonic=self._monotonic, **self._config
                    )
            return self._connected

    def _send(self, owner: str, records: Sequence[Record], positions: Sequence[Positions]) -> None:
        """Write; a transaction that took too long says so when replicas were missing."""
        try:
            self._ends.wrote(self._producers.send(owner, records, positions))
        except KafkaTimeoutError as error:
            rows = self._cluster().describe_topics(sorted({record.topic for record in records}))
            few = [
                f"{row['name']}/{part['partition_index']}"
                for row in rows
                for part in row["partitions"]
                if len(part["isr_nodes"]) < self._settings.min_insync
            ]
            if few:
                raise NotEnoughReplicasError(", ".join(few)) from error
            raise

    def _member(self, group: str) -> Member:
        return Member(
            PREFIX + group,
            self._config,
            worker=self._worker,
            session_seconds=self._settings.session_seconds,
            request_seconds=self._settings.request_seconds,
            changed=self._notify,
            leave=self._cluster().expel,
            names=self._cluster().names,
        )

    def _closed(self, group: str, consumer: KafkaConsumer) -> None:
        """Leave a group with its last consumer."""
        with self._lock:
            member, consumers = self._members.get(group, (None, []))
            if consumer not in consumers:
                return
            consumers.remove(consumer)
            if consumers or member is None:
                return
            del self._members[group]
        member.close()

    def _wait(self, seconds: float) -> None:
        with self._news:
            self._news.wait(seconds)

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()

    def _topic(self, name: str, partition: int = 0) -> Topic:
        """Find a topic that has ``partition``; raises Misconfigured when there is none.

        One that was just made may be news to the broker that is asked: it gets a moment.
        """
        found = self._known.get(name)
        deadline = self._monotonic() + _NEWS_SECONDS
        while found is None or found.partitions <= partition:
            with map_errors(Text(f"查找主题 {name}", f"looking for topic {name}")):
                topics = self._topics.known(self._cluster(), [name])
            if topics and topics[0].partitions > partition:
                found = self._known[name] = topics[0]
            elif self._monotonic() < deadline:
                self._sleep(_LOOK_SECONDS)
            else:
                raise Misconfigured(
                    Text(
                        f"主题分区 {name}/{partition} 不存在",
                        f"there is no {name}/{partition} in the log",
                    ),
                    hint=Text(
                        "先建立主题：exchange catalog apply",
                        "make the topic first: `exchange catalog apply`",
                    ),
                )
        return found

    def _address(self, topic: str, partition: int) -> Partition:
        self._topic(topic, partition)
        return topic, partition


class KafkaTransaction:
    """What a worker wants to become visible together: kept here until the block ends."""

    def __init__(self, find: Callable[[str, int], Topic]) -> None:
        self._find = find
        self.records: list[Record] = []
        self.positions: dict[KafkaConsumer, dict[Partition, int]] = {}

    def append(self, message: Message) -> None:
        """Append a message when the block ends."""
        if self._find(message.topic, message.partition).compacted and not message.key:
            raise Misconfigured(
                Text(
                    f"压缩主题「{message.topic}」的消息必须有键",
                    f"a message of compacted topic {message.topic} needs a key",
                ),
                hint=Text("给出键", "give it a key"),
            )
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        self.records.append(
            Record(
                message.topic,
                message.partition,
                message.key.encode() or None,
                message.value,
                headers,
            )
        )

    def put(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Append a record for readers outside: its key decides the partition, as in Java.

        ``None`` is a tombstone: compaction forgets the key.
        """
        self.records.append(Record(topic, None, key, value, []))

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        """Set the group's next offset to read when the block ends."""
        if not isinstance(consumer, KafkaConsumer):
            message = "the consumer belongs to another driver"
            raise TypeError(message)
        self._find(topic, partition)
        consumer.check((topic, partition), offset)
        self.positions.setdefault(consumer, {})[topic, partition] = offset
