"""The topics of a node: which it needs, which resources are in them, and what waits there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from exchange.log import (
    CURSORS,
    EVIDENCE,
    RECEIPTS,
    SEALS,
    SOURCES,
    Consumer,
    Log,
    Topic,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)

if TYPE_CHECKING:
    from exchange.settings import Settings

_SOURCE_PARTITIONS = 64
"""Shares of the sources on a cluster: more than there will be workers that pull."""
_OF_RESOURCES = (raw_topic, sealed_topic, quarantine_topic)


@dataclass(frozen=True)
class SourceAssignment:
    """Which sources are this worker's: each belongs to one partition of a topic without messages.

    The consumer group assigns every partition to one worker: that worker runs the source.
    """

    consumer: Consumer
    partitions: int
    names: tuple[str, ...]

    def sources(self) -> set[str]:
        """Return the sources that are this worker's now."""
        assigned = {partition for _, partition in self.consumer.assigned()}
        return {name for name in self.names if crc32(name.encode()) % self.partitions in assigned}

    def close(self) -> None:
        """Leave the sources to the others."""
        self.consumer.close()


def common_topics(settings: Settings) -> list[Topic]:
    """List the topics that are not of one resource."""
    shares = _SOURCE_PARTITIONS if settings.log.driver == "kafka" else 1
    return [
        *(Topic(CURSORS, compacted=True), Topic(RECEIPTS), Topic(EVIDENCE)),
        *(Topic(SEALS), Topic(SOURCES, shares)),
    ]


def required_topics(settings: Settings) -> list[Topic]:
    """List the topics that the node's work needs, with the partitions that each should have."""
    return [
        *common_topics(settings),
        *(
            Topic(topic(resource), settings.log.partitions_of(resource))
            for resource in sorted({source.resource for source in settings.sources.values()})
            for topic in _OF_RESOURCES
        ),
    ]


@dataclass(frozen=True)
class Topics:
    """What stands in the topics of a node; ``catalog`` names the resources that there are."""

    settings: Settings
    log: Log
    catalog: Collection[str]

    def resources(self) -> list[str]:
        """List the resources that are fed by a source or have anything in the log."""
        fed = {source.resource for source in self.settings.sources.values()}
        return sorted((self._logged() | fed) & set(self.catalog))

    def dropped(self) -> list[str]:
        """List resources that the catalog has no more, though the log holds work for them."""
        return [
            name
            for name in sorted(self._logged() - set(self.catalog))
            if self._backlog("seal", raw_topic(name)) or self.backlog(name)
        ]

    def backlog(self, resource: str) -> int:
        """Count the messages of a resource that wait for the province."""
        return self._backlog("cascade", sealed_topic(resource))

    def source_assignment(self) -> SourceAssignment:
        """Join the workers that share the sources out among them."""
        (topic,) = self.log.topics([SOURCES])
        return SourceAssignment(
            self.log.consumer("pull", [SOURCES]), topic.partitions, tuple(self.settings.sources)
        )

    def _backlog(self, group: str, name: str) -> int:
        return sum(
            self.log.bounds(name, partition)[1] - self.log.position(group, name, partition)
            for topic in self.log.topics([name])
            for partition in range(topic.partitions)
        )

    def _logged(self) -> set[str]:
        heads = tuple(topic("") for topic in _OF_RESOURCES)
        return {
            topic.name.removeprefix(head)
            for topic in self.log.topics()
            for head in heads
            if topic.name.startswith(head)
        }
