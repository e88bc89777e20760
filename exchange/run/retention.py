"""What of a resource's topics may be removed, and what holds the rest back.

Raw, sealed and quarantine messages go, oldest first, and only those that nobody needs again:

1. They are older than the operator asks for.
2. Every consumer group has read them. The groups of our stages count even before they first read.
3. Raw and sealed: nothing of the resource waits to be sealed. Raw: no open pull goes on behind
   them, and nothing that is sealed waits for the store.
4. Sealed: each batch has a receipt that verified, or was withdrawn. A refused batch may be put
   back, so it stays.
5. Quarantine: each record was replayed, dismissed or settled; an entry of the evidence log is
   not cut in two.
6. A waiting record keeps what came since it did, raw and sealed, in every partition: a replay
   looks there for newer records of its key.

Receipts, states and the evidence log are never removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from exchange.errors import Rejected
from exchange.log import Entry, quarantine_topic, raw_topic, sealed_topic
from exchange.pipeline.evidence import LEAVES_GROUP, log_identity
from exchange.pipeline.messages import NotesEntry, SealedEntry, put_back_key, put_back_offset
from exchange.pipeline.removal import append_entries, digest_of, leaf_ends, removal_entries
from exchange.pipeline.withdrawal import Withdrawals, is_withdrawn, withdrawn_of
from exchange.run.status import readers
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node

TopicKind = Literal["raw", "sealed", "quarantine"]
KINDS: Final[Mapping[TopicKind, Callable[[str], str]]] = {
    "raw": raw_topic,
    "sealed": sealed_topic,
    "quarantine": quarantine_topic,
}
_PAGE = 16
"""Messages read at once: each may have a megabyte."""
_LINE = 8
"""Partitions in one line of the audit trail, whose text has an end."""
_MAX_WAITING = 100_000
"""Quarantine messages with waiting records that are looked at; with more, nothing is removed."""
_ONE_ENTRY = Text("与更晚的消息同属一条存证", "younger ones share its entry of the evidence log")
_YOUNG = Text("其余消息尚未到期", "the rest is younger")
_OPEN = Text("数据源 {0} 的拉取尚未结束", "the pull of source {0} is not done")
_BEHIND = Text("消费组「{0}」尚未处理", "group {0} has not read it")
_NO_RECEIPT = Text("批次 {0} 还没有回执", "batch {0} has no receipt")
_UNDECIDED = Text("隔离区 {0} 仍有待处理的记录", "records of {0} wait in quarantine")
_WAITING = Text("隔离区仍有此后到来的待处理记录", "a record that came then waits in quarantine")
_PUT_BACK = Text("已退回重发的批次尚未了结", "a batch that was put back is under way")
_MANY = Text("隔离区待处理的记录过多", "too many records wait in quarantine")


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes of one partition: the offsets from ``first`` up to ``before``, without it."""

    topic: str
    partition: int
    first: int
    before: int
    end: int
    """Next offset to be written."""
    obstacle: Text | None
    """What holds the rest back; None when there is no rest."""

    @property
    def count(self) -> int:
        """Count the offsets that go: on Kafka a few are marks of transactions."""
        return self.before - self.first

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "first": self.first,
            "before": self.before,
            "end": self.end,
            "held_by": None if self.obstacle is None else self.obstacle._asdict(),
        }


def kinds_of(names: Sequence[str]) -> tuple[TopicKind, ...]:
    """Read the kinds of topics from a command line, all when none is named; raises Rejected."""
    kinds = tuple(kind for kind in KINDS if kind in names)
    if foreign := sorted(set(names) - set(kinds)):
        raise Rejected(
            Text(
                f"没有这类主题：{foreign[0][:60]}", f"there is no kind of topic {foreign[0][:60]!r}"
            ),
            hint=Text("可选 raw、sealed、quarantine", "one of raw, sealed, quarantine"),
        )
    return kinds or tuple(KINDS)


def plan_retention(
    node: Node, resource: str, age: timedelta, kinds: Sequence[TopicKind] = tuple(KINDS)
) -> list[Removal]:
    """Plan what is removed of a resource's topics; nothing is removed yet.

    The store must be whole: it is caught up with the log first, as each run does.
    """
    from exchange.pipeline.rebuild import catch_up

    catch_up(node.context, node.store, resource)
    return list(_Plan(node, resource, age).removals(kinds))


def remove(node: Node, resource: str, removals: Iterable[Removal], *, by: str) -> list[Removal]:
    """Remove what was planned, audited first; return what was removed.

    The evidence log gets an entry for what goes: digest, count and records of each pull. Raises
    Rejected when a group went back meanwhile. Safe to be repeated after a kill.
    """
    log, identity = node.log, log_identity(node.context)
    planned = [removal for removal in removals if removal.count]
    for start in range(0, len(planned), _LINE):
        part = planned[start : start + _LINE]
        entries = [
            entry
            for r in part
            for entry in removal_entries(log, identity, (r.topic, r.partition), (r.first, r.before))
        ]
        detail = {
            "removed": [f"{r.topic}/{r.partition}: {r.first}-{r.before - 1}" for r in part],
            "entries": len(entries),
            "digest": digest_of(entries),
        }
        text = json.dumps(detail, ensure_ascii=False)
        node.store.audit.append(by, "log.retain", resource, text)
        append_entries(log, entries)
        for removal in part:
            log.retain(removal.topic, removal.partition, removal.before)
    return planned


@dataclass
class _Bound:
    """The lowest offset that has to stay so far, and why."""

    offset: int
    obstacle: Text | None = None

    def lower(self, offset: int, obstacle: Text, *names: str) -> None:
        """Lower it, where something holds back more."""
        if offset < self.offset:
            self.offset = offset
            self.obstacle = Text(obstacle.zh.format(*names), obstacle.en.format(*names))


@dataclass
class _Plan:
    """The plan for one resource."""

    node: Node
    resource: str
    age: timedelta
    oldest: tuple[int, Text] | None = field(init=False)
    """Milliseconds when the oldest record that waits came; 0 when nobody knows."""

    behind: tuple[str, ...] = field(init=False)
    """Groups for which something waits that may be compared with what came before."""
    partitions: Mapping[str, int] = field(init=False)
    """By topic."""
    withdrawn: Sequence[Withdrawals] = field(init=False)
    """By partition, batches that a person has withdrawn: others stand for them."""

    def __post_init__(self) -> None:
        """Look at what concerns all partitions."""
        self.partitions = {topic.name: topic.partitions for topic in self.node.log.topics()}
        count = self.partitions.get(sealed_topic(self.resource), 0)
        self.withdrawn = [withdrawn_of(self.node.log, self.resource, n) for n in range(count)]
        self.oldest = self._oldest_waiting()
        pairs = (("seal", raw_topic(self.resource)), ("store", sealed_topic(self.resource)))
        self.behind = tuple(group for group, topic in pairs if self._waits(group, topic))

    def _waits(self, group: str, topic: str) -> bool:
        log = self.node.log
        return any(
            log.position(group, topic, partition) < log.bounds(topic, partition)[1]
            for partition in range(self.partitions.get(topic, 0))
        )

    def removals(self, kinds: Sequence[TopicKind]) -> Iterator[Removal]:
        """Plan each partition of these topics that has anything."""
        for kind in kinds:
            topic = KINDS[kind](self.resource)
            for partition in range(self.partitions.get(topic, 0)):
                first, end = self.node.log.bounds(topic, partition)
                bound = self._bound(kind, topic, partition)
                before = max(first, bound.offset)
                yield Removal(topic, partition, first, before, end, bound.obstacle)

    def _bound(self, kind: TopicKind, topic: str, partition: int) -> _Bound:
        log = self.node.log
        first, end = log.bounds(topic, partition)
        bound = _Bound(end)
        leaves = (LEAVES_GROUP, quarantine_topic(self.resource))
        moment = int((self.node.clock() - self.age).timestamp() * 1000)
        bound.lower(self._offset_at(topic, partition, moment), _YOUNG)
        for group, name in (*readers(self.resource, self.partitions), leaves):
            if name == topic:
                bound.lower(log.position(group, topic, partition), _BEHIND, group)
        group, position = log.slowest(topic, partition)
        bound.lower(position, _BEHIND, group)
        if kind != "quarantine" and self.oldest is not None:
            came, obstacle = self.oldest
            bound.lower(self._offset_at(topic, partition, came), obstacle)
        if kind != "quarantine":
            for group in self.behind:
                bound.lower(first, _BEHIND, group)
        if kind == "raw":
            self._bound_by_pulls(bound, partition)
        if kind == "sealed":
            key = put_back_key(self.resource, partition)
            put_back = put_back_offset(self.node.context.latest(key))
            bound.lower(end if put_back is None else put_back, _PUT_BACK)
        if kind != "raw" and first < bound.offset:
            self._walk(bound, topic, partition, first)
        if kind == "quarantine" and first < bound.offset < end:
            self._bound_by_leaves(bound, topic, partition)
        return bound

    def _bound_by_pulls(self, bound: _Bound, partition: int) -> None:
        """Keep an open pull from its begin on: its keys are read again after a restart."""
        for name, source in self.node.settings.sources.items():
            if source.resource != self.resource:
                continue
            state = self.node.context.pull_state(name)
            if state is not None and not state.done and partition < len(state.since):
                bound.lower(state.since[partition], _OPEN, name)

    def _bound_by_leaves(self, bound: _Bound, topic: str, partition: int) -> None:
        """Keep what shares an entry of the evidence log with a message that stays."""
        ends = leaf_ends(self.node.log, topic, partition)
        whole = max((n for n in ends if n <= bound.offset), default=0)
        bound.lower(max(whole, self.node.log.bounds(topic, partition)[0]), _ONE_ENTRY)

    def _walk(self, bound: _Bound, topic: str, partition: int, offset: int) -> None:
        """Stop at the first message that is not done with."""
        while offset < bound.offset:
            page = self.node.log.read(topic, partition, offset, max_entries=_PAGE)
            for entry in page:
                if entry.offset < bound.offset:
                    self._judge(bound, entry)
            offset = page[-1].offset + 1 if page else bound.offset

    def _judge(self, bound: _Bound, entry: Entry) -> None:
        store = self.node.store
        if entry.topic == sealed_topic(self.resource):
            sealed = SealedEntry.of(entry)
            gone = is_withdrawn(self.withdrawn[entry.partition], entry.offset)
            if sealed and not gone and store.receipts.get(self.resource, sealed.batch_no) is None:
                bound.lower(entry.offset, _NO_RECEIPT, sealed.batch_no)
        elif NotesEntry.of(entry) is None:
            row = store.quarantine.get(entry.topic, entry.partition, entry.offset)
            if row is None or row.waiting:
                place = f"{self.resource}/{entry.partition}/{entry.offset}"
                bound.lower(entry.offset, _UNDECIDED, place)

    def _oldest_waiting(self) -> tuple[int, Text] | None:
        """Find when the oldest record that waits came into its raw topic."""
        from exchange.pipeline.refused import waiting
        from exchange.pipeline.versions import offset_of
        from exchange.validate.source_frame import VERSION

        node, topic = self.node, raw_topic(self.resource)
        rows = node.store.quarantine.find(resource=self.resource, waiting=True, limit=_MAX_WAITING)
        if len(rows) == _MAX_WAITING:
            return 0, _MANY
        versions: dict[int, int] = {}
        for message in waiting(node.context, node.store, rows):
            if message.frame.is_empty():
                continue
            version = message.frame[VERSION].fill_null(0).min()
            assert isinstance(version, int)  # noqa: S101 - a message that waits has records
            partition = message.partition
            versions[partition] = min(version, versions.get(partition, version))
        times = []
        for partition, version in versions.items():
            first, end = node.log.bounds(topic, partition)
            offset = offset_of(version)
            if not first <= offset < end:
                return 0, _WAITING
            times += [
                entry.time for entry in node.log.read(topic, partition, offset, max_entries=1)
            ]
        return (min(times), _WAITING) if times else None

    def _offset_at(self, topic: str, partition: int, moment: int) -> int:
        """Return the offset of the first message that is not older than a moment."""
        low, high = self.node.log.bounds(topic, partition)
        while low < high:
            middle = (low + high) // 2
            page = self.node.log.read(topic, partition, middle, max_entries=1)
            if page and page[0].time < moment:
                low = page[0].offset + 1
            else:
                high = middle
        return low
