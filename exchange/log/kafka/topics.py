"""Topics as they should be on the cluster: made, compared, put right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError

from exchange.errors import Misconfigured
from exchange.log import MAX_VALUE_BYTES, Topic
from exchange.log.kafka.client import PREFIX
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exchange.log.kafka.cluster import ClusterAdmin
    from exchange.settings import KafkaSettings

MESSAGE_BYTES = MAX_VALUE_BYTES + 64 * 1024
"""A largest value with its key, headers and batch."""
_COMPACTION = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.2",
    "segment.ms": str(24 * 3600 * 1000),
    "segment.bytes": str(64 * 1024 * 1024),
}
"""Old values go within a day, also where little is written: only closed segments are compacted."""
_TABLES = "records"
"""Kind of topics that are tables for programs outside: the newest record of each key stays."""
_RECORD_BYTES = 1_200_000
"""A largest record of a sealed batch, with its key."""
_READY_MS = 10_000


@dataclass(frozen=True, slots=True)
class Drift:
    """A setting of a topic on the cluster that is not what it should be."""

    topic: str
    setting: str
    expected: str
    found: str


class TopicAdmin:
    """The topics of the cluster that are ours."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def known(self, cluster: ClusterAdmin, names: Iterable[str] | None = None) -> list[Topic]:
        """List the topics that there are, all of ours or those of ``names``, by name."""
        named = None if names is None else sorted(set(names))
        if named == []:
            return []  # to a cluster no names mean all
        found = {
            row["name"]: len(row["partitions"])
            for row in _described(cluster, named)
            if names is not None or row["name"].startswith(PREFIX)
        }
        policies = self._configs(cluster, found, ["cleanup.policy"])
        return [
            Topic(name, partitions, policies[name].get("cleanup.policy") == "compact")
            for name, partitions in sorted(found.items())
        ]

    def ensure(self, cluster: ClusterAdmin, topics: Sequence[Topic]) -> bool:
        """Create the topics and partitions that are missing; True when there were any.

        Refuses to change compaction.
        """
        names = [topic.name for topic in topics]
        known = {topic.name: topic for topic in self.known(cluster, names)} if names else {}
        for topic in topics:
            if topic.name in known and known[topic.name].compacted != topic.compacted:
                raise Misconfigured(
                    Text(
                        f"主题「{topic.name}」的压缩方式与现存的不同",
                        f"topic {topic.name} exists with another compaction",
                    ),
                    hint=Text("换一个主题名称", "choose another topic name"),
                )
        missing = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": self._settings.replication,
                "configs": self.configs(topic),
            }
            for topic in topics
            if topic.name not in known
        }
        wider = {
            topic.name: topic.partitions
            for topic in topics
            if topic.name in known and known[topic.name].partitions < topic.partitions
        }
        if missing:
            try:
                cluster.create_topics(missing)
            except TopicAlreadyExistsError:  # another worker was quicker: look at what it made
                cluster.wait_for_topics(list(missing), _READY_MS)
                self.ensure(cluster, topics)
        if wider:
            cluster.create_partitions(wider)
        if missing or wider:
            cluster.wait_for_topics([*missing, *wider], _READY_MS)
        return bool(missing or wider)

    def configs(self, topic: Topic) -> dict[str, str]:
        """Return the settings that a topic should have on the cluster."""
        kind = [*topic.name.split("."), ""][1]
        retention = self._settings.retention.get(kind)  # type: ignore[call-overload]  # any kind
        common = {
            "min.insync.replicas": str(self._settings.min_insync),
            "max.message.bytes": str(MESSAGE_BYTES),
            "message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "false",
        }
        if topic.compacted:
            return common | _COMPACTION
        if kind == _TABLES:
            # Compacted by key, though the node itself does not look for the newest of a key.
            bounds = {"max.message.bytes": str(_RECORD_BYTES), "retention.ms": "-1"}
            policy = {"cleanup.policy": "compact,delete", "retention.bytes": "-1"}
            return common | _COMPACTION | bounds | policy
        return common | {
            "cleanup.policy": "delete",
            "retention.bytes": "-1",
            "retention.ms": str(int(retention.total_seconds() * 1000)) if retention else "-1",
        }

    def drift(self, cluster: ClusterAdmin, topics: Sequence[Topic]) -> list[Drift]:
        """Compare the cluster with what should be, topic by topic; more partitions are fine."""
        rows = {
            row["name"]: row["partitions"]
            for row in _described(cluster, sorted(topic.name for topic in topics))
        }
        configs = self._configs(cluster, rows, None)
        found: list[Drift] = []
        for topic in topics:
            if topic.name not in rows:
                found.append(Drift(topic.name, "topic", "exists", "missing"))
                continue
            partitions = rows[topic.name]
            if len(partitions) < topic.partitions:
                found.append(
                    Drift(topic.name, "partitions", str(topic.partitions), str(len(partitions)))
                )
            replicas = min(len(part["replica_nodes"]) for part in partitions)
            if replicas != self._settings.replication:
                found.append(
                    Drift(topic.name, "replication", str(self._settings.replication), str(replicas))
                )
            found += [
                Drift(topic.name, name, value, configs[topic.name].get(name, ""))
                for name, value in self.configs(topic).items()
                if configs[topic.name].get(name) != value
            ]
        return found

    def repair(self, cluster: ClusterAdmin, topics: Sequence[Topic]) -> set[tuple[str, str]]:
        """Put right what can be, at once or soon; returns the topics and settings altered."""
        self.ensure(cluster, topics)
        wrong: dict[str, dict[str, str]] = {}
        for one in self.drift(cluster, topics):
            if "." in one.setting:
                wrong.setdefault(one.topic, {})[one.setting] = one.expected
        if wrong:
            cluster.alter_configs(
                [
                    ConfigResource(ConfigResourceType.TOPIC, name, configs)
                    for name, configs in wrong.items()
                ]
            )
        return {(name, setting) for name, configs in wrong.items() for setting in configs}

    @staticmethod
    def _configs(
        cluster: ClusterAdmin, names: Iterable[str], keys: Sequence[str] | None
    ) -> dict[str, dict[str, str]]:
        """Ask for the settings of topics: those of ``keys``, or all."""
        wanted = dict.fromkeys(keys) if keys is not None else None
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
        if not asked:
            return {}
        answer: Mapping[str, Mapping[str, Any]] = cluster.describe_configs(
            asked, config_filter="all"
        ).get("topic", {})
        return {
            name: {key: one["value"] for key, one in rows.items()} for name, rows in answer.items()
        }


def _described(cluster: ClusterAdmin, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Ask for topics, all or some; return those that exist, refuse those that we may not see."""
    rows = cluster.describe_topics(names)
    hidden = TopicAuthorizationFailedError.errno
    if denied := [row["name"] for row in rows if row["error_code"] == hidden]:
        raise TopicAuthorizationFailedError(", ".join(denied))
    return [row for row in rows if not row["error_code"]]
