"""The log in memory, as simple as it can be: what the real drivers are compared with."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.log import Consumer, Entry, Fenced, Message, Partition, Topic
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

WHAT = Text("模型", "model")
Place = Partition


@dataclass
class Medium:
    """What several drivers share and what survives them."""

    topics: dict[str, Topic] = field(default_factory=dict)
    entries: dict[Place, list[Entry]] = field(default_factory=dict)
    first: dict[Place, int] = field(default_factory=dict)
    positions: dict[tuple[str, Place], int] = field(default_factory=dict)
    owners: dict[str, object] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class MemoryLog:
    def __init__(self, medium: Medium, *, clock: Callable[[], datetime]) -> None:
        self.medium = medium
        self.clock = clock
        self.owned: dict[str, object] = {}

    def ensure(self, topics: Sequence[Topic]) -> None:
        medium = self.medium
        with medium.lock:
            for topic in topics:
                answer = medium.topics.get(topic.name, topic)
                if answer.compacted != topic.compacted:
                    raise Misconfigured(WHAT, hint=WHAT)
                if topic.partitions >= answer.partitions:
                    medium.topics[topic.name] = topic
                groups = {group for group, place in medium.positions if place[0] == topic.name}
                for partition in range(topic.partitions):
                    place = (topic.name, partition)
                    medium.entries.setdefault(place, [])
                    medium.first.setdefault(place, 0)
                    for group in groups:
                        medium.positions.setdefault((group, place), 0)

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        known = [self.medium.topics[name] for name in sorted(self.medium.topics)]
        return [topic for topic in known if names is None or topic.name in names]

    @contextmanager
    def transaction(self, owner: str) -> Iterator[MemoryTransaction]:
        medium = self.medium
        self.claim(owner)
        mine = self.owned[owner]
        transaction = MemoryTransaction(self)
        yield transaction
        with medium.lock:
            if not transaction.messages and not transaction.positions:
                return
            if medium.owners[owner] is not mine:
                self.owned.pop(owner, None)
                raise Fenced(WHAT, hint=WHAT)
            for (group, place), (consumer, _) in transaction.positions.items():
                if medium.positions[group, place] != consumer.committed[place]:
                    raise Fenced(WHAT, hint=WHAT)
            for message in transaction.messages:
                self._append(message)
            for (group, place), (consumer, offset) in transaction.positions.items():
                medium.positions[group, place] = consumer.committed[place] = offset
                consumer.reading[place] = max(consumer.reading[place], offset)

    def _append(self, message: Message) -> None:
        entries = self.medium.entries[message.topic, message.partition]
        moment = int(self.clock().timestamp() * 1000)
        entries.append(
            Entry(
                message.topic,
                message.partition,
                len(entries),
                message.key,
                message.value,
                dict(message.headers),
                max([moment, *(entry.time for entry in entries[-1:])]),
            )
        )

    def claim(self, owner: str) -> bool:
        if owner in self.owned:
            return False
        self.owned[owner] = self.medium.owners[owner] = object()
        return True

    def consumer(
        self, group: str, topics: Sequence[str], *, complete: bool = False
    ) -> MemoryConsumer:
        with self.medium.lock:
            for topic in topics:
                for partition in range(self.topic(topic).partitions):
                    place = (topic, partition)
                    first = self.medium.first[place]
                    if complete and first > 0 and (group, place) not in self.medium.positions:
                        raise Integrity(WHAT, hint=WHAT)
                    self.medium.positions.setdefault((group, place), first)
            return MemoryConsumer(self.medium, group, set(topics))

    def read(self, topic: str, partition: int, offset: int, *, max_entries: int) -> list[Entry]:
        first, end = self.bounds(topic, partition)
        if not first <= offset <= end:
            raise Integrity(WHAT, hint=WHAT)
        return self.medium.entries[topic, partition][offset : offset + max_entries]

    def latest(self, topic: str, key: str) -> Entry | None:
        if not self.topic(topic).compacted:
            raise Misconfigured(WHAT, hint=WHAT)
        same = [entry for entry in self.medium.entries[topic, 0] if entry.key == key]
        return same[-1] if same else None

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        place = self.place(topic, partition)
        return self.medium.first[place], len(self.medium.entries[place])

    def position(self, group: str, topic: str, partition: int) -> int:
        place = self.place(topic, partition)
        return self.medium.positions.get((group, place), self.medium.first[place])

    def slowest(self, topic: str, partition: int) -> tuple[str, int]:
        place, end = self.place(topic, partition), self.bounds(topic, partition)[1]
        groups = [
            (position, group)
            for (group, address), position in self.medium.positions.items()
            if address == place and position < end
        ]
        position, group = min(groups, default=(end, ""))
        return group, position

    def retain(self, topic: str, partition: int, before: int) -> None:
        if self.topic(topic).compacted:
            raise Misconfigured(WHAT, hint=WHAT)
        medium, place = self.medium, self.place(topic, partition)
        with medium.lock:
            positions = [at for (_, where), at in medium.positions.items() if where == place]
            if before > min([len(medium.entries[place]), *positions]):
                raise Rejected(WHAT, hint=WHAT)
            medium.first[place] = max(medium.first[place], before)

    def close(self) -> None:
        pass

    def topic(self, name: str) -> Topic:
        if name not in self.medium.topics:
            raise Misconfigured(WHAT, hint=WHAT)
        return self.medium.topics[name]

    def place(self, topic: str, partition: int) -> Place:
        if partition >= self.topic(topic).partitions:
            raise Misconfigured(WHAT, hint=WHAT)
        return topic, partition


class MemoryTransaction:
    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.messages: list[Message] = []
        self.positions: dict[tuple[str, Place], tuple[MemoryConsumer, int]] = {}

    def append(self, message: Message) -> None:
        self.log.place(message.topic, message.partition)
        if self.log.topic(message.topic).compacted and not message.key:
            raise Misconfigured(WHAT, hint=WHAT)
        self.messages.append(message)

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        assert isinstance(consumer, MemoryConsumer)
        if (topic, partition) not in consumer.committed:
            raise Fenced(WHAT, hint=WHAT)
        self.positions[consumer.group, (topic, partition)] = (consumer, offset)


class MemoryConsumer:
    def __init__(self, medium: Medium, group: str, topics: set[str]) -> None:
        self.medium = medium
        self.group = group
        self.topics = topics
        self.committed: dict[Place, int] = {}
        self.reading: dict[Place, int] = {}
        self.last = -1

    def poll(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        timeout: float = 0.0,
        skip: Collection[Partition] = (),
    ) -> list[Entry]:
        end = time.monotonic() + timeout
        while not (entries := self._poll(max_entries, max_bytes, skip)) and time.monotonic() < end:
            time.sleep(0.005)
        return entries

    def assigned(self) -> frozenset[Partition]:
        with self.medium.lock:
            return frozenset(place for place in self.medium.entries if place[0] in self.topics)

    def _poll(self, max_entries: int, max_bytes: int, skip: Collection[Partition]) -> list[Entry]:
        with self.medium.lock:
            places = list(self.medium.entries)
            for (group, place), position in self.medium.positions.items():
                if group == self.group and place[0] in self.topics:
                    committed = self.committed.setdefault(place, position)
                    if self.reading.setdefault(place, position) == committed:
                        self.committed[place] = self.reading[place] = position
            waiting = [
                turn
                for turn, place in enumerate(places)
                if place not in skip
                and self.reading.get(place, 1 << 60) < len(self.medium.entries[place])
            ]
            if not waiting:
                return []
            self.last = min(waiting, key=lambda turn: (turn <= self.last, turn))
            place = places[self.last]
            items: list[Entry] = []
            for entry in self.medium.entries[place][self.reading[place] :][:max_entries]:
                if items and sum(len(e.value) for e in [*items, entry]) > max_bytes:
                    break
                items.append(entry)
            self.reading[place] = items[-1].offset + 1
            return items

    def rewind(self) -> None:
        self.committed.clear()
        self.reading.clear()

    def close(self) -> None:
        self.rewind()
