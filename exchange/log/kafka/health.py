"""How the cluster stands: its brokers, copies that are behind, and what we may do with topics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import ClusterAuthorizationFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.log import Partition, Topic
    from exchange.log.kafka.cluster import ClusterAdmin
    from exchange.settings import KafkaSettings

_MEMORY = "offsets.retention.minutes"


@dataclass(frozen=True, slots=True)
class Health:
    """What the cluster says of itself and of our topics."""

    version: str
    """Kafka's, as far as its interface tells: ``4.3``."""
    brokers: int
    behind: tuple[Partition, ...]
    """Partitions with copies that are gone or behind; they take writes."""
    stuck: tuple[Partition, ...]
    """Partitions without a leader, or with too few copies in sync to take a write."""
    rights: Mapping[str, frozenset[str]]
    """By topic, whether it exists or not, what we may do with it: ``READ``, ``WRITE``, ….

    Empty when we may not even know of it.
    """
    memory: timedelta | None
    """How long a group that stands still keeps its positions; None when we may not know."""


def health(cluster: ClusterAdmin, settings: KafkaSettings, topics: Sequence[Topic]) -> Health:
    """Ask the cluster; changes nothing."""
    brokers = cluster.describe_cluster()["brokers"]
    alive = [row["broker_id"] for row in brokers if not row.get("is_fenced", False)]
    rows = cluster.describe_topics([topic.name for topic in topics])
    behind: list[Partition] = []
    stuck: list[Partition] = []
    for row in rows:
        for part in row["partitions"]:
            partition = row["name"], part["partition_index"]
            in_sync = len(part["isr_nodes"])
            if part["leader_id"] < 0 or in_sync < settings.min_insync:
                stuck.append(partition)
            elif in_sync < len(part["replica_nodes"]):
                behind.append(partition)
    return Health(
        version=cluster.version(),
        brokers=len(alive),
        behind=tuple(sorted(behind)),
        stuck=tuple(sorted(stuck)),
        rights={row["name"]: frozenset(row["authorized_operations"] or ()) for row in rows},
        memory=_memory(cluster, str(alive[0])),
    )


def _memory(cluster: ClusterAdmin, broker: str) -> timedelta | None:
    asked = ConfigResource(ConfigResourceType.BROKER, broker, {_MEMORY: None})
    try:
        answer = cluster.describe_configs([asked], config_filter="all")
    except ClusterAuthorizationFailedError:
        return None
    return timedelta(minutes=int(answer["broker"][broker][_MEMORY]["value"]))
