"""The status of each resource: how far its readers are behind, what waits, what is halted.

Reads log and store and changes nothing, so that it may be asked beside running workers, by
``exchange status`` and by the metrics of every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exchange.cascade.delivery import SETTLED, State
from exchange.log import (
    CURSORS,
    publish_group,
    quarantine_topic,
    raw_topic,
    records_topic,
    sealed_topic,
)
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.log import Log
    from exchange.node.node import Node

READERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("seal", raw_topic),
    ("cascade", sealed_topic),
    ("store", sealed_topic),
    ("store", quarantine_topic),
    ("evidence", sealed_topic),
)
"""Which group reads which topic of a resource, besides the one that publishes its records."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind on one partition (积压).

    ``behind`` counts log entries, each of many rows; a driver that keeps marks of its own among
    them counts those too, but 0 always means that nothing waits.
    """

    group: str
    topic: str
    partition: int
    behind: int
    since: datetime | None = None
    """When the oldest entry that waits was written."""


@dataclass(frozen=True)
class ResourceStatus:
    """The status of one resource (资源状态)."""

    resource: str
    lags: tuple[Lag, ...]
    deliveries: Mapping[State, int] = field(default_factory=dict)
    quarantine: int = 0
    """Records in quarantine that wait: neither replayed, dismissed nor settled."""
    halted: Mapping[int, Text] = field(default_factory=dict)
    """Why partitions wait for a person."""

    def behind(self, group: str) -> int:
        """Count the entries that wait for a group."""
        return sum(lag.behind for lag in self.lags if lag.group == group)

    def since(self, group: str) -> datetime | None:
        """Return when the oldest entry that waits for a group was written."""
        times = [lag.since for lag in self.lags if lag.group == group and lag.since is not None]
        return min(times, default=None)

    @property
    def partitions(self) -> int:
        """How many partitions the resource has."""
        return sum(lag.group == "seal" for lag in self.lags)

    @property
    def batches(self) -> int:
        """How many batches were sealed, without those that a person has withdrawn."""
        return sum(self.deliveries.values()) - self.deliveries.get(State.WITHDRAWN, 0)

    @property
    def waiting(self) -> int:
        """How many batches wait for the province."""
        return sum(count for state, count in self.deliveries.items() if state not in SETTLED)


def readers(resource: str, topics: Collection[str]) -> Iterator[tuple[str, str]]:
    """Tell which group reads which topic; records are published when there is a topic of them."""
    for group, topic in READERS:
        yield group, topic(resource)
    if records_topic(resource) in topics:
        yield publish_group(resource), sealed_topic(resource)


class StatusReader:
    """Reads the status of every resource; what cannot have changed since is not read again."""

    def __init__(self, node: Node) -> None:
        """Read nothing yet."""
        self._node = node
        self._heads: dict[tuple[str, str, int], tuple[int, int, datetime | None]] = {}
        """By group and partition: position, end, and when the entry at the position was written."""

    def __call__(self) -> list[ResourceStatus]:
        """Return the status of every resource, by name."""
        node = self._node
        log = node.log
        partitions = {topic.name: topic.partitions for topic in log.topics()}
        glance = node.glance()
        deliveries: dict[str, dict[State, int]] = {}
        for (name, state), count in glance.deliveries().items():
            deliveries.setdefault(name, {})[State(state)] = count
        waiting = glance.waiting()
        return [
            ResourceStatus(
                resource,
                tuple(
                    self._lag(log, group, topic, partition)
                    for group, topic in readers(resource, partitions)
                    for partition in range(partitions.get(topic, 0))
                ),
                deliveries.get(resource, {}),
                waiting.get(resource, 0),
                self._halted(resource, partitions.get(raw_topic(resource), 0)),
            )
            for resource in node.topics.resources()
        ]

    def _lag(self, log: Log, group: str, topic: str, partition: int) -> Lag:
        first, end = log.bounds(topic, partition)
        position = log.position(group, topic, partition)
        if position >= end:
            return Lag(group, topic, partition, 0)
        key = (group, topic, partition)
        cached_position, upto, since = self._heads.get(key, (-1, -1, None))
        if cached_position != position or (since is None and upto != end):
            since = None
            # Below the first one there is nothing to read: its reader halts, and says why.
            for entry in log.read(topic, partition, max(position, first), max_entries=1):
                since = datetime.fromtimestamp(entry.time / 1000, UTC)
            self._heads[key] = (position, end, since)
        return Lag(group, topic, partition, 0 if since is None else end - position, since)

    def _halted(self, resource: str, partitions: int) -> dict[int, Text]:
        from exchange.pipeline.partition import PartitionState, partition_key

        keys = {number: partition_key(resource, number) for number in range(partitions)}
        states = {n: PartitionState.of(self._node.log.latest(CURSORS, keys[n])) for n in keys}
        return {n: state.halted for n, state in states.items() if state.halted is not None}
