"""A consumer: reads the partitions its member holds, from the group's committed positions on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kafka import errors

from exchange.errors import Integrity, Rejected
from exchange.log import GAP_HINT, Entry, Fenced, gap
from exchange.log.kafka.cluster import END, FIRST
from exchange.log.kafka.kafka_errors import STALE_MEMBER, map_errors
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from exchange.log import Partition
    from exchange.log.kafka.cluster import ClusterAdmin
    from exchange.log.kafka.ends import Ends
    from exchange.log.kafka.group import Hold, Member

SMALL_FETCH, LARGE_FETCH = 1_200_000, 8_000_000
"""Bytes asked for at once: at least a largest message, at most what may wait in memory."""
LOOK_SECONDS = 0.1
"""How often a waiting poll asks for what others wrote; it wakes at once for own writes."""


@dataclass(slots=True)
class _Place:
    """Where a consumer stands in a partition it holds."""

    hold: Hold
    moves: int
    """The hold's, as this consumer knows it."""
    committed: int
    read: int
    """Next offset to hand out."""
    fetched: int
    """Next offset to fetch; in between lie ``waiting`` entries and gaps."""
    waiting: deque[Entry] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return self.read == self.committed


class KafkaConsumer:
    """A :class:`exchange.log.Consumer`; used by one thread at a time."""

    def __init__(
        self,
        member: Member,
        cluster: ClusterAdmin,
        ends: Ends,
        topics: Collection[str],
        *,
        complete: bool,
        monotonic: Callable[[], float],
        wait: Callable[[float], None],
        closed: Callable[[KafkaConsumer], None],
    ) -> None:
        """Read ``topics``; ``wait`` sleeps for some seconds or until there may be news."""
        self.member = member
        self._cluster = cluster
        self._ends = ends
        self._topics = frozenset(topics)
        self._complete = complete
        self._monotonic = monotonic
        self._wait = wait
        self._closed = closed
        self._places: dict[Partition, _Place] = {}
        self._stale: set[Partition] = set()
        """Partitions that changed hands since an entry was handed out that is not committed."""
        self._last: Partition = ("", -1)

    def poll(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        timeout: float = 0.0,
        skip: Collection[Partition] = (),
    ) -> list[Entry]:
        """Return the next entries of one partition; ``[]`` after ``timeout`` seconds."""
        deadline = self._monotonic() + timeout
        while True:
            with map_errors(Text("读取", "polling")):
                self.follow()
                if entries := self._next(max_entries, max_bytes, skip):
                    return entries
            left = deadline - self._monotonic()
            if left <= 0:
                return []
            self._wait(min(left, LOOK_SECONDS))

    def assigned(self) -> frozenset[Partition]:
        """Return the partitions that this member holds now."""
        return frozenset(self.member.holds(self._topics))

    def rewind(self) -> None:
        """Return to the committed positions, which are asked for anew."""
        self._places.clear()
        self._stale.clear()

    def close(self) -> None:
        """Leave the group when this was its last consumer here; the positions stay."""
        self._places.clear()
        self._closed(self)

    def follow(self) -> None:
        """Take up what the group gave to this member, and drop what it took away."""
        holds = self.member.holds(self._topics)
        for partition, place in list(self._places.items()):
            hold = holds.get(partition)
            if hold is not place.hold or (hold.moves != place.moves and place.idle):
                del self._places[partition]
                if not place.idle:
                    self._stale.add(partition)
        new = {
            partition: hold for partition, hold in holds.items() if partition not in self._places
        }
        if new:
            self._places |= self._start(new)

    def check(self, partition: Partition, offset: int) -> None:
        """Refuse a position that was not read; raises Fenced without a hold on the partition."""
        place = self._places.get(partition)
        if place is None:
            raise fenced(Text("自上次回退后尚未读取", "nothing was polled since the last rewind"))
        if offset < 0:
            raise Rejected(
                Text(f"消费位置 {offset} 小于 0", f"position {offset} is below 0"),
                hint=Text("提交已读条目之后的偏移量", "commit the offset after an entry read"),
            )
        if partition in self._stale or offset > place.read:  # another may have moved the position
            raise fenced(Text("该条目在分区易手之前读取", "it was read before the partition moved"))

    def moving(self, positions: Mapping[Partition, int]) -> Hold:
        """Take note that positions are about to move; Fenced when what was read is stale.

        Returns a hold: in its member's name the positions move.
        """
        places = {partition: self._places.get(partition) for partition in positions}
        steps = {
            partition: (place.hold, place.moves) for partition, place in places.items() if place
        }
        if len(steps) < len(places) or not self.member.moving(steps):
            raise fenced(Text("分区已不属于本成员", "the partition is not this member's any more"))
        for partition in positions:
            self._places[partition].moves += 1
        return next(iter(steps.values()))[0]

    def moved(self, positions: Mapping[Partition, int]) -> None:
        """Take note of an own commit."""
        for partition, offset in positions.items():
            if place := self._places.get(partition):
                place.committed = offset

    def _start(self, new: Mapping[Partition, Hold]) -> dict[Partition, _Place]:
        """Stand where the group does; a group new to a partition commits its first kept offset.

        Raises Integrity for a gap: entries dropped before the group, or a topic made anew.
        """
        committed = self._cluster.committed(self.member.group, new)
        first = self._cluster.offsets(new, FIRST)
        end = self._cluster.offsets(new, END, committed=False)
        for partition in new:
            position = committed.get(partition, 0 if self._complete else first[partition])
            if position < first[partition]:
                raise gap(self.member.group, partition, position, first[partition])
            if position > end[partition]:
                raise _anew(self.member.group, partition, position, end[partition])
        fresh = {partition: first[partition] for partition in new if partition not in committed}
        if fresh:
            member = next(iter(new.values())).member
            try:
                self._cluster.commit(member, fresh)
            except STALE_MEMBER:
                return {}
        positions = committed | fresh
        return {
            partition: _Place(
                hold, hold.moves, positions[partition], positions[partition], positions[partition]
            )
            for partition, hold in new.items()
        }

    def _next(self, max_entries: int, max_bytes: int, skip: Collection[Partition]) -> list[Entry]:
        """Serve the partitions in turn, beginning after the one served last."""
        partitions = sorted(
            (partition for partition in self._places if partition not in skip),
            key=lambda partition: (partition <= self._last, partition),
        )
        ends: Mapping[Partition, int] | None = None
        for partition in partitions:
            place = self._places[partition]
            if not place.waiting:
                ends = ends if ends is not None else self._ends.of(partitions)
                self._fetch(partition, place, ends[partition], max_bytes)
            if place.waiting:
                self._last = partition
                return _take(place, max_entries, max_bytes)
        return []

    def _fetch(self, partition: Partition, place: _Place, end: int, max_bytes: int) -> None:
        """Fetch until there is an entry or the end is reached."""
        size = min(max(max_bytes, SMALL_FETCH), LARGE_FETCH)
        while not place.waiting and place.fetched < end:
            try:
                found = self._cluster.fetch(partition, place.fetched, size)
            except errors.OffsetOutOfRangeError as error:
                first = self._cluster.offsets([partition], FIRST)[partition]
                raise gap(self.member.group, partition, place.fetched, first) from error
            if found.next == place.fetched:
                return  # the end moved back: another broker leads, and will catch up
            place.waiting.extend(found.entries)
            place.fetched = found.next


def _take(place: _Place, max_entries: int, max_bytes: int) -> list[Entry]:
    """Hand out what fits, at least one entry."""
    entries = [place.waiting.popleft()]
    size = len(entries[0].value)
    while place.waiting and len(entries) < max_entries:
        size += len(place.waiting[0].value)
        if size > max_bytes:
            break
        entries.append(place.waiting.popleft())
    place.read = entries[-1].offset + 1
    return entries


def _anew(group: str, partition: Partition, position: int, end: int) -> Integrity:
    topic, number = partition
    return Integrity(
        Text(
            f"{topic}/{number} 止于 {end}，「{group}」的位置却是 {position}：主题已被删除并重建",
            f"{topic}/{number} ends at {end}, the position of {group} is {position}:"
            " the topic was deleted and made anew",
        ),
        hint=GAP_HINT,
    )


def fenced(why: Text) -> Fenced:
    """Tell that a transaction is void."""
    return Fenced(
        Text(f"事务被作废:{why.zh}", f"the transaction was fenced: {why.en}"),
        hint=Text("丢弃已读内容,重新读取", "drop what was read and poll again"),
    )
